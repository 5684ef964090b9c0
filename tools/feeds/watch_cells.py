"""A person's estimates in a few cells of a terminal: a history of letters and blocks, bars, and the labels' colours.

Everything can be read without colour, and every colour both on black and on white.
"""

from collections.abc import Callable, Iterable, Sequence

from rich.text import Text

from stream.feed.messages import Estimate
from tools.feeds.watch_board import Mark
from tools.feeds.watch_words import printable

BLOCKS = "▁▂▃▄▅▆▇█"
EIGHTHS = ("", *"▏▎▍▌▋▊▉")
ABSTAINED, GAP = "·", " "
COLOURS = {
    "neutral": "#767676", "calm": "#2d8a70", "happiness": "#b07000", "surprise": "#c9489a", "sadness": "#3f78d8",
    "anger": "#d8453e", "disgust": "#4f8a2a", "fear": "#8d64d0", "contempt": "#a06a45",
}  # fmt: skip
OTHERS = ("#1f8a8a", "#8a7a1f", "#5f78a8", "#b5554a")


def letters(labels: Sequence[str]) -> dict[str, str]:
    """A letter for each label: its first, small, else large, else another of its letters, else a digit or `?`."""
    chosen: dict[str, str] = {}
    for label in labels:
        name = printable(label)
        others = [c for c in name[1:].lower() + "0123456789" if c.isalnum() and c.isascii()]
        wanted = [name[:1].lower(), name[:1].upper(), *others]
        free = (c for c in wanted if c.isascii() and c.isalnum() and c not in chosen.values())
        chosen[label] = next(free, "?")
    return chosen


def colour_of(label: str, labels: Sequence[str]) -> str:
    """The colour of a label, the same wherever it is shown."""
    known = COLOURS.get(label.lower())
    return known or OTHERS[(list(labels).index(label) if label in labels else 0) % len(OTHERS)]


def small_bars(estimate: Estimate, labels: Sequence[str], columns: int) -> Text:
    """A posterior in one line: for each label its letter and a bar, to the eighth of a cell."""
    letter, n_each = letters(labels), max(1, (columns - 2) // max(1, len(labels)))
    bars = Text("  ")
    for label in labels:
        n_eighths = round(8 * max(0, n_each - 3) * estimate.posterior.get(label, 0.0))
        bar = "█" * (n_eighths // 8) + EIGHTHS[n_eighths % 8]
        style = colour_of(label, labels)
        bars.append_text(fitted(Text.assemble((letter[label], style), " ", (bar, style)), n_each))
    return bars


def label_cells(marks: Iterable[Mark | None], labels: Sequence[str], width: int) -> Text:
    """The newest marks, a cell each: letters for their labels."""
    known = letters(labels)
    return _cells(marks, labels, width, lambda mark: known.get(mark.label or "", ABSTAINED))


def block_cells(marks: Iterable[Mark | None], labels: Sequence[str], width: int) -> Text:
    """The newest marks, a cell each: blocks as high as their confidences."""

    def block(mark: Mark) -> str:
        return BLOCKS[min(len(BLOCKS) - 1, int(mark.confidence * len(BLOCKS)))] if mark.label else ABSTAINED

    return _cells(marks, labels, width, block)


def _cells(marks: Iterable[Mark | None], labels: Sequence[str], width: int, of: Callable[[Mark], str]) -> Text:
    cells = Text()
    for mark in list(marks)[-width:] if width else ():
        style = "" if mark is None or mark.label is None else colour_of(mark.label, labels)
        cells.append(GAP if mark is None else of(mark), style)
    cells.pad_left(width - len(cells))
    return cells


def fitted(text: Text, width: int) -> Text:
    """A text made as wide as this: cut, or filled with spaces."""
    text.truncate(width, overflow="ellipsis", pad=True)
    return text
