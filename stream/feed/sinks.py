"""Where messages go: the ZeroMQ socket and files, each behind the same few calls of the feed thread.

Late joiners: ZeroMQ can send only to all subscribers of a topic, so when one joins, the newest `session`, `status`,
`estimate` of each person, and `event` where that is an `end`, are sent again to all, unchanged, with the `seq` and
`stamp` that they had. A repeat is therefore always the newest message of its topic: same `seq` and same `stamp` as the
one before means repeat; a lower or equal `seq` with another stamp means that the publisher was restarted.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import zmq

from stream.feed.door import AT_A_TIME, Door
from stream.feed.keys import ServerKeys
from stream.feed.late_joiners import Frames, LateJoiners
from stream.feed.messages import CODECS, Message, encode, topic_of
from stream.feed.security import DEFAULT_ADDRESS, FeedError, check_address
from stream.line_file import LineFile

SUBSCRIBER_QUEUE = 1000  # messages that ZeroMQ holds for one slow subscriber before it loses some
CLOSE_S = 1.0  # longest wait for sockets to deliver what they hold
COALESCE_S = 0.005  # subscribers that join within this time share one repeat
REPEAT_S = 0.05  # between repeats: who subscribes over and over does not fill the others' queues
MAX_JOINED = 64  # prefixes that a repeat is sorted by; where more were subscribed to, it is of everything
FLUSH_S = 1.0
BATCH = 64  # subscriptions dealt with before looking at the rest again
# A machine that vanished without a word is noticed, and so is a process that stands still, once it takes no more, and
# its queue freed. These are TCP's own means: with ZeroMQ's heartbeats libzmq 4.3.5 ends the whole program ("Assertion
# failed: !_io_error"), ours or a slow subscriber's, where a peer dies while a queue is full and a heartbeat is due.
TCP_KEEP_ALIVE: dict[int, int] = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 3,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 10_000,
}
_IN_USE = "cannot publish on {}: the address is in use; stop the publisher there, or take another with --address"


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


class ZmqSink:
    """Publishes on an XPUB socket, and repeats the newest messages to those who join late.

    A subscriber that does not read loses what exceeds its queue. One whose process stands still for ten seconds is cut
    off and its queue freed; it connects again by itself, and is a late joiner then.

    Args:
        address: Where to listen; `tcp://127.0.0.1:*` takes any free port.
        codec: `json` or `msgpack`.
        insecure: Whether any address but loopback is allowed without keys.
        keys: Encrypts, and lets only clients with an authorised key in.
        subscriber_queue: Messages held for a slow subscriber; what is more is lost, to that one alone.
        context: A ZeroMQ context to share, for `inproc://`; otherwise the sink has its own.

    Attributes:
        address: Once open, the real endpoint.
        door: Once open, counts who was refused and who was cut off.

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
        keys: ServerKeys | None = None,
        subscriber_queue: int = SUBSCRIBER_QUEUE,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        if codec not in CODECS:
            raise ValueError(f"expected a codec of {', '.join(CODECS)}, got {codec!r}")
        self.address = check_address(address, insecure=insecure, encrypted=keys is not None)
        self.door: Door | None = None
        self._keys = keys
        self._codec = codec
        self._subscriber_queue = subscriber_queue
        self._shared = context
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._newest = LateJoiners()
        self._joined: set[bytes] = set()  # prefixes subscribed to since the last repeat
        self._repeat_due: float | None = None
        self._repeated_s = -REPEAT_S

    def open(self) -> None:
        """Bind.

        Raises:
            FeedError: If the address is in use, or not one of this machine's, or the context has keys already.
        """
        _refuse_taken_ipc(self.address)
        self._context = self._shared or zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        for option, value in self._options().items():
            self._socket.set(option, value)
        try:
            # One door alone can stand in a context that others share.
            at_a_time = AT_A_TIME if self._shared is None else None
            self.door = Door(self._socket, self._context, keys=self._keys, at_a_time=at_a_time)
            self._socket.bind(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise _bind_failure(self.address, error) from error
        except BaseException:
            self.close()
            raise
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _options(self) -> dict[int, int]:
        return {
            zmq.XPUB_VERBOSE: 1,  # every subscription arrives, also to a prefix that others have
            zmq.SNDHWM: self._subscriber_queue,
            # Where a peer hangs up while its queue is full and a PING waits in it, libzmq 4.3.5 aborts the process (its
            # issues 4364 and 4841): so no queue is ever full. What may lie in one is bounded by the door, and by how
            # little the kernel takes in.
            zmq.RCVHWM: 0,
            zmq.RCVBUF: 2048,
            zmq.LINGER: round(CLOSE_S * 1000),
            zmq.MAXMSGSIZE: 1024,  # subscribers send nothing longer than a topic
            zmq.IPV6: int("[" in self.address),
            **TCP_KEEP_ALIVE,
        }

    def send(self, message: Message) -> None:
        """Send to all subscribers of the topic; never waits."""
        self.forward(message, (topic_of(message).encode(), encode(message, self._codec)))

    def forward(self, message: Message, frames: Frames) -> None:
        """Send a message as somebody else has encoded it, its topic and its payload unchanged."""
        assert self._socket is not None
        self._newest.keep(message, frames)
        self._socket.send_multipart(frames, zmq.NOBLOCK)

    def forget(self, stream: str) -> None:
        """Tell those who join from now on nothing of this stream."""
        self._newest.forget(stream)

    def attend(self) -> float | None:
        """Read subscriptions, and repeat to those who joined."""
        for prefix in self._subscriptions():
            self._joined.add(prefix)
            if self._repeat_due is None:
                self._repeat_due = max(time.monotonic() + COALESCE_S, self._repeated_s + REPEAT_S)
        if len(self._joined) > MAX_JOINED:
            self._joined = {b""}
        if self._repeat_due is not None and time.monotonic() >= self._repeat_due:
            assert self._socket is not None
            for frames in self._newest.frames(self._joined):
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            self._joined.clear()
            self._repeat_due, self._repeated_s = None, time.monotonic()
        assert self.door is not None
        self.door.attended()
        return self._repeat_due

    def _subscriptions(self) -> list[bytes]:
        assert self._socket is not None
        assert self.door is not None
        prefixes = []
        with contextlib.suppress(zmq.Again):
            for _ in range(BATCH):  # who subscribes without end does not hold up the feed
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                if self.door.subscribed(frame) and frame.bytes[:1] == b"\1":
                    prefixes.append(frame.bytes[1:])
        return prefixes

    def readable(self) -> "zmq.Socket[bytes] | None":
        """The socket: subscriptions arrive on it."""
        return self._socket

    def close(self) -> None:
        """Deliver what ZeroMQ holds, for a second at most."""
        if self.door is not None:
            self.door.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._context is not None and self._shared is None:
            self._context.term()  # waits for LINGER
        self._context = None


class JsonlSink:
    """Writes one JSON object a line, each second at the latest, and only whole lines, also where the disk fills up.

    A process that is killed in the middle of a write can leave the last line torn; every line before it is whole.

    Args:
        path: The file; one that exists is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: LineFile | None = None

    def open(self) -> None:
        """Create the file.

        Raises:
            FeedError: If that is not possible.
        """
        with self._failing_in_one_line():
            self._file = LineFile(self._path, wait_s=FLUSH_S, replace=True)

    def send(self, message: Message) -> None:
        """Take a line, and write once many wait."""
        assert self._file is not None
        with self._failing_in_one_line():
            self._file.write(encode(message))

    def attend(self) -> float | None:
        """Write what has waited for a second."""
        assert self._file is not None
        with self._failing_in_one_line():
            self._file.attend()
        return self._file.due_s

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives from a file."""
        return None

    def close(self) -> None:
        """Write what waits and close."""
        if self._file is not None:
            with self._failing_in_one_line():
                self._file.close()

    @contextlib.contextmanager
    def _failing_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            folder = self._path.parent
            raise FeedError(f"cannot write {self._path}: there is no folder {folder}; create it first") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FeedError(f"cannot write {self._path}: {reason}; name another file with --out") from error


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
