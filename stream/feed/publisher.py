"""The publishing end of the feed: one thread that owns the sockets and files which messages go to.

Messages are numbered and stamped as they are handed over, wait in one bounded queue, and go to every sink in order.

Late joiners: ZeroMQ can send only to all subscribers of a topic, so when one joins, the newest `session`, `status`,
`estimate` of each person, and `event` where that is an `end`, are sent again to all, unchanged, with the `seq` and
`stamp` that they had. A repeat is therefore always the newest message of its topic: same `seq` and same `stamp` as the
one before means repeat; a lower or equal `seq` with another stamp means that the publisher was restarted.
"""

import contextlib
import errno
import io
import math
import os
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import msgspec
import zmq

from stream.feed.messages import CODECS, Estimate, Event, Message, Session, Status, encode, topic_of
from stream.feed.security import FeedError as FeedError
from stream.feed.security import check_address
from stream.rings import Delivery

DEFAULT_ADDRESS = "tcp://127.0.0.1:5563"
QUEUE_SIZE = 1024  # messages between the line and the feed thread
SUBSCRIBER_QUEUE = 1000  # messages that ZeroMQ holds for one slow subscriber before it loses some
CLOSE_S = 1.0  # longest wait for sockets to deliver what they hold
COALESCE_S = 0.005  # subscribers that join within this time share one repeat
FLUSH_S = 1.0
FLUSH_BYTES = 1 << 16
MAX_STREAMS, MAX_PERSONS = 64, 64  # whose newest messages wait for late joiners
GONE_S = 10.0  # media seconds after which a person without estimates is no longer told to late joiners
BATCH = 64  # messages or subscriptions dealt with before looking at the rest again
KEEP_ALIVE: dict[int, int] = {  # a peer that vanished without a word is noticed, and its queue freed
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.HEARTBEAT_IVL: 2_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
}
_IN_USE = "cannot publish on {}: the address is in use; stop the publisher there, or take another with --address"

Frames = tuple[bytes, bytes]  # topic, payload
T = TypeVar("T")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def rfc3339(when: datetime) -> str:
    """An aware time as UTC in RFC 3339 with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Sink(Protocol):
    """Where stamped messages go. `open` is called by the thread that enters the feed, all else by the feed thread.

    Each call may raise `FeedError`: the sink is then closed and left out, and the others go on.
    """

    def open(self) -> None:
        """Claim the socket or file."""

    def send(self, message: Message) -> None:
        """Take one message, in order, without waiting for a reader."""

    def attend(self) -> float | None:
        """Do what is due, and say on the monotonic clock when to be called next; None where nothing waits."""

    def readable(self) -> "zmq.Socket[bytes] | None":
        """A socket to be attended to as soon as something arrives on it."""

    def close(self) -> None:
        """Deliver what is held, within a bounded time, and let go."""


class Numbering:
    """Gives messages their `seq`, from 0 for each topic, and their `stamp`; a new session starts its stream anew."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._next: dict[str, dict[str, int]] = {}  # stream, topic
        self._sessions: dict[str, str] = {}

    def __call__(self, message: Message) -> Message:
        """The message with its number and the time of now."""
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


