"""From sample index to clock time and back, along straight pieces: rising, without jumps, between two breaks."""

from bisect import bisect_right

import numpy as np

from stream.windows import NS_PER_S

N_KNOTS = 4096  # kept at most: over 5 s of the smallest blocks


class SampleMap:
    """A strictly rising line of straight pieces. Its pieces are x, seconds of sound at the nominal rate, to y, seconds
    of the clock, both since an origin: small numbers, which a float holds to a nanosecond over weeks.

    Args:
        rate_hz: The device's nominal rate.
        origin: The sample index and the clock time (ns) that are x = 0 and y = 0.
        x: Where the map begins.
        y: Clock seconds there.
        slope: Clock seconds to a second of sound, from there on.
    """

    def __init__(self, rate_hz: int, *, origin: tuple[int, int], x: float, y: float, slope: float) -> None:
        self._rate_hz, self._origin = rate_hz, origin
        self._x, self._y, self._slopes = [x], [y], [slope]
        self._end_y: float | None = None

    def y(self, x: float) -> float:
        """Clock seconds at x; before the first knot and after the last one their pieces go on."""
        piece = max(bisect_right(self._x, x) - 1, 0)
        return self._y[piece] + (x - self._x[piece]) * self._slopes[piece]

    def turn(self, x: float, slope: float) -> None:
        """From x on, behind every knot so far, go on with another slope."""
        self._y.append(self.y(x))
        self._x.append(x)
        self._slopes.append(slope)
        if len(self._x) > N_KNOTS:
            self._drop(len(self._x) // 2)

    def end(self, index: int) -> None:
        """Say that the sample before `index` was the last one."""
        self._end_y = self.y((index - self._origin[0]) / self._rate_hz)

    def start_after(self, before: "SampleMap") -> None:
        """Lift a map that was just begun so that it begins no sooner than the one before it ends."""
        end = before.y(self._x[0]) if before._end_y is None else before._end_y
        self._y[0] = max(self._y[0], end)

    def time_ns(self, index: int) -> int:
        """The clock time of a sample."""
        return self._origin[1] + round(self.y((index - self._origin[0]) / self._rate_hz) * NS_PER_S)

    def indices(self, t_ns: np.ndarray, *, less: int) -> np.ndarray:
        """Where in the samples clock times lie: index, with its fraction, less `less`; (n,) int64 to (n,) float64."""
        x, y, slopes = np.array(self._x), np.array(self._y), np.array(self._slopes)
        at = (t_ns - self._origin[1]) / NS_PER_S
        piece = np.maximum(np.searchsorted(y, at, side="right") - 1, 0)
        return np.asarray((x[piece] + (at - y[piece]) / slopes[piece]) * self._rate_hz + (self._origin[0] - less))

    def forget(self, index: int) -> None:
        """Let go of the knots that are not needed for samples from `index` on."""
        self._drop(bisect_right(self._x, (index - self._origin[0]) / self._rate_hz) - 1)

    def _drop(self, n: int) -> None:
        if n > 0:
            del self._x[:n], self._y[:n], self._slopes[:n]
