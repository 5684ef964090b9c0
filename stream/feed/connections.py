"""Connections that ZeroMQ holds, by their handles: what they are, what they have sent, and how they are shut down."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import zmq

Ends = tuple[object, object]  # the names of both ends, which tell one connection from any other
_TCP_INFO_RECEIVED = 128  # bytes into Linux's tcp_info, where the count of received bytes lies


def ends_of(handle: int) -> Ends | None:
    """The names of both ends, or None where the handle is no connection (any more)."""
    try:
        with _borrowed(handle) as connection:
            return _ends(connection)
    except OSError:
        return None


def handle_of(frame: zmq.Frame) -> int | None:
    """The handle of the connection that a frame came on; None where it came from this process."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None


def n_received(handle: int) -> int | None:
    """Bytes that have arrived on a TCP connection, read or not; None where the system does not say."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        with _borrowed(handle) as connection:
            state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_RECEIVED + 8)
    except OSError:
        return None
    if len(state) < _TCP_INFO_RECEIVED + 8:  # before Linux 4.1
        return None
    return int(struct.unpack_from("=Q", state, _TCP_INFO_RECEIVED)[0])


def shut_down(handle: int, expected: Ends) -> bool:
    """Shut a connection down, as if the line had broken; whether it was still there."""
    # ZeroMQ may have closed it just now, and the handle be another's: it is looked at again right before
    with contextlib.suppress(OSError), _borrowed(handle) as connection:
        if _ends(connection) == expected:
            # a reset, not a farewell: the peer is told at once though it has yet to be let send the rest
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def peer_of(ends: Ends) -> str:
    """The peer's address, without its port; empty on a socket that is a file."""
    peer = ends[1]
    return str(peer[0]) if isinstance(peer, tuple) else ""


class Allowance:
    """How much of something is allowed now: so much at once, and then so much a second.

    Args:
        at_once: After a pause.
        a_second: In the long run.
        now: Monotonic seconds.
    """

    def __init__(self, at_once: float, a_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._a_second, self._now = at_once, a_second, now
        self._left, self._at_s = at_once, now()

    def spend(self, amount: float = 1.0) -> bool:
        """Whether so much more is allowed now, which then counts."""
        now_s = self._now()
        self._left = min(self._at_once, self._left + (now_s - self._at_s) * self._a_second)
        self._at_s = now_s
        if self._left < amount:
            return False
        self._left -= amount
        return True


@contextlib.contextmanager
def _borrowed(handle: int) -> Iterator[socket.socket]:
    connection = socket.socket(fileno=handle)
    try:
        yield connection
    finally:
        connection.detach()  # it stays ZeroMQ's to close


def _ends(connection: socket.socket) -> Ends:
    return connection.getsockname(), connection.getpeername()
