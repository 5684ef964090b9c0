"""Several publishers' streams through one address: each message passes on as it came, with its own number and stamp.

A plain ZeroMQ proxy knows nothing of topics, so somebody who joins late at it is told nothing. The hub reads what it
passes on, keeps the newest of each topic as a publisher does, and repeats it in the same way to those who join.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from stream.feed.late_joiners import MAX_STREAMS, Frames
from stream.feed.messages import Event, Message
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber

BATCH = 64  # messages of one source before the others have their turn
TAKEN_S = 10.0  # without a word (a publisher says one each second) until another source may have the stream's name
FORGET_S = 600.0  # without a word until those who join are no longer told of a stream


class Hub:
    """Passes on what its sources publish; used with `with`, by one thread.

    A source may start later and restart. Two sources that publish a stream of the same name would be one stream with
    two counts: the one that came first has it, the other is left out until the first has ended or is silent.

    Args:
        sources: Subscribers to everything, one a publisher; the hub closes them.
        sink: Where to publish; the hub opens and closes it.
        told: Takes one line for a person: a stream that came, ended, or was left out.
        now: Monotonic seconds.

    Attributes:
        n_passed: Messages passed on, repeats not counted.
        n_left_out: Messages left out because another source has the name of their stream.
    """

    def __init__(
        self,
        sources: Sequence[Subscriber],
        sink: ZmqSink,
        *,
        told: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.n_passed = 0
        self.n_left_out = 0
        self._sources, self._sink = tuple(sources), sink
        self._told, self._now = told, now
        self._streams: OrderedDict[str, _Stream] = OrderedDict()  # longest silent first
        self._due: float | None = None  # when the sink wants to be attended to
        self._life = ExitStack()

    def __enter__(self) -> Self:
        """Bind.

        Raises:
            FeedError: If the address is in use, or not one of this machine's.
        """
        for source in self._sources:
            self._life.callback(source.close)
        try:
            self._sink.open()
        except BaseException:
            self._life.close()
            raise
        self._life.callback(self._sink.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.close()

    @property
    def address(self) -> str:
        """Once open, the real endpoint."""
        return self._sink.address

    def serve(self, timeout_s: float) -> None:
        """Wait for something to arrive, no longer than told, and deal with what has come."""
        self._wait(timeout_s)
        for source in self._sources:
            for _ in range(BATCH):
                if (frames := source.receive_frames()) is None:
                    break
                if (message := source.arrivals.decode(frames)) is not None:
                    self._pass_on(source, message, (frames[0], frames[1]))
        self._due = self._sink.attend()
        self._forget_silent()

    def _wait(self, timeout_s: float) -> None:
        poller = zmq.Poller()
        for socket in (self._sink.readable(), *(source.readable() for source in self._sources)):
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        if self._due is not None:
            timeout_s = min(timeout_s, max(0.0, self._due - time.monotonic()))
        poller.poll(math.ceil(timeout_s * 1000))

    def _pass_on(self, source: Subscriber, message: Message, frames: Frames) -> None:
        stream, is_new = self._streams.get(message.stream), source.arrivals.is_new(message)
        if stream is None or stream.source is not source:
            if not is_new:  # of a stream that was forgotten, or is another's by now
                return
            if stream is not None and stream.is_taken(self._now()):
                self._leave_out(stream, source, message)
                return
            stream = self._streams[message.stream] = _Stream(source)
            self._told(f"stream {message.stream} from {source.address}")
            if len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)
        # Repeats pass on as well: some of a session may have come before the session itself was repeated to us, which
        # then begins what late joiners are told anew.
        self._sink.forward(message, frames)
        if is_new:
            self._note(message, stream)

    def _note(self, message: Message, stream: "_Stream") -> None:
        self.n_passed += 1
        self._streams.move_to_end(message.stream)
        stream.heard_s = self._now()
        stream.ended = isinstance(message, Event) and message.kind == "end"
        if stream.ended:
            self._told(f"stream {message.stream} from {stream.source.address} has ended")

    def _leave_out(self, stream: "_Stream", source: Subscriber, message: Message) -> None:
        self.n_left_out += 1
        if stream.rival is not source:
            stream.rival = source  # told once
            self._told(
                f"stream {message.stream} from {source.address} is left out: {stream.source.address} publishes one of "
                "that name; give one of them another --name"
            )

    def _forget_silent(self) -> None:
        while self._streams:
            name, stream = next(iter(self._streams.items()))
            if self._now() - stream.heard_s < FORGET_S:
                return
            del self._streams[name]
            self._sink.forget(name)


@dataclass
class _Stream:
    source: Subscriber
    heard_s: float = 0.0
    ended: bool = False
    rival: Subscriber | None = None  # the last one that was left out

    def is_taken(self, now_s: float) -> bool:
        return not self.ended and now_s - self.heard_s < TAKEN_S
