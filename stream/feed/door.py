"""The door of a socket that listens: who is let in, how many at once, and how much each may ask for.

ZeroMQ bounds neither the connections of a socket nor the subscriptions of a peer; worse, it goes on reading as long as
one peer goes on sending, and the feed waits. So each connection is watched by its handle, and one that goes too far is
shut down like a line that broke: ZeroMQ then frees what it held.
"""

import logging
import socket
import struct
import threading
import time
from dataclasses import dataclass

import zmq

from stream.feed.connections import Allowance, Ends, ends_of, handle_of, n_received, peer_of, shut_down
from stream.feed.keys import ServerKeys
from stream.feed.security import FeedError
from stream.feed.zap import DOMAIN, ZAP_ADDRESS, Zap

MAX_CONNECTIONS = 512  # or half of the files that this process may open, where that is less
MAX_SUBSCRIBED = 4096  # bytes of subscriptions, with 16 for each, that one connection may send in its life
# Bytes on the wire: a handshake and all subscriptions of a life, then a subscriber's heartbeats, should it send such.
# Parts of a message that never ends are not seen here, and cost at this pace 2 kB a second and connection.
AT_ONCE, A_SECOND = 8_192, 64
# libzmq keeps a node for each byte of each topic, and looks at every one of them whenever a subscriber leaves: so what
# all subscribe to together is bounded, and nobody is let in while the socket's thread is busy with those before.
TOGETHER = 131_072  # bytes that all connections may have sent beyond their handshakes; who sent most is then cut off
HANDSHAKE, CURVE_HANDSHAKE = 192, 1_024  # bytes
AT_A_TIME = 8  # connections let in until the socket's thread has had its turn
TURN_S = 0.25  # or for so long, since it may have nothing to do
LOOK_S = 0.005  # between looks at what the connections have sent, but at least
LOOK_SHARE = 20  # times as long as a look takes: 200 connections take about a millisecond
OUT_S = 1.0  # until somebody at the address of a peer that was cut off may connect again
MAX_OUT = 1024  # addresses that are remembered for that time
HANDSHAKE_MS = 3_000  # until a peer that does not speak ZeroMQ is dropped
TELL_S = 1.0  # at most one line of the log in this time
_HANDSHAKE_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_log = logging.getLogger("emocast")

Socket = zmq.Socket[bytes]


