"""The dashboard's web server: one page that needs nothing else, who may look, and peers that misbehave."""

import contextlib
import re
import socket
from urllib.parse import urlsplit

import pytest

from stream.feed.security import FeedError
from tests.dashboards import answer, events, served
from tests.feeds import WAIT_S, estimate
from tools.dashboard.board import MAX_VIEWERS, Board
from tools.dashboard.history import History
from tools.dashboard.server import MAX_CONNECTIONS, PageServer, check_access, page


def board() -> Board:
    history = History()
    history.take(estimate(1, 1.5))
    return Board(history, source="x")


def test_the_page_is_complete_in_itself() -> None:
    text, policy = page()
    html = text.decode()
    assert html.count("<script>") == 4
    assert html.count("<style>") == 1
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"|@import|url\(', html) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", html) == []
    assert policy.count("'sha256-") == 5
    assert "unsafe" not in policy


def test_a_viewer_here_gets_the_page_and_the_feed() -> None:
    with served(board()) as server:
        code, body, headers = answer(server.url)
        assert (code, body) == (200, page()[0])
        assert headers["Content-Security-Policy"] == page()[1]
        assert headers["Cache-Control"] == "no-store"
        assert answer(server.url, "/other")[0] == 404
        with events(server.url) as told:
            name, state = next(told)
    assert name == "state"
    assert state["streams"]["a"]["lanes"][0]["rows"][0][0] == 1.5


@pytest.mark.parametrize("path", ["/", "/feed", "/other"])
def test_with_a_token_nobody_gets_anything_without_it(path: str) -> None:
    with served(board(), token="s3 crét&") as server:
        assert urlsplit(server.url).query == "token=s3%20cr%C3%A9t%26"
        for query in ("", "?token=", "?token=s3", "?token=%FF", "?other=s3%20cr%C3%A9t%26"):
            code, body, _ = answer(server.url, path + query)
            assert (code, body) == (403, b"expected the dashboard's token: open the address that it printed\n")
        assert answer(server.url, f"/?{urlsplit(server.url).query}", Host="robot.example")[0] == 200
        with events(server.url) as told:
            assert next(told)[0] == "state"


@pytest.mark.parametrize(
    ("host", "code"),
    [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("10.0.0.1", 403), ("[", 400)],
)
def test_another_sites_name_that_leads_here_is_not_answered(host: str, code: int) -> None:
    with served(board()) as server:
        assert answer(server.url, Host=host)[0] == code


def test_a_network_needs_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.2", "::", "robot.local", ""):
        with pytest.raises(FeedError, match=f"expected a loopback host for a dashboard without a token, got {host}"):
            check_access(host, None)
        check_access(host, "a secret")
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_access(host, None)
    for token in ("", "secrets"):
        with pytest.raises(FeedError, match=f"expected a token of 8 characters or more, got one of {len(token)}"):
            check_access("127.0.0.1", token)


@pytest.mark.parametrize("token", ["\udcff2345678", "a secret\n"])
def test_a_token_that_is_no_text_is_refused(token: str) -> None:
    with pytest.raises(FeedError, match="expected a token of letters, digits and signs that can be printed"):
        check_access("127.0.0.1", token)


def test_a_port_in_use_is_told() -> None:
    with (
        served(board()) as server,
        pytest.raises(FeedError, match=r"cannot serve on 127\.0\.0\.1:\d+: address already in use; take another"),
    ):
        PageServer(board(), host="127.0.0.1", port=urlsplit(server.url).port or 0, token=None)


def test_too_many_viewers_are_turned_away() -> None:
    full = board()
    for _ in range(MAX_VIEWERS):
        full.join()
    with served(full) as server:
        code, body, _ = answer(server.url, "/feed")
    assert (code, body) == (503, b"too many viewers\n")


def test_garbage_and_peers_that_say_nothing_disturb_nobody() -> None:
    with served(board()) as server:
        where = ("127.0.0.1", urlsplit(server.url).port)
        for garbage in (
            b"\x00\xff\n\r\n",
            b"GET //[ HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.0\r\n\r\n",
            b"a" * 70_000 + b"\n",
        ):
            # it may be cut off in the middle of what it says
            with socket.create_connection(where, WAIT_S) as peer, contextlib.suppress(ConnectionError):
                peer.sendall(garbage)
                assert b" 200 " not in peer.recv(1000)
        silent = [socket.create_connection(where, WAIT_S) for _ in range(MAX_CONNECTIONS // 2)]
        assert answer(server.url)[0] == 200
        for peer in silent:
            peer.close()


def test_a_viewer_is_let_in_while_silent_peers_hold_all_places() -> None:
    with served(board()) as server:
        where = ("127.0.0.1", urlsplit(server.url).port)
        with events(server.url) as told:
            peers = [socket.create_connection(where, WAIT_S) for _ in range(MAX_CONNECTIONS)]
            assert answer(server.url)[0] == 200
            assert next(told)[0] == "state"  # who looks already stays
            for peer in peers:
                peer.close()


def test_what_listens_everywhere_is_opened_here() -> None:
    with PageServer(board(), host="0.0.0.0", port=0, token="a secret") as server:
        assert server.elsewhere
        assert server.url.startswith("http://127.0.0.1:")
        assert answer(server.url, f"/?{urlsplit(server.url).query}")[0] == 200
    with served(board()) as server:
        assert not server.elsewhere


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_is_none_is_told(port: int) -> None:
    with pytest.raises(FeedError, match=rf"cannot serve on 127\.0\.0\.1:{port}: .*0-65535"):
        PageServer(board(), host="127.0.0.1", port=port, token=None)
