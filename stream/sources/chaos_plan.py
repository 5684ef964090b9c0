"""What is to go wrong with a stream, as text: `camera-loss@10s+3s,overrun~20s,drift=200ppm`.

`@` says when, in session seconds; `+` for how long; `~` about how often, drawn from a seed: once in each period of that
length, at any time in it. `=` gives a size. What is drawn depends on the seed, the plan and the time alone.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.windows import NS_PER_S

OVERRUN_NS = 32_000_000  # one block of 512 samples
EXAMPLES = {
    "camera-loss": "camera-loss@10s+3s or camera-loss~20s+1s",
    "microphone-loss": "microphone-loss@4s+2s or microphone-loss~20s+1s",
    "stall": "stall@8s+1s or stall~20s+500ms",
    "overrun": "overrun@5s or overrun~20s",
    "drift": "drift=200ppm or drift=-200ppm",
    "jitter": "jitter=20ms",
    "noise": "noise=-40dB",
    "slow-scoring": "slow-scoring=2.5s",
    "slow-subscriber": "slow-subscriber",
}
UNITS_NS = {"ms": 1_000_000, "s": NS_PER_S, "min": 60 * NS_PER_S}
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = rf"{_NUMBER}(?:ms|s|min)"
_TIMED = re.compile(rf"(?P<how>[@~])(?P<at>{_DURATION})(?:\+(?P<lasts>{_DURATION}))?")
_SIZES = {
    "drift": re.compile(rf"=([+-]?{_NUMBER})ppm"),
    "noise": re.compile(rf"=(-{_NUMBER})dB"),
    "jitter": re.compile(rf"=({_DURATION})"),
    "slow-scoring": re.compile(rf"=({_DURATION})"),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that begins and ends.

    Attributes:
        kind: `camera-loss`, `microphone-loss`, `stall` or `overrun`.
        at_ns: When it begins; where it `repeats`, the length of the periods in each of which it comes once.
        lasts_ns: For how long.
        repeats: Whether it comes again and again.
    """

    kind: str
    at_ns: int
    lasts_ns: int
    repeats: bool = False

    def __post_init__(self) -> None:
        if self.lasts_ns <= 0 or (self.repeats and self.lasts_ns > self.at_ns):
            raise ValueError(
                f"{self.kind}: expected a duration above 0 and, where it repeats, not above its period, got "
                f"{self.lasts_ns / NS_PER_S:g} s"
            )

    def spans(self, start_ns: int, end_ns: int, seed: int, number: int) -> list[tuple[int, int]]:
        """[start, end) of each time that it holds within [start_ns, end_ns), whole; `number` tells faults apart."""
        if not self.repeats:
            begins = [self.at_ns]
        else:
            room_ns, key = self.at_ns - self.lasts_ns + 1, f"{number}/{self.kind}"
            periods = range(max(start_ns, 0) // self.at_ns, (end_ns - 1) // self.at_ns + 1)
            begins = [k * self.at_ns + (random_word(seed, key, k) * room_ns >> 64) for k in periods]
        return [(b, b + self.lasts_ns) for b in begins if b < end_ns and start_ns < b + self.lasts_ns]


@dataclass(frozen=True, kw_only=True)
class ChaosPlan:
    """Everything that is to go wrong.

    Attributes:
        text: As it was asked for.
        faults: Those that begin and end.
        drift_ppm: How much faster than the session clock the microphone's is to run.
        jitter_ns: How much later than they come items may be handed on.
        noise_db: Level of white noise under the sound, in decibels of full scale; None adds none.
        slow_scoring_s: How much longer scoring one hop is to take.
        slow_subscriber: Whether somebody subscribes and never reads.
    """

    text: str = ""
    faults: tuple[Fault, ...] = ()
    drift_ppm: float = 0.0
    jitter_ns: int = 0
    noise_db: float | None = None
    slow_scoring_s: float = 0.0
    slow_subscriber: bool = False

    def __post_init__(self) -> None:
        if abs(self.drift_ppm) > 10_000:
            raise ValueError(f"drift: expected -10000 to 10000 ppm, got {self.drift_ppm:g}")

    def spans(self, kind: str, start_ns: int, end_ns: int, seed: int) -> list[tuple[int, int]]:
        """[start, end) of each time that a kind of fault holds within [start_ns, end_ns), ascending and apart."""
        found = sorted(
            span
            for number, fault in enumerate(self.faults)
            if fault.kind == kind
            for span in fault.spans(start_ns, end_ns, seed, number)
        )
        apart: list[tuple[int, int]] = []
        for start, end in found:
            if apart and start <= apart[-1][1]:
                apart[-1] = apart[-1][0], max(end, apart[-1][1])
            else:
                apart.append((start, end))
        return apart

    @property
    def waits(self) -> bool:
        """Whether some fault only holds items back, which a source at full speed has no use for."""
        return self.jitter_ns > 0 or any(fault.kind == "stall" for fault in self.faults)


@dataclass
class _Draft:
    faults: list[Fault] = field(default_factory=list)
    sizes: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> ChaosPlan:
    """The plan that a text states: faults with commas between.

    Raises:
        ValueError: If a fault is unknown, or not written as it should be; the text lists what there is.
    """
    draft = _Draft()
    for part in (part.strip() for part in text.split(",")):
        name = re.split("[@~=]", part, maxsplit=1)[0]
        if name not in EXAMPLES:
            raise ValueError(f"chaos: expected faults of {', '.join(EXAMPLES)}, got {part!r}")
        if not _add(draft, name, part[len(name) :]):
            raise ValueError(f"chaos: expected {EXAMPLES[name]}, once where it has a size, got {part!r}")
    return ChaosPlan(text=text, faults=tuple(draft.faults), **draft.sizes)


def _add(draft: _Draft, name: str, rest: str) -> bool:
    if name in _SIZES:
        match = _SIZES[name].fullmatch(rest)
        key, value = _size(name, match[1]) if match else ("", None)
    elif name == "slow-subscriber":
        match = re.fullmatch("", rest)
        key, value = "slow_subscriber", True
    else:
        match = _TIMED.fullmatch(rest)
        if match is None or (match["lasts"] is None and name != "overrun"):
            return False
        lasts_ns = OVERRUN_NS if match["lasts"] is None else _duration_ns(match["lasts"])
        repeats = match["how"] == "~"
        draft.faults.append(Fault(kind=name, at_ns=_duration_ns(match["at"]), lasts_ns=lasts_ns, repeats=repeats))
        return True
    if match is None or key in draft.sizes:
        return False
    draft.sizes[key] = value
    return True


def _size(name: str, value: str) -> tuple[str, float | int]:
    match name:
        case "drift":
            return "drift_ppm", float(value)
        case "noise":
            return "noise_db", float(value)
        case "jitter":
            return "jitter_ns", _duration_ns(value)
    return "slow_scoring_s", _duration_ns(value) / NS_PER_S


def _duration_ns(text: str) -> int:
    number = re.match(_NUMBER, text)
    assert number is not None
    return round(float(number[0]) * UNITS_NS[text[number.end() :]])


def generator(seed: int, key: str, count: int) -> np.random.Generator:
    """A generator that depends on these three alone: nothing is carried over from one count to the next."""
    digest = hashlib.blake2b(f"{seed}/chaos/{key}".encode(), digest_size=16).digest()
    counter = np.array([0, 0, count % 2**64, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, "<u8"), counter=counter))


def random_word(seed: int, key: str, count: int) -> int:
    """64 random bits, likewise."""
    return int(generator(seed, key, count).bit_generator.random_raw())
