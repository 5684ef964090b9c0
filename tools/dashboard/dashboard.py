"""The feed in a browser: one page, served from here, for as many as look at it."""

import threading
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path

from stream.feed.arrivals import lateness_s
from stream.feed.messages import Status
from stream.feed.subscriber import Subscriber
from tools.dashboard.board import Board
from tools.dashboard.history import History, read_file
from tools.dashboard.server import PageServer, check_access
from tools.feeds.reading import subscribe

BATCH_S = 0.15  # messages of so long a time go to the page together


def dashboard(
    address: str,
    *,
    host: str,
    port: int,
    token: str | None,
    file: Path | None,
    insecure: bool,
    open_browser: bool,
    key: str | None = None,
) -> int:
    """Serve the page until Ctrl-C.

    Args:
        address: Of the publisher, which may start later and restart; or the name of a file, as `file`.
        host: Where the page is served; any but loopback needs a token.
        port: Likewise; 0 takes any free one.
        token: What the address of the page must carry.
        file: Show this `.jsonl` or recording instead of a feed.
        insecure: Whether a publisher on any address but loopback is allowed without keys.
        open_browser: Open the page in this machine's browser.
        key: Name of the client whose keys are used, for a feed with keys.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If the feed's address or the page's is malformed, not allowed or not free, the keys are not there,
            or the file says nothing.
    """
    check_access(host, token)
    if file is None and is_file_name(address):
        file = Path(address)
    try:
        with ExitStack() as opened:
            if file is None:
                feed = opened.enter_context(subscribe(address, insecure=insecure, key=key))
                board = Board(History(), source=feed.address)
            else:
                board = Board(read_file(file), source=file.name, recorded=True)
            server = opened.enter_context(PageServer(board, host=host, port=port, token=token))
            print(f"dashboard of {address if file is None else file} at {server.url}", flush=True)
            if server.elsewhere:
                print("from other machines: this one's name in the place of its address", flush=True)
            if open_browser:
                webbrowser.open(server.url)
            if file is None:
                follow(feed, board)
            else:
                show(board)
    except KeyboardInterrupt:
        pass
    return 0


def is_file_name(address: str) -> bool:
    """Whether what was given as an address is the name of a `.jsonl` or a recording."""
    return "://" not in address and Path(address).suffix in (".jsonl", ".mkv")


def follow(feed: Subscriber, board: Board, ended: threading.Event | None = None) -> None:
    """Take what the feed says to the board, in batches, until `ended` is set."""
    late_ms = None
    while ended is None or not ended.is_set():
        due = time.monotonic() + BATCH_S
        while (left := due - time.monotonic()) > 0:
            if (message := feed.receive(left)) is not None:
                board.take(message)
                if isinstance(message, Status) and (late_s := lateness_s(message)) is not None:
                    late_ms = round(late_s * 1000, 1)
        board.count(lost=sum(feed.n_lost.values()), unreadable=feed.n_malformed, late_ms=late_ms)
        board.flush()


def show(board: Board, ended: threading.Event | None = None) -> None:
    """Keep the viewers of a board that does not change until `ended` is set."""
    ended = ended or threading.Event()
    while not ended.wait(BATCH_S):
        board.flush()
