"""The feed in the terminal: a live view for a person, lines for a pipe."""

import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

import zmq
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.feed.keys import load_client_keys
from stream.feed.messages import Estimate, Event, Message, Session, Status, encode
from stream.feed.security import FeedError
from stream.feed.subscriber import Subscriber
from tools.errors import leave_output

WAITING_S = 1.0  # until a reader of lines is told that nobody publishes
STALE_S = 3.0  # without a message, heartbeats included
REFRESH_S = 0.1
GONE_S = 5.0  # media seconds after which a person without estimates leaves the view
MAX_STREAMS, MAX_EVENTS = 4, 5
BAR = 14  # characters of a probability of 1
CARD = 36  # characters of a person's card: two fit into 80


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
    keys = None if key is None else load_client_keys(key)
    server_key, secret = (None, None) if keys is None else (keys.server_key, keys.client_secret)
    try:
        with Subscriber(address, insecure=insecure, server_key=server_key, client_secret=secret) as feed:
            if json_lines:
                _write_lines(feed, lambda message: encode(message).decode())
            elif sys.stdout.isatty():
                _show(feed, Console())
            else:
                _write_lines(feed, lambda message: render(message) if isinstance(message, Estimate) else None)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        leave_output()
    return 0


def _write_lines(feed: Subscriber, line_of: Callable[[Message], str | None]) -> None:
    first = feed.receive(WAITING_S)
    if first is None:
        print(f"waiting for {feed.address}", file=sys.stderr)
    for message in _after(first, feed):
        if (line := line_of(message)) is not None:
            print(line, flush=True)


def _after(first: Message | None, feed: Subscriber) -> Iterator[Message]:
    if first is not None:
        yield first
    yield from feed


def _show(feed: Subscriber, console: Console) -> None:
    board = Board(feed.address)
    with Live(board.view(time.monotonic()), console=console, screen=True, auto_refresh=False) as live:
        while True:
            redraw = time.monotonic() + REFRESH_S
            while (left := redraw - time.monotonic()) > 0:
                if (message := feed.receive(left)) is not None:
                    board.take(message, time.monotonic())
            board.n_lost = sum(feed.n_lost.values())
            board.n_malformed = feed.n_malformed
            live.update(board.view(time.monotonic()), refresh=True)


def render(message: Message) -> str:
    """A message as one plain line."""
    head = f"{message.t:9.2f} s  {message.stream}"
    match message:
        case Session():
            line = f"session  {message.recogniser} {message.bundle} on {message.engine}: {' '.join(message.labels)}"
        case Estimate():
            line = f"{_who(message.person)}  {_verdict(message)}  {_weights(message)}".rstrip() + _age(message)
        case Status():
            line = f"status  {_rates(message)}"
        case Event():
            about = "" if message.person is None else f" ({_who(message.person)})"
            line = f"event  {message.kind}{about}: {message.text}"
    return _printable(f"{head}  {line}")


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
        kinds: tuple[type[Message], ...] = (Session, Estimate, Event),
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


