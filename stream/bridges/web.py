"""A small web server that strangers may reach: bounded in connections, threads, memory and time, whatever they send.

One request a connection. Who has not yet asked when others wait outside makes room for them, the longest there first,
so that a crowd of connections that say nothing locks nobody out.
"""

import contextlib
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

ASK_S = 5.0  # until a request must have come, however slowly its bytes do
QUIET_S = 10.0  # for a peer to take the next chunk of an answer
MAX_REQUEST = 16_384  # bytes of a request: its line and its headers
CHUNK = 65_536  # bytes of an answer that are written at once
SEND_BUFFER = 131_072  # bytes that the system holds for a peer that does not read; on Linux twice as many
POLL_S = 0.1  # how soon it notices that it is to stop, and that a request is late
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what was not read yet is forgotten at once


@dataclass
class _Peer:
    due_s: float | None  # when it must have asked; None once it has
    cut: bool = False


class WebServer(ThreadingHTTPServer):
    """Listens once made; `serve_forever` serves, each connection on a thread of its own.

    Args:
        host: Where to listen.
        port: Likewise; 0 takes any free one.
        handler: Answers requests.
        max_connections: At once. Threads are at most twice as many, while those that were cut off end.
        ask_s: Until a request must have come.
        quiet_s: For a peer to take the next chunk of its answer.
        now_s: Seconds of a monotonic clock.

    Raises:
        OSError: If the port is in use, no port, or not allowed, or the host is not of this machine.
    """

    daemon_threads = False
    request_queue_size = 128  # the five of the standard library make a burst of clients wait for seconds

    def __init__(
        self,
        host: str,
        port: int,
        handler: "type[WebHandler]",
        *,
        max_connections: int,
        ask_s: float = ASK_S,
        quiet_s: float = QUIET_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quiet_s = quiet_s
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._max_connections = max_connections
        self._ask_s = ask_s
        self._now_s = now_s
        self._peers: dict[socket.socket, _Peer] = {}  # oldest first
        self._lock = threading.Lock()
        try:
            super().__init__((host, port), handler)
        except (OverflowError, UnicodeError, TypeError) as error:  # a port beyond 65535; a name that is none
            raise OSError(str(error)) from error

    @property
    def n_connections(self) -> int:
        """Those that have a thread now, of which some may be ending."""
        return len(self._peers)

    def server_bind(self) -> None:
        """Bind, without asking a name server what this machine is called, as `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> Any:
        """The next connection; where there are no handles left for it, a pause, so as not to ask without end."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(POLL_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a connection in, or shut it."""
        if not self._admit(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be had
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection; its thread calls."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """Cut off those whose request is late; `serve_forever` calls several times a second."""
        now_s = self._now_s()
        with self._lock:
            for connection, peer in self._peers.items():
                if peer.due_s is not None and now_s >= peer.due_s:
                    _cut(connection, peer)

    def asked(self, connection: socket.socket) -> None:
        """Note that a connection's request has come; its thread calls."""
        with self._lock:
            if connection in self._peers:
                self._peers[connection].due_s = None

    def cut_off(self) -> None:
        """End every connection, after `shutdown`: a browser keeps some in reserve."""
        with self._lock:
            for connection, peer in self._peers.items():
                _cut(connection, peer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of faults of ours; a peer that went away, or was cut off, is none."""
        if isinstance(sys.exc_info()[1], OSError):
            _forget_unread(request)
        else:
            super().handle_error(request, client_address)

    def _admit(self, connection: socket.socket) -> bool:
        with self._lock:
            if len(self._peers) >= 2 * self._max_connections:
                return False
            if sum(not peer.cut for peer in self._peers.values()) >= self._max_connections:
                asking = ((c, p) for c, p in self._peers.items() if p.due_s is not None and not p.cut)
                if (oldest := next(asking, None)) is None:
                    return False
                _cut(*oldest)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._peers[connection] = _Peer(due_s=self._now_s() + self._ask_s)
            return True

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._peers.pop(connection, None)


def _cut(connection: socket.socket, peer: _Peer) -> None:
    # whoever reads from it or writes to it on its thread is told so by the socket, and closes it
    peer.cut = True
    _forget_unread(connection)
    with contextlib.suppress(OSError):  # it has just ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _forget_unread(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class WebHandler(BaseHTTPRequestHandler):
    """Answers one request; a subclass has `get`, and says with `answer`, or `head` and `write`, what there is.

    Attributes:
        policy: What a browser may load for what is answered.
    """

    server: WebServer
    default_request_version = "HTTP/1.0"  # 0.9 would have no headers, and with them no policy
    policy = "default-src 'none'"
    rfile: "_Request"  # type: ignore[assignment]

    def setup(self) -> None:
        """Bound what is read, in bytes, and what is written, in time."""
        self.request.settimeout(self.server.quiet_s)
        super().setup()
        self.rfile = _Request(self.rfile)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer to GET; to anything else the base class says that there is none."""
        self.get()

    def get(self) -> None:
        """Answer `self.path`."""
        raise NotImplementedError

    def parse_request(self) -> bool:
        """Read the request; whether there is something to answer."""
        understood = super().parse_request()
        self.server.asked(self.connection)
        if understood and self.rfile.n_left <= 0:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return understood

    def answer(self, code: int, kind: str, body: bytes) -> None:
        """Answer with a body, whole."""
        self.head(code, kind, len(body))
        self.write(body)

    def head(self, code: int, kind: str, length: int | None = None) -> None:
        """Begin an answer; without a length it goes on until the connection ends."""
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.policy)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()

    def write(self, body: bytes) -> None:
        """Write a part of the body.

        Raises:
            OSError: If the peer is gone, or does not take it in time.
        """
        for start in range(0, len(body), CHUNK):
            self.wfile.write(body[start : start + CHUNK])

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request of ours, without repeating any of it."""
        self.answer(code, "text/plain", f"{HTTPStatus(code).phrase.lower()}\n".encode())

    def version_string(self) -> str:
        """What serves, without the versions of anything."""
        return "emocast"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Nothing: standard error is not theirs, and requests may carry a token."""


class _Request:
    """The lines of a request, and no more of them than are allowed."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self.n_left = MAX_REQUEST

    def readline(self, size: int) -> bytes:
        line = self._lines.readline(max(0, min(size, self.n_left)))
        self.n_left -= len(line)
        return line

    def close(self) -> None:
        self._lines.close()
