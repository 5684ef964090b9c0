"""A sound card's clock against the session's: which clock time a sample was taken at, learned while it runs.

A callback may come late by tens of milliseconds, and never early: a sample cannot be handed over before it was taken.
So the times told lie above the true line, and their lower envelope is the line. (A least-squares line, which others
use, lies above it by the mean lateness and moves with the load of the machine.) The envelope is taken every 2 s, as a
low quantile, which a wrong time now and then does not move; through the last two minutes of them goes a straight line,
weighted after Huber and held near the nominal rate until there is enough to tell. The map that is handed out follows
this line without ever jumping: it runs a little faster or slower until it meets it.
"""

from bisect import bisect_left
from collections import deque

import numpy as np

from stream.sources.sample_map import SampleMap
from stream.windows import NS_PER_S

BATCH_S = 2.0  # of sound, reduced to one point of the lower envelope
N_BATCH = 20  # times told, at the least, in one such batch
N_LEVELS = 60  # points that the line goes through: two minutes
N_TELLING = 5  # points from which on the line's slope says something
QUANTILE = 0.02  # of the times told in a batch, taken for its lower envelope
PRIOR_SLOPE = 1e-4  # standard deviation of quartz from its nominal rate; large ones reach 2e-4
FIRST_NOISE_S, LEAST_NOISE_S = 0.001, 0.0002  # of the envelope's points about the line
SURE_S = 0.0003  # the first level counts as known when it would hardly move with one time more
FEW, MANY, LONG_S = 10, 20, 0.5  # times told before the first level is believed: when they agree, and at the latest
SAME_S = 0.004  # a level after lost samples that is nearer to the old line than this is the old line
STEP_S = 0.01  # a whole batch further from the line than this is no jitter: samples were lost, or the line was wrong
SLEW_S = 2.0  # time in which the map would meet the line
SLEW, FAST_SLEW, FAR_S = 0.002, 0.02, 0.04  # by how much it may run faster or slower for that; more when it is far off


class SampleClock:
    """The line from sample index to clock time, for one opening of one device. One thread.

    Args:
        rate_hz: The device's nominal rate.

    Attributes:
        settled: Whether enough was told to say where samples lie; false again after lost samples, for a moment.
        map: From sample index to clock time, for the samples since the last break; None before the first settling.
            A break makes a new one.
        drift_ppm: How much faster than nominal the device's clock runs; None in the first seconds.
        residual_ms: Root mean square of the envelope's points about the line; None in the first seconds.
        n_steps: Times that samples turned out to have been lost although nothing had said so.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._origin: tuple[int, int] | None = None  # sample index and clock time that all is counted from
        self._x0 = self._level = self._slope = 0.0  # the line: how late a sample is against the nominal rate
        self._levels: deque[tuple[float, float]] = deque(maxlen=N_LEVELS)
        self._batch: list[tuple[float, float]] = []
        self._noise_s = FIRST_NOISE_S
        self.settled = False
        self.map: SampleMap | None = None
        self.drift_ppm: float | None = None
        self.residual_ms: float | None = None
        self.n_steps = 0

    def observe(self, index: int, t_ns: int) -> None:
        """Take one time told: sample `index`, higher than in the call before, was taken at `t_ns` or a little sooner.

        The map for samples before `index` does not change any more.
        """
        if self._origin is None:
            self._origin = (index, t_ns)
        x = (index - self._origin[0]) / self._rate_hz
        self._batch.append((x, (t_ns - self._origin[1]) / NS_PER_S - x))
        if not self.settled:
            if self._believable():
                self.settle()
        else:
            if len(self._batch) >= N_BATCH and x - self._batch[0][0] >= BATCH_S:
                self._reduce(x)
            self._steer(x)

    def lost_before(self, end: int) -> None:
        """Say that samples were lost after sample `end` - 1, and that how many is not known exactly.

        The line's slope is kept; its level is learned anew from the times told next.
        """
        self.settle()
        self._batch = []
        self.settled = False
        if self.map is not None:
            self.map.end(end)

    def settle(self) -> None:
        """Make do with what was told so far. Without anything told since a break, nothing changes."""
        if self.settled or not self._batch:
            return
        x = self._batch[0][0]
        low = _low([late - self._late(at) for at, late in self._batch])
        if self.map is None or abs(low) > SAME_S:
            self._shift(low)
        self._begin_map(x)
        self.settled = True

    def time_ns(self, index: int) -> int:
        """The clock time of a sample since the last break; strictly ascending with the index.

        Raises:
            ValueError: If nothing was settled yet.
        """
        if self.map is None:
            raise ValueError("expected times told before one is asked for; call observe, then settle")
        return self.map.time_ns(index)

    def _believable(self) -> bool:
        # The least of n times evenly spread lies one n-th of the spread above the envelope.
        late = [late for _, late in self._batch]
        n = len(late)
        agree = n >= FEW and (max(late) - min(late)) / n < SURE_S
        return agree or (n >= MANY and self._batch[-1][0] - self._batch[0][0] >= LONG_S)

    def _late(self, x: float) -> float:
        return self._level + self._slope * (x - self._x0)

    def _shift(self, by: float) -> None:
        self._level += by
        self._levels = deque(((x, late + by) for x, late in self._levels), N_LEVELS)

    def _reduce(self, x: float) -> None:
        late = sorted(late - self._late(at) for at, late in self._batch)
        low = _low(late)
        if low > STEP_S:
            self._shift(low)
            self._begin_map(x)
            self.n_steps += 1
        elif late[len(late) // 2] < -STEP_S:
            self._shift(low)
        else:
            middle = (x + self._batch[0][0]) / 2
            self._levels.append((middle, self._late(middle) + low))
            self._fit(x)
        self._batch = []

    def _fit(self, x: float) -> None:
        at, late = np.array(self._levels).T
        design = np.stack([np.ones_like(at), at - x], axis=1)
        weights = np.ones_like(at)
        for _ in range(4):
            weighted = design * weights[:, None] / self._noise_s**2
            prior = np.diag([0.0, PRIOR_SLOPE**-2])
            line = np.linalg.solve(weighted.T @ design + prior, weighted.T @ late)
            off = np.abs(late - design @ line)
            self._noise_s = max(1.48 * float(np.median(off)), LEAST_NOISE_S)
            weights = np.minimum(1.0, 1.5 * self._noise_s / np.maximum(off, 1e-12))
        self._x0, self._level, self._slope = x, float(line[0]), float(line[1])
        if len(at) >= N_TELLING:
            self.residual_ms = 1e3 * float(np.sqrt(np.mean(off**2)))
            self.drift_ppm = 1e6 * (1 / (1 + self._slope) - 1)

    def _begin_map(self, x: float) -> None:
        assert self._origin is not None
        y = x + self._late(x)
        begun = SampleMap(self._rate_hz, origin=self._origin, x=x, y=y, slope=1 + self._slope)
        if self.map is not None:
            begun.start_after(self.map)
        self.map = begun

    def _steer(self, x: float) -> None:
        assert self.map is not None
        off = x + self._late(x) - self.map.y(x)
        most = FAST_SLEW if abs(off) > FAR_S else SLEW
        self.map.turn(x, 1 + self._slope + min(max(off / SLEW_S, -most), most))


def _low(late: list[float]) -> float:
    # Times that are far too early (Tukey's fence) are wrong, for whatever reason.
    late = sorted(late)
    quarter, three = late[len(late) // 4], late[3 * len(late) // 4]
    within = late[bisect_left(late, quarter - 1.5 * (three - quarter)) :]
    return within[int(QUANTILE * len(within))]
