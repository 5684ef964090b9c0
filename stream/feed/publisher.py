"""The publishing end of the feed: one thread that owns the sockets and files which messages go to.

Messages are numbered and stamped as they are handed over, wait in one bounded queue, and go to every sink in order.
"""

import contextlib
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import zmq

from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Session, Status, check_finite, topic_of
from stream.feed.security import FeedError
from stream.feed.sinks import CLOSE_S, Sink

QUEUE_SIZE = 1024  # messages between the line and the feed thread
BATCH = 64  # messages dealt with before looking at the rest again

T = TypeVar("T")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def rfc3339(when: datetime) -> str:
    """An aware time as UTC in RFC 3339 with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Numbering:
    """Gives messages their `seq`, from 0 for each topic, and their `stamp`; a new session starts its stream anew."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._next: dict[str, dict[str, int]] = {}  # stream, topic
        self._sessions: dict[str, str] = {}

    def __call__(self, message: Message) -> Message:
        """The message with its number and the time of now.

        Raises:
            ValueError: If it holds a number that is not finite; it then takes no number.
        """
        check_finite(message)
        if isinstance(message, Session) and self._sessions.get(message.stream) != message.session:
            self._sessions[message.stream] = message.session
            self._next.pop(message.stream, None)
        counts = self._next.setdefault(message.stream, {})
        topic = topic_of(message)
        seq = counts.get(topic, 0)
        counts[topic] = seq + 1
        return msgspec.structs.replace(message, seq=seq, stamp=rfc3339(self._now()))


class Feed:
    """Takes messages from any thread and hands them to its sinks on its own.

    Args:
        sinks: Where messages go; none is allowed.
        delivery: What a full queue does. `wait` blocks the line and loses nothing (replays); `drop_oldest` never
            blocks, and drops the oldest estimate or status (live).
        queue_size: Messages that may wait.
        now: The wall clock for `stamp`.

    Attributes:
        n_dropped: Messages that a full queue dropped.
        failures: One line for each sink that failed and was left out, `--out` on a full disk for example.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        delivery: Delivery = Delivery.DROP_OLDEST,
        queue_size: int = QUEUE_SIZE,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        if queue_size <= 0:
            raise ValueError(f"queue_size must be positive, got {queue_size}")
        self.n_dropped = 0
        self.failures: tuple[str, ...] = ()
        self._sinks = list(sinks)
        self._delivery = Delivery(delivery)
        self._queue_size = queue_size
        self._number = Numbering(now)
        self._queue: deque[Message] = deque()
        self._changed = threading.Condition()  # guards the queue, the numbering and the flags
        self._closing = True  # until entered
        self._fault: BaseException | None = None
        self._last: Message | None = None  # delivered
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Self:
        """Open every sink and start the thread.

        Raises:
            FeedError: If a sink cannot be opened; those opened before are closed again.
        """
        with contextlib.ExitStack() as opened:
            for sink in self._sinks:
                sink.open()
                opened.callback(sink.close)
            opened.pop_all()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._closing = False
        self._thread.start()  # a full fence: from here on the sockets are the thread's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, message: Message) -> None:
        """Number, stamp and queue a message, whose own `seq` and `stamp` are replaced. Any thread may call.

        Raises:
            FeedError: If the feed is closed.
            RuntimeError: If the feed thread failed.
            ValueError: If the message holds a number that is not finite.
        """
        with self._changed:
            while self._delivery is Delivery.WAIT and len(self._queue) >= self._queue_size and not self._closing:
                self._changed.wait()
            if self._fault is not None:
                raise RuntimeError("the feed thread failed") from self._fault
            if self._closing:
                raise FeedError("the feed is not open; publish inside `with`")
            if len(self._queue) >= self._queue_size:
                self._drop_one()
            self._append(message)

    def close(self) -> None:
        """Deliver what is queued, then close the sinks.

        With `wait` this takes as long as the files take; with `drop_oldest` no longer than two seconds.

        Raises:
            RuntimeError: If the feed thread failed.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is None:
            return
        self._rouse()
        self._thread.join(None if self._delivery is Delivery.WAIT else 2 * CLOSE_S)
        if self._fault is not None:
            raise RuntimeError("the feed thread failed") from self._fault

    def _append(self, message: Message) -> None:
        self._queue.append(self._number(message))
        if len(self._queue) == 1:
            self._rouse()

    def _drop_one(self) -> None:
        # sessions and events are few, and no subscriber can do without them
        index = next((i for i, m in enumerate(self._queue) if isinstance(m, Estimate | Status)), 0)
        del self._queue[index]
        self.n_dropped += 1

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # full: it is awake anyway; closed: it is gone
            self._wake.send(b"\0")

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._fault = error
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            for sink in tuple(self._sinks):
                self._guard(sink, sink.close)
            self._wake.close()
            self._woken.close()

    def _serve(self) -> None:
        due: float | None = None
        while True:
            with self._changed:
                waiting, closing = bool(self._queue), self._closing
            if closing and not waiting:
                return
            self._wait(time.monotonic() if waiting else due)
            for message in self._take():
                self._last = message
                for sink in tuple(self._sinks):
                    self._guard(sink, partial(sink.send, message))
            dues = [self._guard(sink, sink.attend) for sink in tuple(self._sinks)]
            due = min((d for d in dues if d is not None), default=None)

    def _wait(self, due: float | None) -> None:
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        for sink in self._sinks:
            if (readable := sink.readable()) is not None:
                poller.register(readable, zmq.POLLIN)
        poller.poll(None if due is None else max(0, math.ceil((due - time.monotonic()) * 1000)))
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _take(self) -> list[Message]:
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            self._changed.notify_all()
        return taken

    def _guard(self, sink: Sink, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except FeedError as error:
            self._leave_out(sink, str(error))
            return None

    def _leave_out(self, sink: Sink, text: str) -> None:
        self.failures += (text,)
        self._sinks.remove(sink)
        with contextlib.suppress(FeedError):
            sink.close()
        if self._last is not None:
            told = Event(stream=self._last.stream, seq=0, t=self._last.t, stamp="", kind="output_failed", text=text)
            with self._changed:  # past the bound, once a sink: the feed thread cannot wait for itself
                self._append(told)
