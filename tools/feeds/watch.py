"""The feed in the terminal: a live view for a person, lines for a pipe."""

import signal
import sys
import time
from collections.abc import Callable
from typing import TextIO

import zmq
from rich.console import Console, Group
from rich.live import Live

from stream.feed.messages import Estimate, Event, Message, Session, Status, encode
from stream.feed.security import FeedError
from stream.feed.subscriber import Subscriber
from tools.errors import leave_output
from tools.feeds.reading import subscribe
from tools.feeds.watch_board import Board
from tools.feeds.watch_picture import STALE_S, picture
from tools.feeds.watch_words import render as render

WAITING_S = 1.0  # until a reader of lines is told that nobody publishes
REFRESH_S = 0.2
PRINTED: tuple[type[Message], ...] = (Session, Estimate, Event)  # as lines


def watch(address: str, *, json_lines: bool, insecure: bool = False, key: str | None = None) -> int:
    """Show the feed until Ctrl-C or until nobody reads the output.

    Args:
        address: Of the publisher, which may start later.
        json_lines: Write each message as JSON on a line, whatever the codec of the feed.
        insecure: Whether any address but loopback is allowed without keys.
        key: Name of the client whose keys are used, for a feed with keys.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If the address is malformed or not allowed, or the keys are not there.
    """
    subscriber = subscribe(address, insecure=insecure, key=key)
    try:
        with subscriber as feed:
            console = Console()
            if json_lines:
                _write_lines(feed, lambda message: encode(message).decode(), (Session, Estimate, Status, Event))
            elif sys.stdout.isatty() and not console.is_dumb_terminal:
                _show(feed, console)
            else:
                _write_lines(feed, render, PRINTED)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        leave_output()
    return 0


def _write_lines(feed: Subscriber, line_of: Callable[[Message], str], kinds: tuple[type[Message], ...]) -> None:
    wait_s: float | None = WAITING_S
    untold = f"waiting for {feed.address}"
    while True:
        message = feed.receive(wait_s)
        if message is None:  # told once, until there is something again
            print(untold, file=sys.stderr, flush=True)
            wait_s = None
            continue
        if isinstance(message, kinds):
            print(line_of(message), flush=True)
        ended = isinstance(message, Event) and message.kind == "end"
        wait_s, untold = None if ended else STALE_S, f"stale: nothing from {feed.address} for {STALE_S:.0f} s"


def _show(feed: Subscriber, console: Console) -> None:
    board = Board(feed.address)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends us so has the screen back, too
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            now_s = time.monotonic()
            board.n_lost, board.n_malformed = sum(feed.n_lost.values()), feed.n_malformed
            live.update(Group(*picture(board, now_s, *console.size)), refresh=True)
            while (left := now_s + REFRESH_S - time.monotonic()) > 0:
                if (message := feed.receive(left)) is not None:
                    board.take(message, time.monotonic())


class LineSink:
    """A sink of the feed that prints each message that `render` is asked for, in the program that publishes.

    Args:
        out: Where to print.
        kinds: Types of the messages to print.
        line: A message as one line.
    """

    def __init__(
        self,
        out: TextIO,
        kinds: tuple[type[Message], ...] = PRINTED,
        line: Callable[[Message], str] = render,
    ) -> None:
        self._out = out
        self._kinds = kinds
        self._line = line

    def open(self) -> None:
        """Nothing: the terminal is there."""

    def send(self, message: Message) -> None:
        """Print a line.

        Raises:
            FeedError: If nobody reads the output any more.
        """
        if isinstance(message, self._kinds):
            try:
                print(self._line(message), file=self._out, flush=True)
            except OSError as error:
                raise FeedError(f"cannot print the feed: {(error.strerror or str(error)).lower()}") from error

    def attend(self) -> None:
        """Nothing waits."""

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives."""
        return None

    def close(self) -> None:
        """Nothing: the output is not the sink's."""
