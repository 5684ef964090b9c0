"""Which hops a session scores: all of them, every k-th that somebody asked for, or those that it has the time for."""

import threading
from collections.abc import Callable, Collection
from enum import StrEnum

from stream.delivery import Delivery
from stream.windows import NS_PER_S

MAX_EVERY = 40  # segments from one scored to the next, at most
EXACT_S = 1e-6  # a hop that was asked for is a multiple of the segment's length within this


class LeftOut(StrEnum):
    """Why a hop is not scored; a session counts each by this name."""

    OVERTAKEN = "left out"  # a newer one was due: a drop
    ASKED = "left out as asked"  # paused, or between two hops of a longer length


class HopChoice:
    """Decides of each segment whether it is scored. The scoring thread asks; any thread may change what is asked for.

    Args:
        segment_ns: Length of a segment; the recogniser's scheme fixes it.
        delivery: In a live session (`drop_oldest`) a hop that is overtaken before it is scored is left out, and so is
            what comes in a pause. A replay (`wait`) leaves nothing out, and stands still in a pause.
        plan: Segments that are left out, as a live session decided that is now replayed; nothing else is decided then.

    Attributes:
        every: Each how many segments one is scored.
    """

    def __init__(self, segment_ns: int, *, delivery: Delivery, plan: Collection[int] | None = None) -> None:
        self.every = 1
        self._segment_ns, self._delivery, self._plan = segment_ns, delivery, plan
        self._changed = threading.Condition()
        self._paused = self._released = False

    @property
    def hop_s(self) -> float:
        """Seconds between the hops that are scored."""
        return round(self.every * self._segment_ns / NS_PER_S, 6)

    def set_hop(self, hop_s: float) -> None:
        """Score one segment each so many seconds.

        Raises:
            ValueError: If that is no whole number of segments, or too many.
        """
        segment_s = self._segment_ns / NS_PER_S
        every = round(min(max(hop_s / segment_s, 1), MAX_EVERY))
        if abs(hop_s - every * segment_s) > EXACT_S:
            raise ValueError(
                f"expected a hop of 1 to {MAX_EVERY} times the recogniser's {segment_s:g} s, got {hop_s:g} s; the "
                f"nearest is {every * segment_s:g}"
            )
        self.every = every

    def pause(self, paused: bool) -> None:
        """Score nothing until told otherwise."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def release(self) -> None:
        """Never stand still again: the stream ends."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def holds(self, wait_s: float) -> bool:
        """Whether the stream stands still, after waiting so long at most for it to go on."""
        if self._delivery is not Delivery.WAIT or self._plan is not None:
            return False
        with self._changed:
            return not self._changed.wait_for(lambda: self._released or not self._paused, wait_s)

    def why_not(self, segment: int, is_due: Callable[[int], bool]) -> LeftOut | None:
        """Why a segment is not to be scored; None where it is.

        Args:
            segment: The segment, which is complete.
            is_due: Whether a later one is complete, too.
        """
        if self._plan is not None:
            return LeftOut.OVERTAKEN if segment in self._plan else None
        every, live = self.every, self._delivery is Delivery.DROP_OLDEST
        if segment % every or (self._paused and live):
            return LeftOut.ASKED
        # Live, the newest counts: what is overtaken before it is scored would only make the next one older.
        return LeftOut.OVERTAKEN if live and is_due(segment + every) else None
