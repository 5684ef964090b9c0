"""The picture of a feed in the terminal, as lines: as much of it as fits, and never more.

A history has a cell for each estimate, the newest at its right end: a letter for the label, above it a block as high as
the confidence.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tools.feeds.watch_board import Board, PersonView, StreamView
from tools.feeds.watch_cells import ABSTAINED, block_cells, colour_of, fitted, label_cells, letters, small_bars
from tools.feeds.watch_words import about, printable, rates, verdict, weights, who

STALE_S = 3.0  # without a message, heartbeats included
CARD = 38  # columns of a card at least: two fit into 80
NAME = 12  # columns of a label at most
MAX_COLUMNS, MAX_LINES = 500, 200
MAX_NOTICE = 1000  # characters
GOOD, WARN, BAD, CALM = "#208850", "#b07000", "#d03a30", "#2d8a70"


@dataclass(frozen=True, kw_only=True)
class _Detail:
    """How much is shown: persons as cards, or in one to three lines each; what explains it; rates; events.

    Attributes:
        notice: Lines of what the publisher wants readers to know; what is more is cut.
    """

    cards: bool = False
    lines: int = 1
    legend: bool = True
    events: int = 0
    notice: int = 1
    rates: bool = True


DETAILS = (
    _Detail(cards=True, events=5, notice=5),
    _Detail(cards=True, events=5),
    _Detail(cards=True, events=1),
    _Detail(lines=3, events=5),
    _Detail(lines=3, events=1),
    _Detail(lines=2, events=5),
    _Detail(lines=2, events=1),
    _Detail(events=1),
    _Detail(notice=0),
    _Detail(notice=0, legend=False),
    _Detail(notice=0, legend=False, rates=False),
)


def picture(board: Board, now_s: float, columns: int, lines: int) -> list[Text]:
    """The lines of the picture at `now_s`, none longer than `columns`, and at most `lines`."""
    columns, lines = min(max(columns, 1), MAX_COLUMNS), min(max(lines, 1), MAX_LINES)
    streams = board.streams
    for detail in DETAILS:
        head = _head(board, now_s, columns, detail)
        parts = [_stream(name, stream, now_s, columns, detail) for name, stream in streams]
        if len(head) + sum(map(len, parts)) <= lines:
            break
    else:
        parts = _cropped(parts, max(0, lines - len(head)))
    shown = [*head, *(line for part in parts for line in part)][:lines]
    for line in shown:
        line.truncate(columns, overflow="ellipsis")
    return shown


def _head(board: Board, now_s: float, columns: int, detail: _Detail) -> list[Text]:
    parts = [Text.assemble(("emocast ", "bold"), printable(board.address))]
    if board.streams:
        parts.append(Text(f"{board.received.rate_hz(now_s):.1f} messages/s"))
        if (late := board.received.late_ms(now_s)) is not None:
            parts.append(Text("{:.0f} ms late, at most {:.0f}".format(*late)))
        parts.append(Text(f"{board.n_lost} lost here", WARN) if board.n_lost else Text("0 lost"))
    if board.n_malformed:
        parts.append(Text(f"{board.n_malformed} unreadable: another version?", WARN))
    head = _flowed(parts if detail.rates else parts[:1], columns)
    if not board.streams:
        head.append(Text(f"waiting for {printable(board.address)}", WARN))
    sessions = [stream.session for _, stream in board.streams if stream.session is not None]
    return head + _notice(" ".join(dict.fromkeys(session.notice for session in sessions)), columns, detail.notice)


def _notice(text: str, columns: int, lines: int) -> list[Text]:
    whole = textwrap.wrap(printable(text[:MAX_NOTICE]), columns)
    last = [" ".join(whole[lines - 1 :])] if 0 < lines <= len(whole) else []
    return [Text(line, "italic") for line in whole[: max(0, lines - 1)] + last]


def _stream(name: str, stream: StreamView, now_s: float, columns: int, detail: _Detail) -> list[Text]:
    state, style, stale = _state(stream, now_s)
    title = [Text(printable(name), "bold"), Text(f"● {state}", style)]
    if stream.session is not None and detail.rates:
        title.append(Text(f"{printable(about(stream.session))}, each {stream.session.hop_s:g} s", "dim"))
    head = _flowed(title, columns)
    body = (
        _flowed([Text(printable(part)) for part in rates(stream.status)], columns, ", ")
        if stream.status and detail.rates
        else []
    )
    people = sorted(stream.persons.items())
    until_s = now_s if stream.ended_s is None else stream.ended_s
    if detail.cards:
        body += _cards([person for _, person in people], stream, until_s, columns)
    else:
        body += _legend(stream.labels, columns) if detail.legend and people else []
        for _, person in people:
            body += _row(person, stream, until_s, columns, detail.lines)
    for event in list(stream.events)[-detail.events :] if detail.events else ():
        body.append(Text(printable(f"{event.t:8.2f} s  {event.kind}  {event.text}"), "dim"))
    if stale:
        for line in body:
            line.stylize("dim")
    return head + body


def _state(stream: StreamView, now_s: float) -> tuple[str, str, bool]:
    silent_s = now_s - stream.heard_s
    if stream.ended_s is not None:
        return "ended", CALM, False
    if silent_s >= STALE_S:
        return f"stale: nothing for {silent_s:.0f} s", f"bold {BAD}", True
    return ("paused", CALM, False) if stream.paused else ("live", GOOD, False)


def _cards(people: list[PersonView], stream: StreamView, now_s: float, columns: int) -> list[Text]:
    n_beside = max(1, min(len(people), columns // CARD))
    width = columns // n_beside
    cards = [_card(person, stream, now_s, width) for person in people]
    rows = [cards[first : first + n_beside] for first in range(0, len(cards), n_beside)]
    return [Text.assemble(*beside) for row in rows for beside in zip(*row, strict=True)]


def _card(person: PersonView, stream: StreamView, now_s: float, width: int) -> list[Text]:
    newest, labels, inner = person.newest, stream.labels, max(1, width - 4)
    colour = "dim" if newest.label is None else colour_of(newest.label, labels)
    letter, n_name = letters(labels), min(NAME, max((len(label) for label in labels), default=0))
    n_bar = max(0, inner - n_name - 8)
    body = []
    for label in labels:
        share = newest.posterior.get(label, 0.0)
        name = fitted(Text(f"{letter[label]} {printable(label)}"), n_name + 2)
        bar = fitted(Text("█" * round(share * n_bar), colour_of(label, labels)), n_bar)
        line = Text.assemble(name, " ", bar, f" {share:4.2f}")
        body.append(line)
        if label == newest.label:
            line.stylize("bold")
    body += [block_cells(person.marks, labels, inner), label_cells(person.marks, labels, inner)]
    body.append(Text(printable(_foot(person, now_s)), "dim"))
    title = Text(f" {printable(who(newest.person))}: {printable(_verdict(person, stream, now_s))} ", f"bold {colour}")
    return _boxed(title, body, width, colour)


def _row(person: PersonView, stream: StreamView, now_s: float, columns: int, lines: int) -> list[Text]:
    n_verdict = NAME + 5
    newest, labels, n_left = person.newest, stream.labels, 10 + n_verdict + 1
    colour = "dim" if newest.label is None else colour_of(newest.label, labels)
    said = Text.assemble(
        fitted(Text(printable(who(newest.person))), 10),
        fitted(Text(printable(_verdict(person, stream, now_s)), f"bold {colour}"), n_verdict),
        " ",
    )
    n_history = max(0, columns - n_left)
    below, above = (cells(person.marks, labels, n_history) for cells in (label_cells, block_cells))
    if lines == 1:
        return [Text.assemble(said, below)]
    foot = fitted(Text(f"  {printable(weights(newest))}", "dim"), n_left)
    both = [Text.assemble(said, above), Text.assemble(foot, below)]
    return both if lines == 2 else [*both, small_bars(newest, labels, columns)]


def _verdict(person: PersonView, stream: StreamView, now_s: float) -> str:
    since_s = now_s - person.at_s
    return f"nothing for {since_s:.0f} s" if since_s >= stream.gone_s else verdict(person.newest)


def _foot(person: PersonView, now_s: float) -> str:
    age_s = now_s - person.at_s + (person.newest.age_ms or 0.0) / 1000
    return f"{weights(person.newest)}  {age_s:.1f} s old".strip()


def _legend(labels: Sequence[str], columns: int) -> list[Text]:
    known = letters(labels)
    parts = [Text(f"{known[label]} {printable(label)}", colour_of(label, labels)) for label in labels]
    return _flowed([*parts, Text(f"{ABSTAINED} none")], columns)


def _boxed(title: Text, body: list[Text], width: int, style: str) -> list[Text]:
    title.truncate(max(0, width - 4), overflow="ellipsis")
    top = Text.assemble(("╭─", style), title, ("─" * (width - title.cell_len - 3) + "╮", style))
    lines = [Text.assemble(("│ ", style), fitted(line, max(0, width - 4)), (" │", style)) for line in body]
    return [top, *lines, Text("╰" + "─" * (width - 2) + "╯", style)]


def _flowed(parts: Sequence[Text], columns: int, between: str = "  ") -> list[Text]:
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(between) + part.cell_len <= columns:
            lines[-1].append(between).append_text(part)
        else:
            lines.append(Text().append_text(part))  # its style is not that of the whole line
    return lines


def _cropped(parts: list[list[Text]], lines: int) -> list[list[Text]]:
    # each stream its share; the last line that is left says how many are not shown
    share = max(1, lines // max(1, len(parts)))
    return [
        part if len(part) <= share else [*part[: share - 1], Text(f"… {len(part) - share + 1} more lines", "dim")]
        for part in parts
    ]
