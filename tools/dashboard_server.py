"""The dashboard's web server: one page that is complete in itself, and the feed as server-sent events beside it.

Only this machine reaches it without a token. A page of another site cannot read it either: requests must name a
loopback host or carry the token, which no other site knows.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from stream.feed.security import FeedError
from tools.dashboard_board import Board

MAX_CONNECTIONS = 64
POLL_S = 0.1  # how soon it notices that it is to stop
QUIET_S = 10.0  # a peer that neither asks nor reads for so long is cut off
_PART = re.compile(r'<link rel="stylesheet" href="(?P<style>\w+\.css)">|<script src="(?P<script>\w+\.js)"></script>')


def check_access(host: str, token: str | None) -> None:
    """Refuse to show a feed to a network without a token.

    Raises:
        FeedError: If the host is not loopback and there is no token, or the token is empty.
    """
    if token == "":
        raise FeedError("expected a token of some length, got an empty one; leave --token out on a loopback address")
    if token is None and not is_loopback(host):
        raise FeedError(
            f"expected a loopback host for a dashboard without a token, got {host}; pass --token TEXT, "
            "and only where everybody who is seen and heard knows who watches"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, named as in a URL, can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def page() -> tuple[bytes, str]:
    """The page with its styles and scripts inside, and the policy that lets a browser run these and nothing else."""
    folder = files("tools") / "dashboard_page"
    allowed: dict[str, list[str]] = {"style": [], "script": []}

    def inside(match: re.Match[str]) -> str:
        kind = "style" if match["style"] else "script"
        text = (folder / match[kind]).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{text}</{kind}>"

    whole = _PART.sub(inside, (folder / "index.html").read_text(encoding="utf-8"))
    sources = "; ".join(f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items())
    return whole.encode(), f"default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; {sources}"


class PageServer:
    """Serves the page and the board, each connection on a thread of its own; `with` starts and stops it.

    Args:
        board: What is shown.
        host: Where to listen.
        port: Likewise; 0 takes any free one.
        token: What who looks must know; None on loopback alone.

    Raises:
        FeedError: If the network may not see it, or the port is not free.
    """

    def __init__(self, board: Board, *, host: str, port: int, token: str | None) -> None:
        check_access(host, token)
        self._board = board
        self._host = host
        self._token = token
        try:
            self._server = _Server((host, port), board, token)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FeedError(f"cannot serve on {host}:{port}: {reason}; take another with --host or --port") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="dashboard", daemon=True
        )

    @property
    def url(self) -> str:
        """Where a browser finds the page, the token included."""
        query = "" if self._token is None else f"?token={quote(self._token, safe='')}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/{query}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.cut_off()  # a browser keeps connections in reserve
        self._board.close()
        self._server.server_close()  # waits for the connections' threads
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, where: tuple[str, int], board: Board, token: str | None) -> None:
        self.address_family = _family(where[0])
        self.board = board
        self.token = token
        self.page, self.policy = page()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__(where, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            self._open.add(request)
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def cut_off(self) -> None:
        """End every connection; those who wait for its peer are told so by the socket."""
        for peer in tuple(self._open):
            with contextlib.suppress(OSError):  # it has just ended by itself
                peer.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind, without asking a name server what this machine is called, as `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of faults of ours; a viewer who went away is none."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = QUIET_S

    def do_GET(self) -> None:
        try:
            url = urlsplit(self.path)
            allowed = self._may_look(parse_qs(url.query).get("token", [""])[0])
        except ValueError:  # brackets of no address
            self._answer(400, "text/plain", b"expected a URL\n")
            return
        if not allowed:
            self._answer(403, "text/plain", b"expected the dashboard's token: open the address that it printed\n")
        elif url.path == "/":
            self._answer(200, "text/html", self.server.page)
        elif url.path == "/feed":
            self._stream()
        else:
            self._answer(404, "text/plain", b"expected / or /feed\n")

    def _may_look(self, token: str) -> bool:
        if self.server.token is None:  # another site's name may be made to lead here: only our own are answered
            return is_loopback(urlsplit(f"//{self.headers.get('Host', '')}").hostname or "")
        return hmac.compare_digest(token.encode(), self.server.token.encode())

    def _stream(self) -> None:
        viewer = self.server.board.join()
        if viewer is None:
            self._answer(503, "text/plain", b"too many viewers\n")
            return
        try:
            self._head(200, "text/event-stream")
            while (told := self.server.board.wait(viewer)) is not None:
                self.wfile.write(told)
        finally:
            self.server.board.leave(viewer)

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self._head(code, kind, len(body))
        self.wfile.write(body)

    def _head(self, code: int, kind: str, length: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Referrer-Policy", "no-referrer")  # the token is in the address
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Nothing: requests carry the token."""


def _family(host: str) -> Any:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
