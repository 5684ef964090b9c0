"""Tells pictures that a camera takes now from those that waited somewhere on the way."""

from collections import deque
from statistics import median

SHORTEST_PERIOD_NS = 16_000_000  # taken where a camera does not say its rate: 60 pictures a second
GAP_PERIODS = 3  # a wait as long as this may leave a backlog behind it
LONGEST_NS = 1_000_000_000  # no backlog is taken to last longer than this


class Backlog:
    """Pictures are stamped when they arrive, so one that waited in a buffer would be stamped too late.

    A backlog shows itself: its pictures come faster than the camera takes them. So after the opening, and after each
    gap of three periods, pictures count only from the first that comes at least a third of a period after the one
    before it; this costs one picture where there was no backlog. The presentation times of a network stream are not
    used: some have none, some count pictures, and some are of a clock that was never set.

    Args:
        rate_hz: The camera's rate, if it says one.
    """

    def __init__(self, rate_hz: float | None) -> None:
        self._stated_ns = SHORTEST_PERIOD_NS if rate_hz is None else int(1e9 / rate_hz)
        self._steps_ns: deque[int] = deque(maxlen=15)  # in poor light a camera is slower than it says
        self._last_ns: int | None = None
        self._since_ns: int | None = None  # the time of the gap that a backlog may follow

    def waited(self, at_ns: int) -> bool:
        """Whether the picture that arrives now, in ascending order, may have waited."""
        last_ns, self._last_ns = self._last_ns, at_ns
        if last_ns is None:
            self._since_ns = at_ns
            return True
        step_ns = at_ns - last_ns
        steps_ns = self._steps_ns or [step_ns]
        # The step before counts too: a camera that has just become slow leaves no backlog at each picture.
        gap_ns = GAP_PERIODS * max(self._stated_ns, median(steps_ns), steps_ns[-1])
        self._steps_ns.append(step_ns)
        if step_ns > gap_ns:
            self._since_ns = at_ns
            return True
        if self._since_ns is not None and (3 * step_ns >= self._stated_ns or at_ns - self._since_ns > LONGEST_NS):
            self._since_ns = None
        return self._since_ns is not None
