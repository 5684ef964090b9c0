"""Metrics for Prometheus on loopback, by the standard library.

The format is a few lines of text and the server one GET, so that a dependency would save little; a test reads what is
served with the parser of prometheus_client.
"""

import threading

import zmq

from stream.bridges.exposition import Metrics
from stream.bridges.web import POLL_S, WebHandler, WebServer
from stream.feed.messages import Message
from stream.feed.security import FeedError

HOST = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4"
MAX_CLIENTS = 16  # at once


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
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="metrics", daemon=True)
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
        """Stop listening, and hang up on everybody."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.cut_off()
            self._server.server_close()  # waits for the connections' threads
            self._thread.join()
            self._server = self._thread = None


class _Server(WebServer):
    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.metrics = metrics
        super().__init__(host, port, _Handler, max_connections=MAX_CLIENTS)


class _Handler(WebHandler):
    server: _Server

    def get(self) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            # a page of the web whose name was pointed at this machine
            self.answer(403, "text/plain", b"expected the host 127.0.0.1, localhost or [::1]\n")
        elif self.path.partition("?")[0] != "/metrics":
            self.answer(404, "text/plain", b"expected /metrics\n")
        else:
            self.answer(200, CONTENT_TYPE, self.server.metrics.text().encode(errors="replace"))
