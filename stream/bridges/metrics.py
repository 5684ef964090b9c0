"""Metrics for Prometheus on loopback, by the standard library.

The format is a few lines of text and the server one GET, so that a dependency would save little; a test reads what is
served with the parser of prometheus_client.
"""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zmq

from stream.bridges.exposition import Metrics
from stream.feed.messages import Message
from stream.feed.security import FeedError

HOST = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TIMEOUT_S = 5.0  # of a client that says nothing
MAX_CLIENTS = 16  # at once; more are hung up on


class MetricsSink:
    """Serves the metrics of a feed at `http://127.0.0.1:PORT/metrics`.

    Args:
        port: Where to listen; 0 takes any free port.
        host: A loopback address.

    Attributes:
        port: Once open, the real port.

    Raises:
        FeedError: If the host is not 127.0.0.1 or ::1, or the port no port.
    """

    def __init__(self, port: int, *, host: str = HOST) -> None:
        if host not in (HOST, "::1"):
            raise FeedError(f"expected 127.0.0.1 or ::1 for metrics, which have no keys, got {host!r}")
        if not 0 <= port <= 65_535:
            raise FeedError(f"expected a port of 0 to 65535 for metrics, got {port}")
        self.port = port
        self._host = host
        self._metrics = Metrics()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            FeedError: If the port is in use or not allowed.
        """
        try:
            self._server = _Server(self._host, self.port, self._metrics)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FeedError(
                f"cannot serve metrics on port {self.port}: {reason}; take another with --metrics"
            ) from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Count a message."""
        self._metrics.take(message)

    def attend(self) -> float | None:
        """None: the server has a thread of its own."""
        return None

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives on the feed thread."""
        return None

    def close(self) -> None:
        """Stop listening; who is being answered is left to its own thread."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2 * MAX_CLIENTS  # the five of the standard library make a burst of clients wait for seconds
    block_on_close = False  # a client that says nothing does not hold up the end

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.metrics = metrics
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that hangs up or sends garbage is its own affair."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "emocast", ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            # a page of the web whose name was pointed at this machine
            self.send_error(403, "expected the host 127.0.0.1, localhost or [::1]")
        elif self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "expected /metrics")
        else:
            self._answer(self.server.metrics.text().encode(errors="replace"))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: standard error is the session's."""