class LateJoiners:
    """The newest messages, encoded, that somebody who subscribes now must be told. Bounded."""

    def __init__(self) -> None:
        self._streams: OrderedDict[str, _Newest] = OrderedDict()

    def keep(self, message: Message, frames: Frames) -> None:
        """Take note of a message that was sent as `frames`."""
        newest = self._streams.get(message.stream)
        if newest is None or isinstance(message, Session):
            newest = self._streams[message.stream] = _Newest()
        self._streams.move_to_end(message.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        match message:
            case Session():
                newest.session = frames
            case Status():
                newest.status = frames
            case Estimate():
                newest.keep_person(message, frames)
            case Event():
                newest.end = frames if message.kind == "end" else None

    def frames(self, prefixes: Iterable[bytes]) -> list[Frames]:
        """What subscribers to these prefixes must be told, each once, sessions before what they explain."""
        wanted = tuple(prefixes)
        kept = [frames for newest in self._streams.values() for frames in newest.all()]
        return [frames for frames in kept if frames[0].startswith(wanted)]


@dataclass
class _Newest:
    session: Frames | None = None
    status: Frames | None = None
    end: Frames | None = None
    persons: OrderedDict[int, tuple[float, Frames]] = field(default_factory=OrderedDict)

    def keep_person(self, estimate: Estimate, frames: Frames) -> None:
        self.persons[estimate.person] = (estimate.t, frames)
        self.persons.move_to_end(estimate.person)
        for person in [p for p, (t, _) in self.persons.items() if t < estimate.t - GONE_S]:
            del self.persons[person]
        if len(self.persons) > MAX_PERSONS:
            self.persons.popitem(last=False)

    def all(self) -> list[Frames]:
        estimates = [frames for _, frames in self.persons.values()]
        return [frames for frames in (self.session, self.status, *estimates, self.end) if frames is not None]


class ZmqSink:
    """Publishes on an XPUB socket, and repeats the newest messages to those who join late.

    A subscriber that does not read loses what exceeds its queue. One whose process stands still for ten seconds is cut
    off and its queue freed; it connects again by itself, and is a late joiner then.

    Args:
        address: Where to listen; `tcp://127.0.0.1:*` takes any free port.
        codec: `json` or `msgpack`.
        insecure: Whether any address but loopback is allowed.
        subscriber_queue: Messages held for a slow subscriber; what is more is lost, to that one alone.
        context: A ZeroMQ context to share, for `inproc://`; otherwise the sink has its own.

    Attributes:
        address: Once open, the real endpoint.

    Raises:
        FeedError: If the address is malformed or not allowed.
        ValueError: If the codec is unknown.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        codec: str = "json",
        insecure: bool = False,
        subscriber_queue: int = SUBSCRIBER_QUEUE,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        if codec not in CODECS:
            raise ValueError(f"expected a codec of {', '.join(CODECS)}, got {codec!r}")
        self.address = check_address(address, insecure=insecure)
        self._codec = codec
        self._subscriber_queue = subscriber_queue
        self._shared = context
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._newest = LateJoiners()
        self._joined: set[bytes] = set()  # prefixes subscribed to since the last repeat
        self._repeat_due: float | None = None

    def open(self) -> None:
        """Bind.

        Raises:
            FeedError: If the address is in use, or not one of this machine's.
        """
        _refuse_taken_ipc(self.address)
        self._context = self._shared or zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        for option, value in self._options().items():
            self._socket.set(option, value)
        try:
            self._socket.bind(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise _bind_failure(self.address, error) from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _options(self) -> dict[int, int]:
        return {
            zmq.XPUB_VERBOSE: 1,  # every subscription arrives, also to a prefix that others have
            zmq.SNDHWM: self._subscriber_queue,
            zmq.LINGER: round(CLOSE_S * 1000),
            zmq.MAXMSGSIZE: 1024,  # subscribers send nothing longer than a topic
            zmq.IPV6: int("[" in self.address),
            **KEEP_ALIVE,
        }

    def send(self, message: Message) -> None:
        """Send to all subscribers of the topic; never waits."""
        assert self._socket is not None
        frames = (topic_of(message).encode(), encode(message, self._codec))
        self._newest.keep(message, frames)
        self._socket.send_multipart(frames, zmq.NOBLOCK)

    def attend(self) -> float | None:
        """Read subscriptions, and repeat to those who joined."""
        for prefix in self._subscriptions():
            self._joined.add(prefix)
            if self._repeat_due is None:
                self._repeat_due = time.monotonic() + COALESCE_S
        if self._repeat_due is not None and time.monotonic() >= self._repeat_due:
            assert self._socket is not None
            for frames in self._newest.frames(self._joined):
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            self._joined.clear()
            self._repeat_due = None
        return self._repeat_due

    def _subscriptions(self) -> list[bytes]:
        assert self._socket is not None
        prefixes = []
        with contextlib.suppress(zmq.Again):
            for _ in range(BATCH):  # who subscribes without end does not hold up the feed
                frame = self._socket.recv(zmq.NOBLOCK)
                if frame[:1] == b"\1":
                    prefixes.append(frame[1:])
        return prefixes

    def readable(self) -> "zmq.Socket[bytes] | None":
        """The socket: subscriptions arrive on it."""
        return self._socket

    def close(self) -> None:
        """Deliver what ZeroMQ holds, for a second at most."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._context is not None and self._shared is None:
            self._context.term()  # waits for LINGER
        self._context = None


class JsonlSink:
    """Writes one JSON object a line, each second at the latest, and only whole lines.

    Args:
        path: The file; one that exists is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._lines = bytearray()
        self._n_whole = 0  # bytes in the file that are whole lines
        self._flush_due: float | None = None

    def open(self) -> None:
        """Create the file.

        Raises:
            FeedError: If that is not possible.
        """
        try:
            self._file = io.FileIO(self._path, "w")
        except OSError as error:
            raise self._failure(error) from error

    def send(self, message: Message) -> None:
        """Take a line, and write once many wait."""
        self._lines += encode(message) + b"\n"
        if self._flush_due is None:
            self._flush_due = time.monotonic() + FLUSH_S
        if len(self._lines) >= FLUSH_BYTES:
            self._flush()

    def attend(self) -> float | None:
        """Write what has waited for a second."""
        if self._flush_due is not None and time.monotonic() >= self._flush_due:
            self._flush()
        return self._flush_due

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives from a file."""
        return None

    def close(self) -> None:
        """Write what waits and close."""
        if self._file is not None:
            try:
                self._flush()
            finally:
                self._file.close()
                self._file = None

    def _flush(self) -> None:
        assert self._file is not None
        lines, self._lines, self._flush_due = memoryview(bytes(self._lines)), bytearray(), None
        n_written = 0
        try:
            while n_written < len(lines):  # a disk that fills up takes a part
                n_written += self._file.write(lines[n_written:]) or 0
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe cannot be cut
                self._file.truncate(self._n_whole)
            raise self._failure(error) from error
        self._n_whole += n_written

    def _failure(self, error: OSError) -> FeedError:
        if isinstance(error, FileNotFoundError):
            return FeedError(f"cannot write {self._path}: there is no folder {self._path.parent}; create it first")
        reason = (error.strerror or str(error)).lower()
        return FeedError(f"cannot write {self._path}: {reason}; name another file with --out")


def _refuse_taken_ipc(address: str) -> None:
    # ZeroMQ would unlink the path and bind anew, and so cut off a publisher that lives
    path = address.removeprefix("ipc://")
    if path == address or not hasattr(socket, "AF_UNIX"):
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect("\0" + path[1:] if path.startswith("@") else path)
        raise FeedError(_IN_USE.format(address))


def _bind_failure(address: str, error: zmq.ZMQError) -> FeedError:
    if error.errno == errno.EADDRINUSE:
        return FeedError(_IN_USE.format(address))
    reason = os.strerror(error.errno or 0).lower()
    return FeedError(f"cannot publish on {address}: {reason}; take another address with --address")