class Board:
    """What the live view shows, from the messages so far. Times are seconds of one monotonic clock.

    Attributes:
        n_lost: Messages that this watcher lost.
        n_malformed: Messages that it could not read.
    """

    def __init__(self, address: str) -> None:
        self.n_lost = 0
        self.n_malformed = 0
        self._address = address
        self._streams: OrderedDict[str, _StreamView] = OrderedDict()

    def take(self, message: Message, now_s: float) -> None:
        """Note a message received at `now_s`."""
        view = self._streams.get(message.stream)
        if view is None or (isinstance(message, Session) and view.session not in (None, message)):
            view = self._streams[message.stream] = _StreamView()
        self._streams.move_to_end(message.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        view.take(message, now_s)

    def view(self, now_s: float) -> RenderableType:
        """The whole picture as it is at `now_s`."""
        title = Text.assemble(("emocast ", "bold"), self._address)
        if self.n_lost:
            title.append(f"  {self.n_lost} messages lost here", "yellow")
        if self.n_malformed:
            title.append(f"  {self.n_malformed} messages unreadable: another version?", "yellow")
        if not self._streams:
            return Group(title, Text(f"waiting for {self._address}", "yellow"))
        return Group(title, *(view.view(name, now_s) for name, view in reversed(self._streams.items())))


@dataclass
class _StreamView:
    session: Session | None = None
    status: Status | None = None
    ended: bool = False
    heard_s: float = 0.0
    persons: dict[int, tuple[Estimate, float]] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))

    def take(self, message: Message, now_s: float) -> None:
        self.heard_s = now_s
        match message:
            case Session():
                self.session = message
            case Status():
                self.status = message
            case Event():
                self.events.append(message)
                self.ended = message.kind == "end"
            case Estimate():
                self.persons[message.person] = (message, now_s)
                for person in [p for p, (known, _) in self.persons.items() if known.t < message.t - GONE_S]:
                    del self.persons[person]

    def view(self, name: str, now_s: float) -> RenderableType:
        parts: list[RenderableType] = []
        if self.status is not None:
            parts.append(Text(_printable(_rates(self.status))))
        order = self.session.labels if self.session else ()
        people = sorted(self.persons.items())
        parts.append(Columns([_card(estimate, order, now_s - at_s) for _, (estimate, at_s) in people]))
        parts += [Text(_printable(f"{e.t:8.2f} s  {e.kind}  {e.text}"), "dim", no_wrap=True) for e in self.events]
        title = Text.assemble((_printable(name), "bold"), "  ", self._state(now_s))
        about = f"{self.session.recogniser} {self.session.bundle} on {self.session.engine}" if self.session else ""
        return Panel(Group(*parts), title=title, title_align="left", subtitle=Text(_printable(about), "dim"))

    def _state(self, now_s: float) -> Text:
        silent_s = now_s - self.heard_s
        if self.ended:
            return Text("ended", "cyan")
        if silent_s >= STALE_S:
            return Text(f"stale: nothing for {silent_s:.0f} s", "bold red")
        return Text("live", "green")


def _card(estimate: Estimate, order: tuple[str, ...], since_s: float) -> RenderableType:
    bars = Table.grid(padding=(0, 1))
    bars.add_column(max_width=12, no_wrap=True)
    bars.add_column(width=BAR)
    bars.add_column(justify="right")
    for label in order or tuple(estimate.posterior):
        share = estimate.posterior.get(label, 0.0)
        style = "bold green" if label == estimate.label else ""
        bars.add_row(
            Text(_printable(label), style), Text("█" * round(share * BAR), style), Text(f"{share:4.2f}", style)
        )
    age_s = since_s + (estimate.age_ms or 0.0) / 1000
    foot = Text(_printable(f"{_weights(estimate)}  {age_s:.1f} s old".strip()), "dim", no_wrap=True)
    colour = "green" if estimate.label else "yellow"
    title = Text(_printable(f"{_who(estimate.person)}: {' '.join(_verdict(estimate).split())}"), colour)
    return Panel(Group(bars, foot), title=title, title_align="left", width=CARD, border_style=colour)


def _who(person: int) -> str:
    return f"person {person}" if person else "voice"


def _verdict(estimate: Estimate) -> str:
    if estimate.label is None:
        return f"({estimate.reason})".ljust(14)
    return f"{estimate.label:<9} {estimate.confidence:4.2f}"


def _weights(estimate: Estimate) -> str:
    return " ".join(f"{name} {weight:.2f}" for name, weight in estimate.modalities.items() if weight)


def _age(estimate: Estimate) -> str:
    return "" if estimate.age_ms is None else f"  {estimate.age_ms:.0f} ms"


def _rates(status: Status) -> str:
    parts = [f"{status.frame_rate_hz:.1f} frames/s", f"{status.hop_rate_hz:.1f} hops/s"]
    if status.engine_ms is not None:
        parts.append("engine {:.0f}/{:.0f} ms".format(*status.engine_ms))
    if status.age_ms is not None:
        parts.append("age {:.0f}/{:.0f} ms".format(*status.age_ms))
    drops = " ".join(f"{name} {n}" for name, n in status.drops.items() if n)
    parts.append(f"dropped: {drops}" if drops else "0 dropped")
    return ", ".join(parts)


def _printable(text: str) -> str:
    # what a publisher sends must not steer the terminal
    return "".join(c if c.isprintable() else "�" for c in text)
