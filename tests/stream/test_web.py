"""The web server that strangers may reach, over raw sockets: its limits, and what others notice of who tries them."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from stream.bridges.web import CHUNK, MAX_REQUEST, WebHandler, WebServer
from tests.feeds import WAIT_S, until

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG_S = 3600.0  # a limit that no test waits for


class Hello(WebHandler):
    """Answers `/` at once, `/held` when the test says so, and `/endless` for ever."""

    server: "Greeter"

    def get(self) -> None:
        if self.path == "/":
            self.answer(200, "text/plain", b"hello\n")
        elif self.path == "/held":
            self.server.n_held += 1
            self.server.released.wait(WAIT_S)
            self.answer(200, "text/plain", b"at last\n")
        elif self.path == "/fault":
            raise AssertionError("a fault of ours")
        else:
            self.head(200, "text/plain")
            while True:
                self.write(b"x" * CHUNK)
                self.server.n_written += CHUNK


class Stuck(Hello):
    """Neither reads nor ends before the test says so."""

    def handle(self) -> None:
        self.server.released.wait(WAIT_S)


class Greeter(WebServer):
    def __init__(self, handler: type[WebHandler], **limits: object) -> None:
        self.released = threading.Event()
        self.n_written = self.n_held = 0
        super().__init__("127.0.0.1", 0, handler, **limits)  # type: ignore[arg-type]


@contextmanager
def greeting(handler: type[WebHandler] = Hello, *, max_connections: int = 4, **limits: object) -> Iterator[Greeter]:
    server = Greeter(handler, **{"max_connections": max_connections, "ask_s": LONG_S, "quiet_s": LONG_S, **limits})
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.cut_off()
        server.server_close()
        serving.join(WAIT_S)


def connected(server: WebServer, said: bytes = b"") -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", server.server_port), WAIT_S)
    peer.sendall(said)
    return peer


def told(peer: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    parts = []
    with closing(peer), contextlib.suppress(ConnectionError):
        while part := peer.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def is_over(peer: socket.socket) -> bool:
    """Whether the server has ended a connection on which it said nothing."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        peer.settimeout(WAIT_S)


def drips(peer: socket.socket, byte: bytes) -> bool:
    """Whether one more byte can be sent."""
    try:
        peer.sendall(byte)
    except ConnectionError:
        return False
    return not is_over(peer)


def test_an_answer_is_one_and_says_what_a_browser_may_do_with_it() -> None:
    with greeting() as server:
        head, body = told(connected(server, ASK + ASK)).split(b"\r\n\r\n")
    assert body == b"hello\n"
    lines = head.decode().splitlines()
    assert lines[0] == "HTTP/1.0 200 OK"
    assert [line for line in lines[1:] if not line.startswith("Date: ")] == [
        "Server: emocast",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 6",
        "Cache-Control: no-store",
        "Content-Security-Policy: default-src 'none'",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
    ]


@pytest.mark.parametrize(
    ("said", "code", "body"),
    [
        (b"POST /<script> HTTP/1.0\r\n\r\n", 501, "not implemented"),
        (b"GET / HTTP/9.9\r\n\r\n", 505, "http version not supported"),
        (b"GET <script>\x00 / HTTP/1.0\r\n\r\n", 400, "bad request"),
        (b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "request header fields too large"),
        (b"GET /" + b"x" * (MAX_REQUEST - 5), 431, "request header fields too large"),
        (b"GET / HTTP/1.0\r\n" + b"A: " + b"x" * (MAX_REQUEST - 19), 431, "request header fields too large"),
    ],
)
def test_what_is_no_request_is_answered_without_repeating_it(said: bytes, code: int, body: str) -> None:
    with greeting() as server:
        head, text = told(connected(server, said)).decode().split("\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {code} ")
    assert "script" not in head
    assert text == f"{body}\n"


