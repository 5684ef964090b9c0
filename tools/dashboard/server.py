"""The dashboard's web server: one page that is complete in itself, and the feed as server-sent events beside it.

Only this machine reaches it without a token. A page of another site cannot read it either: requests must name a
loopback host or carry the token, which no other site knows.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import threading
from importlib.resources import files
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

from stream.bridges.web import POLL_S, WebHandler, WebServer
from stream.feed.security import FeedError
from tools.dashboard.board import Board

MAX_CONNECTIONS = 64
MIN_TOKEN = 8  # characters; nothing slows down who tries them all
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # hosts that are all addresses, to one of them
_PART = re.compile(r'<link rel="stylesheet" href="(?P<style>\w+\.css)">|<script src="(?P<script>\w+\.js)"></script>')


def check_access(host: str, token: str | None) -> None:
    """Refuse to show a feed to a network without a token.

    Raises:
        FeedError: If the host is not loopback and there is no token, or the token is easily guessed or no text.
    """
    if token is not None and len(token) < MIN_TOKEN:
        raise FeedError(
            f"expected a token of {MIN_TOKEN} characters or more, got one of {len(token)}; pass a longer one, or none "
            "on a loopback address"
        )
    if token is not None and not token.isprintable():
        raise FeedError("expected a token of letters, digits and signs that can be printed, got one with others")
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
    folder = files("tools.dashboard") / "page"
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
            self._server = _Server(host, port, board, token)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FeedError(f"cannot serve on {host}:{port}: {reason}; take another with --host or --port") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="dashboard", daemon=True
        )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page, the token included."""
        query = "" if self._token is None else f"?token={quote(self._token, safe='')}"
        host = ANYWHERE.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._server.server_port}/{query}"

    @property
    def elsewhere(self) -> bool:
        """Whether every address of this machine leads to it."""
        return self._host in ANYWHERE

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.cut_off()
        self._board.close()
        self._server.server_close()  # waits for the connections' threads
        self._thread.join()


class _Server(WebServer):
    def __init__(self, host: str, port: int, board: Board, token: str | None) -> None:
        self.board = board
        self.token = token
        self.page, self.policy = page()
        super().__init__(host, port, _Handler, max_connections=MAX_CONNECTIONS)


class _Handler(WebHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.policy = self.server.policy

    def get(self) -> None:
        try:
            url = urlsplit(self.path)
            allowed = self._may_look(parse_qs(url.query).get("token", [""])[0])
        except ValueError:  # brackets of no address
            self.answer(400, "text/plain", b"expected a URL\n")
            return
        if not allowed:
            self.answer(403, "text/plain", b"expected the dashboard's token: open the address that it printed\n")
        elif url.path == "/":
            self.answer(200, "text/html", self.server.page)
        elif url.path == "/feed":
            self._stream()
        else:
            self.answer(404, "text/plain", b"expected / or /feed\n")

    def _may_look(self, token: str) -> bool:
        if self.server.token is None:  # another site's name may be made to lead here: only our own are answered
            return is_loopback(urlsplit(f"//{self.headers.get('Host', '')}").hostname or "")
        return hmac.compare_digest(token.encode(), self.server.token.encode())

    def _stream(self) -> None:
        viewer = self.server.board.join()
        if viewer is None:
            self.answer(503, "text/plain", b"too many viewers\n")
            return
        try:
            self.head(200, "text/event-stream")
            while (told := self.server.board.wait(viewer)) is not None:
                self.write(told)
        finally:
            self.server.board.leave(viewer)
