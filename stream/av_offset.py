"""How late a camera's picture is against a microphone's sound, from flashes and clicks that happen together.

Frames come at their own phase, so one flash is known to within a frame period at best: the onset is put where the
brightness crosses half of its step, between two frames, and several flashes at different phases are averaged. Twelve at
25 frames a second leave about 3 ms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stream.records import RATE_HZ, AudioBlock, SourceEvent, VideoFrame
from stream.windows import NS_PER_S

MIN_STEP = 4.0  # of the mean brightness, 0 to 255: a bright phone in a tenth of the picture
MIN_RISE = 20.0  # of a click's power over what was there before: 13 dB
APART_S = 0.3  # what follows a flash or click sooner belongs to it
PAIR_S = 0.5  # farthest that a flash and its click may lie apart
MIN_PAIRS = 5
MAX_SPREAD_MS = 40.0  # half-second-wide chance pairs spread far more; 10 frames a second spread 29


class OffsetError(ValueError):
    """An offset that cannot be told; the text says what came and what to do."""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """What was measured.

    Attributes:
        offset_ms: Picture against sound; positive: the picture is late.
        spread_ms: Standard deviation of one pair; the mean's is smaller by the root of their number.
        n_pairs: Pairs of a flash and a click that it comes from.
    """

    offset_ms: float
    spread_ms: float
    n_pairs: int


def flashes(times_ns: Sequence[int], brightness: Sequence[float]) -> list[int]:
    """Onset times of sudden steps up in brightness.

    Args:
        times_ns: Of the frames, ascending.
        brightness: Mean brightness of each frame, 0 to 255.

    Returns:
        Where half of each step is crossed, between two frames; steps beside which frames are missing are left out.
    """
    if len(times_ns) < 5:
        return []
    t, b = np.asarray(times_ns, np.int64), np.asarray(brightness, np.float64)
    changes = np.abs(np.diff(b))
    least = max(MIN_STEP, 8 * 1.4826 * float(np.median(changes)))
    # From the median before it to the brightest of three: one exposed while the light goes on halves no step.
    before = np.array([np.median(b[max(0, k - 4) : k]) if k else b[0] for k in range(len(b))])
    rise = np.array([b[k : k + 3].max() for k in range(len(b))]) - before
    period_ns = float(np.median(np.diff(t)))
    found: list[tuple[int, float]] = []
    for near in np.flatnonzero(rise >= least):
        if found and t[near] - found[-1][0] < APART_S * NS_PER_S:
            continue
        k = near + int(np.argmax(rise[near : near + 3]))
        half = before[k] + rise[k] / 2
        first = int(k + np.argmax(b[k : k + 3] >= half))
        if first == 0 or b[first - 1] >= half or t[first] - t[first - 1] > 1.8 * period_ns:
            continue
        share = (half - b[first - 1]) / (b[first] - b[first - 1])
        found.append((int(t[first - 1] + share * (t[first] - t[first - 1])), float(rise[k])))
    usual = float(np.median([r for _, r in found])) if found else 0.0
    return [at_ns for at_ns, r in found if r >= 0.4 * usual]


def clicks(samples: np.ndarray, rate_hz: int, start_ns: int) -> list[int]:
    """Onset times of sudden rises in the power of sound.

    Args:
        samples: (n,) float32 in [-1, 1], without gaps.
        rate_hz: Their rate.
        start_ns: Time of the first.

    Returns:
        The first sample of each, to about 1 ms.
    """
    width = rate_hz // 1000
    if len(samples) < 100 * width:
        return []
    wave = samples.astype(np.float64)
    sharp = wave - np.convolve(wave, np.full(2 * width, 0.5 / width), mode="same")  # hum and rumble have little of it
    total = np.concatenate([[0.0], np.cumsum(sharp**2)])
    n_ms = len(samples) // width
    power = np.diff(total[: n_ms * width + 1 : width]) / width
    onsets: list[int] = []
    usual = float(np.median(power)) + 1e-12
    for k in np.flatnonzero(power >= MIN_RISE * usual):
        # The first 50 ms have nothing to be compared with; an echo, or the rest of a word, is no click of its own.
        if k < 50 or (onsets and (k * width - onsets[-1]) < APART_S * rate_hz):
            continue
        loud = float(power[k : k + 10].max())
        if loud < MIN_RISE * (float(np.median(power[max(0, k - 300) : k - 2])) + 1e-12):
            continue
        near = sharp[(k - 1) * width : (k + 10) * width] ** 2
        onsets.append((int(k) - 1) * width + int(np.argmax(near >= 0.1 * near.max())))
    return [start_ns + round(at * NS_PER_S / rate_hz) for at in onsets]


def offset(flash_times_ns: Sequence[int], click_times_ns: Sequence[int]) -> Offset:
    """The offset from onset times: each flash with its nearest click, outliers left out, the others averaged.

    Raises:
        OffsetError: If there are too few pairs, or they disagree.
    """
    n_flashes, n_clicks = len(flash_times_ns), len(click_times_ns)
    came = f"{n_flashes} flashes and {n_clicks} clicks"
    advice = "more light on the picture" if n_flashes < n_clicks else "a louder click in a quieter room"
    late_ms = _pairs_ms(flash_times_ns, click_times_ns)
    if len(late_ms) < MIN_PAIRS:
        raise OffsetError(
            f"expected {MIN_PAIRS} or more flashes with a click within {PAIR_S:g} s, got {len(late_ms)} of {came}; "
            f"try {advice}, nearer to the camera and the microphone"
        )
    centre = np.median(late_ms)
    deviation = 1.4826 * np.median(np.abs(late_ms - centre))
    kept = late_ms[np.abs(late_ms - centre) <= max(3 * deviation, 10.0)]
    spread_ms = float(kept.std(ddof=1))
    if spread_ms > MAX_SPREAD_MS or len(kept) < MIN_PAIRS:
        raise OffsetError(
            f"expected pairs that agree within {MAX_SPREAD_MS:g} ms, {len(kept)} of {came} spread over "
            f"{spread_ms:.0f} ms; try {advice}, and keep other sounds and lights away"
        )
    return Offset(offset_ms=round(float(kept.mean()), 2), spread_ms=round(spread_ms, 2), n_pairs=len(kept))


def _pairs_ms(flash_times_ns: Sequence[int], click_times_ns: Sequence[int]) -> np.ndarray:
    # Only mutual nearest pairs: a sound that nobody flashed for does not take a flash away from its own click.
    if not flash_times_ns or not click_times_ns:
        return np.empty(0)
    apart = np.subtract.outer(np.asarray(flash_times_ns, np.int64), np.asarray(click_times_ns, np.int64))
    nearest = np.abs(apart).argmin(1)
    mutual = np.abs(apart).argmin(0)[nearest] == np.arange(len(nearest))
    late_ms = apart[np.arange(len(nearest)), nearest] / 1e6
    return np.asarray(late_ms[mutual & (np.abs(late_ms) <= PAIR_S * 1e3)])


class Watch:
    """Looks for flashes and clicks in what a source gives."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._brightness: list[float] = []
        self._runs: list[list[AudioBlock]] = []
        self.reached_ns = 0

    def take(self, item: VideoFrame | AudioBlock | SourceEvent) -> None:
        """An item, in order."""
        match item:
            case VideoFrame():
                self._times_ns.append(item.t_ns)
                self._brightness.append(float(item.image[::4, ::4].mean()))
                self.reached_ns = max(self.reached_ns, item.t_ns)
            case AudioBlock():
                last = self._runs[-1][-1] if self._runs else None
                if last is None or last.first + len(last.samples) != item.first:
                    self._runs.append([])
                self._runs[-1].append(item)
                self.reached_ns = max(self.reached_ns, (item.first + len(item.samples)) * NS_PER_S // RATE_HZ)

    def found(self) -> tuple[list[int], list[int]]:
        """Times of the flashes and of the clicks so far."""
        heard = []
        for run in self._runs:
            samples = np.concatenate([block.samples for block in run])
            heard += clicks(samples, RATE_HZ, run[0].first * NS_PER_S // RATE_HZ)
        return flashes(self._times_ns, self._brightness), heard


def measure(
    items: Iterable[VideoFrame | AudioBlock | SourceEvent], *, n_flashes: int = 12, longest_s: float = 60.0
) -> Offset:
    """The offset between picture and sound of a source, read until enough flashes came, its end, or `longest_s`.

    Raises:
        OffsetError: If the offset cannot be told.
    """
    watch, checked_ns = Watch(), 0
    for item in items:
        watch.take(item)
        if watch.reached_ns < checked_ns + NS_PER_S:
            continue
        checked_ns = watch.reached_ns
        seen, heard = watch.found()
        if len(_pairs_ms(seen, heard)) >= n_flashes or watch.reached_ns >= longest_s * NS_PER_S:
            break
    return offset(*watch.found())