def test_who_sends_a_byte_now_and_then_is_cut_off_all_the_same() -> None:
    clock = Clock()
    with greeting(ask_s=5.0, now_s=clock) as server, closing(connected(server)) as peer:
        until(lambda: server.n_connections == 1)
        for byte in b"GET / HTTP/1.1\r\nA: b":
            assert drips(peer, bytes([byte]))
            clock.s += 0.2
        clock.s += 5.0
        until(lambda: not drips(peer, b"b"))
        until(lambda: server.n_connections == 0)


def test_an_answer_may_take_longer_than_a_request() -> None:
    clock = Clock()
    with greeting(ask_s=5.0, now_s=clock) as server, closing(connected(server, ASK.replace(b"/ ", b"/held "))) as peer:
        until(lambda: server.n_held == 1)
        with closing(connected(server)) as silent:
            until(lambda: server.n_connections == 2)
            clock.s += 60.0
            until(lambda: is_over(silent))
        server.released.set()
        assert told(peer).endswith(b"at last\n")


def test_a_peer_that_never_reads_is_cut_off_and_little_was_written_for_it() -> None:
    with greeting(quiet_s=0.2) as server, closing(connected(server, ASK.replace(b"/ ", b"/endless "))):
        until(lambda: server.n_written > 0)
        until(lambda: server.n_connections == 0)
        assert server.n_written < 16 * 2**20  # what the two ends' systems hold


def test_those_who_have_not_asked_make_room_for_others_the_oldest_first() -> None:
    with greeting(max_connections=4) as server, ExitStack() as life:
        silent = []
        for n in range(4):
            silent.append(life.enter_context(closing(connected(server, b"GET"))))
            until(lambda n=n: server.n_connections == n + 1)  # type: ignore[misc]
        assert told(connected(server, ASK)).endswith(b"hello\n")
        assert [is_over(peer) for peer in silent] == [True, False, False, False]


def test_those_who_are_being_answered_do_not_and_who_comes_then_is_shut_out() -> None:
    with greeting(max_connections=2) as server, ExitStack() as life:
        held = [life.enter_context(closing(connected(server, ASK.replace(b"/ ", b"/held ")))) for _ in range(2)]
        until(lambda: server.n_held == 2)
        assert told(connected(server, ASK)) == b""
        server.released.set()
        assert all(told(peer).endswith(b"at last\n") for peer in held)
        until(lambda: server.n_connections == 0)
        assert told(connected(server, ASK)).endswith(b"hello\n")


def test_threads_that_are_slow_to_end_are_not_joined_by_ever_more() -> None:
    with greeting(Stuck, max_connections=2) as server, ExitStack() as life:
        for n in range(4):
            life.enter_context(closing(connected(server)))
            until(lambda n=n: server.n_connections == n + 1)  # type: ignore[misc]
        assert told(connected(server)) == b""
        assert server.n_connections == 4


def test_a_thousand_connections_are_no_more_threads_than_allowed_and_others_are_answered() -> None:
    most = 0
    with greeting(max_connections=8) as server, ExitStack() as life:
        for n in range(1000):
            life.enter_context(closing(connected(server, b"GET /" if n % 2 else b"")))
            most = max(most, server.n_connections)
            if n % 100 == 0:
                until(lambda: told(connected(server, ASK)).endswith(b"hello\n"))
        until(lambda: server.n_connections <= 8)
    assert most <= 16


def test_a_fault_of_ours_is_told_and_a_peer_that_left_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with greeting() as server:
        with closing(connected(server, ASK.replace(b"/ ", b"/endless "))):
            until(lambda: server.n_written > 0)
        until(lambda: server.n_connections == 0)
        assert capfd.readouterr().err == ""
        assert told(connected(server, ASK.replace(b"/ ", b"/fault "))) == b""
        until(lambda: server.n_connections == 0)
        assert "a fault of ours" in capfd.readouterr().err


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("no\udcff.example", 0)])
def test_where_nobody_can_listen_is_an_os_error(host: str, port: int) -> None:
    with pytest.raises(OSError, match=r".+"):
        WebServer(host, port, Hello, max_connections=1)


class Clock:
    def __init__(self) -> None:
        self.s = time.monotonic()

    def __call__(self) -> float:
        return self.s
