"""Compares the estimates that a session publishes with those of a recorded one, and finds the first that differs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stream.feed.messages import Estimate, Event, Message, decode
from stream.lane import BLOCK_NS
from stream.recording.files import RecordingError
from stream.windows import NS_PER_S

CLOCK = ("stamp", "age_ms")  # fields that the wall clock decides
TIPPING = ("label", "reason")  # a difference however small can change them


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a comparison found.

    Attributes:
        n_compared: Estimates that both should have.
        n_identical: How many of them are.
        n_beyond: Published after the end of what was recorded.
        parting: Where the first difference is, and which; empty where there is none.
    """

    n_compared: int
    n_identical: int
    n_beyond: int
    parting: str


class Comparison:
    """Compares estimates with recorded ones as they come, in order.

    Args:
        feed: FILE.feed.jsonl.
        tolerance: Largest difference of a probability; above 0, labels, which may tip, are not compared.

    Attributes:
        changed: What the source told of pictures and sounds that are not the recorded ones.
        truncated: Whether the source told that media are missing at its end.

    Raises:
        RecordingError: If there is no such file.
    """

    def __init__(self, feed: Path, *, tolerance: float = 0.0) -> None:
        if not feed.is_file():
            raise RecordingError(f"expected the published estimates in {feed}, which is not there; copy all files")
        self._tolerance = tolerance
        self._ended = False  # the recorded session came to its end and was not interrupted
        self._recorded = self._estimates(feed)
        self._pairs: list[tuple[float, bool]] = []  # when the media until then were enough; whether identical
        self._parting: tuple[float, str] | None = None
        self._n_more = 0
        self.changed: list[str] = []
        self.truncated = False

    def _estimates(self, feed: Path) -> Iterator[Estimate]:
        with feed.open("rb") as file:
            for line in file:
                try:
                    message = decode(line)
                except msgspec.DecodeError:
                    return  # torn: the process was killed
                if isinstance(message, Estimate):
                    yield message
                elif isinstance(message, Event) and message.kind == "end":
                    self._ended = message.text != "interrupted"

    def take(self, message: Message) -> None:
        """What the replay published next."""
        match message:
            case Event(kind="changed"):
                self.changed.append(message.text)
            case Event(kind="truncated"):
                self.truncated = True
            case Estimate():
                self._compare(message)

    def _compare(self, replayed: Estimate) -> None:
        recorded = next(self._recorded, None)
        if recorded is None:
            self._n_more += 1
            if self._ended:
                self._part(_needed_s(replayed), f"{_at(replayed)}: replayed, but not in the recorded feed")
            return
        differs = difference(*map(msgspec.to_builtins, (recorded, replayed)), tolerance=self._tolerance)
        if differs:
            self._part(_needed_s(recorded), f"{_at(recorded)}, {differs}")
        self._pairs.append((_needed_s(recorded), not differs))

    def _part(self, needed_s: float, text: str) -> None:
        if self._parting is None:
            self._parting = needed_s, text

    def result(self, until_s: float | None) -> Result:
        """What was found, once the replay has ended.

        Args:
            until_s: Compare only what was published by then, where what came after was not recorded; None is all.

        Raises:
            RecordingError: If nothing was recorded to compare with.
        """
        for recorded in self._recorded:
            self._part(_needed_s(recorded), f"{_at(recorded)}: recorded, but not replayed")
            self._pairs.append((_needed_s(recorded), False))
        if not self._pairs:
            raise RecordingError("expected a recorded feed with estimates to compare with, it holds none")
        compared = [same for needed_s, same in self._pairs if until_s is None or needed_s <= until_s]
        parted = self._parting is not None and (until_s is None or self._parting[0] <= until_s)
        return Result(
            n_compared=len(compared),
            n_identical=sum(compared),
            n_beyond=len(self._pairs) - len(compared),
            parting=self._parting[1] if parted and self._parting else "",
        )


def _needed_s(estimate: Estimate) -> float:
    # Media time when it was published: what it was made of, and what the session decided until then, was recorded
    # before the media that came after. At full speed it has no age, but the end of its sound came within a block.
    newest_s = max(estimate.span[1], *(note.audio[1] for note in estimate.windows[-1:]))
    return newest_s + (BLOCK_NS / NS_PER_S if estimate.age_ms is None else estimate.age_ms / 1000)


def _at(estimate: Estimate) -> str:
    return f"t {estimate.t:.3f} s, person {estimate.person}"


def difference(recorded: object, replayed: object, *, tolerance: float = 0.0, field: str = "") -> str:
    """The first field in which two messages differ, with both values; empty where none does."""
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        left_out = (*CLOCK, *TIPPING) if tolerance else CLOCK
        names = [name for name in (*recorded, *(replayed.keys() - recorded.keys())) if field or name not in left_out]
        pairs = [(f"{field}.{name}" if field else name, recorded.get(name), replayed.get(name)) for name in names]
    elif isinstance(recorded, list | tuple) and isinstance(replayed, list | tuple) and len(recorded) == len(replayed):
        pairs = [(f"{field}[{k}]", *pair) for k, pair in enumerate(zip(recorded, replayed, strict=True))]
    else:
        if tolerance and isinstance(recorded, float) and isinstance(replayed, float):
            same = abs(recorded - replayed) <= tolerance
        else:
            same = recorded == replayed
        return "" if same else f"{field}: recorded {recorded}, replayed {replayed}"
    return next((text for name, *pair in pairs if (text := difference(*pair, tolerance=tolerance, field=name))), "")