class Door:
    """Guards one socket, on a thread of its own. Made before the socket is bound, closed before it is.

    A refused client is logged, with its address and the first characters of its key where it has one; so is a
    connection that is cut off.

    Args:
        watched: The socket.
        context: Its context; with keys, no other such door may be in it.
        keys: Encrypts, and lets only authorised clients in; None lets everybody in.
        max_connections: Those beyond are cut off as they come.
        at_once: Bytes that one connection may send at once.
        a_second: Bytes that it may send each second, in the long run.
        at_a_time: Connections let in between two calls of `attended`; None lets in all that come. With a number, too,
            no other door may be in the context.
        turn_s: So many more are let in after this time without such a call.

    Attributes:
        n_refused: Connections that never came to be one: an unknown key, none, or what is not ZeroMQ.
        n_cut: Connections that were cut off because there were too many, or because they sent too much.

    Raises:
        FeedError: If another such door is in the context.
    """

    def __init__(
        self,
        watched: Socket,
        context: "zmq.Context[Socket]",
        *,
        keys: ServerKeys | None = None,
        max_connections: int | None = None,
        at_once: int = AT_ONCE,
        a_second: int = A_SECOND,
        at_a_time: int | None = None,
        turn_s: float = TURN_S,
    ) -> None:
        self.n_refused = 0
        self.n_cut = 0
        self._watched = watched
        self._max_connections = max_connections or _connections_allowed()
        self._at_once, self._a_second = at_once, a_second
        self._handshake = HANDSHAKE if keys is None else CURVE_HANDSHAKE
        self._connections: dict[int, _Connection] = {}  # by handle; the door's thread
        self._subscribed: dict[int, tuple[Ends, int]] = {}  # by handle: bytes; the socket's thread
        self._out: dict[str, float] = {}  # address to when it may connect again
        self._gone: dict[int, Ends] = {}  # by handle: the last one that was cut off
        self._told_s, self._n_untold = -TELL_S, 0
        self._cutting = threading.Lock()  # both threads cut off
        self._zap = Zap(keys)
        asks = keys is not None or at_a_time is not None
        self._questions = _zap_socket(context) if asks else None
        self._at_a_time, self._n_left = at_a_time, at_a_time or 0
        self._turn_s, self._let_in_s = turn_s, 0.0
        watched.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if keys is not None:
            watched.set(zmq.CURVE_SERVER, 1)
            watched.set(zmq.CURVE_SECRETKEY, keys.secret)
        if asks:
            watched.set(zmq.ZAP_DOMAIN, DOMAIN)
        self._events: Socket = watched.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _HANDSHAKE_FAILED
        )
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="feed-door", daemon=True)
        self._thread.start()

    def subscribed(self, frame: zmq.Frame) -> bool:
        """Whether a frame that came from a peer is within what that peer may send; one that goes too far is cut off.

        The thread that reads the socket calls.
        """
        handle = handle_of(frame)
        ends = None if handle is None else ends_of(handle)
        if handle is None or ends is None:  # in this process, or gone already
            return True
        known, before = self._subscribed.get(handle, (ends, 0))
        if known != ends:  # the handle is another connection's now
            before = 0
        n_bytes = before + len(frame) + 16
        self._subscribed[handle] = (ends, n_bytes)
        if before <= MAX_SUBSCRIBED < n_bytes:
            self._cut(handle, ends, "it subscribes without end")
        return n_bytes <= MAX_SUBSCRIBED

    def attended(self) -> None:
        """The thread that reads the socket has done what there was to do: more may be let in."""
        self._n_left = self._at_a_time or 0

    def close(self) -> None:
        """Stop watching; twice does no harm."""
        if self._stop.fileno() < 0:
            return
        self._watched.disable_monitor()  # first: events that nobody reads would hold ZeroMQ's thread
        self._stop.close()
        self._thread.join()

    def _run(self) -> None:
        poller = zmq.Poller()
        for watched in (self._events, self._stopped):
            poller.register(watched, zmq.POLLIN)
        look_s = time.monotonic()
        try:
            while self._stopped.fileno() not in (ready := dict(poller.poll(self._wait_ms(look_s)))):
                if self._events in ready:
                    self._note()
                if self._questions in ready:
                    self._answer()
                if self._questions is not None:
                    poller.register(self._questions, zmq.POLLIN if self._lets_in() else 0)
                if (now_s := time.monotonic()) >= look_s:
                    self._look()
                    look_s = time.monotonic() + max(LOOK_S, LOOK_SHARE * (time.monotonic() - now_s))
        finally:
            self._events.close(linger=0)
            if self._questions is not None:
                self._questions.close(linger=0)
            self._stopped.close()

    def _wait_ms(self, look_s: float) -> int | None:
        return max(0, round((look_s - time.monotonic()) * 1000)) if self._connections else None

    def _lets_in(self) -> bool:
        if self._at_a_time is not None and self._n_left <= 0 and time.monotonic() - self._let_in_s >= self._turn_s:
            self.attended()
        return self._at_a_time is None or self._n_left > 0

    def _answer(self) -> None:
        assert self._questions is not None
        question = self._questions.recv_multipart()
        self._n_left, self._let_in_s = self._n_left - 1, time.monotonic()
        if self._is_out(question[3].decode()):
            self._questions.send_multipart(self._zap.put_off(question))
            return
        reply, refused = self._zap.answer(question)
        self._questions.send_multipart(reply)
        if refused is not None:
            self.n_refused += 1
            self._tell(f"refused {refused}")

    def _is_out(self, address: str) -> bool:
        return time.monotonic() < self._out.get(address, 0.0)

    def _note(self) -> None:
        event, value = struct.unpack("=Hi", self._events.recv_multipart()[0])
        if event == zmq.EVENT_ACCEPTED:
            self._accept(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._connections.pop(value, None)
        elif event & _HANDSHAKE_FAILED:
            self.n_refused += 1
            self._tell("refused a connection: it has no key of this publisher, or is no subscriber")

    def _accept(self, handle: int) -> None:
        ends = ends_of(handle)
        if ends is None:
            return
        self._gone.pop(handle, None)
        self._connections[handle] = _Connection(ends, Allowance(self._at_once, self._a_second))
        if len(self._connections) > self._max_connections:
            self._cut(handle, ends, f"there are {self._max_connections} connections already")
        elif self._is_out(peer_of(ends)):
            shut_down(handle, ends)

    def _look(self) -> None:
        for handle, known in self._connections.items():
            n_bytes = n_received(handle)
            if n_bytes is None or n_bytes == known.n_bytes:
                continue
            n_more, known.n_bytes = n_bytes - known.n_bytes, n_bytes
            if not known.allowance.spend(n_more):
                self._cut(handle, known.ends, "it sends without end")
        if sum(max(0, known.n_bytes - self._handshake) for known in self._connections.values()) > TOGETHER:
            handle, most = max(self._connections.items(), key=lambda item: item[1].n_bytes)
            self._cut(handle, most.ends, "all together subscribe to too much, and it to most")

    def _cut(self, handle: int, ends: Ends, why: str) -> None:
        with self._cutting:
            if self._gone.get(handle) == ends or not shut_down(handle, ends):
                return
            self._gone[handle] = ends
            self.n_cut += 1
            if len(self._out) >= MAX_OUT:
                self._out.clear()
            self._out[peer_of(ends)] = time.monotonic() + OUT_S
        self._tell(f"cut off {peer_of(ends) or 'a connection on this machine'}: {why}")

    def _tell(self, line: str) -> None:
        with self._cutting:
            if time.monotonic() - self._told_s < TELL_S:  # who knocks without end does not fill the log
                self._n_untold += 1
                return
            before = f" ({self._n_untold} more since the last such line)" if self._n_untold else ""
            self._told_s, self._n_untold = time.monotonic(), 0
        _log.warning("%s%s", line, before)


@dataclass
class _Connection:
    ends: Ends
    allowance: Allowance
    n_bytes: int = 0  # that it has sent in all, as far as is known


def _zap_socket(context: "zmq.Context[Socket]") -> Socket:
    questions = context.socket(zmq.REP)
    try:
        questions.bind(ZAP_ADDRESS)
    except zmq.ZMQError as error:
        questions.close(linger=0)
        raise FeedError("another socket with keys is in this ZeroMQ context; give each one of its own") from error
    return questions


def _connections_allowed() -> int:
    try:
        import resource
    except ImportError:  # Windows, which has no such bound
        return MAX_CONNECTIONS
    n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if n_files == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, n_files // 2))
