"""How fast a recorded source hands out its items."""

import threading
from enum import StrEnum

from stream.clock import Clock


class Speed(StrEnum):
    """The pace of a recorded source."""

    REALTIME = "realtime"  # each item when it would have arrived live
    MAX = "max"  # as fast as the reader takes them


class Pacer:
    """Holds each item back until it is due, counted from `start`.

    A reader that was slow is served at once until it has caught up: due times are never shifted.
    """

    def __init__(self, speed: Speed, clock: Clock) -> None:
        self.paced = speed is Speed.REALTIME
        self._clock = clock
        self._origin_ns = clock.now_ns()

    def start(self) -> None:
        """Say that media time 0 is now."""
        self._origin_ns = self._clock.now_ns()

    def await_due(self, due_ns: int, stop: threading.Event) -> None:
        """Return when media time `due_ns` has come, or `stop` is set. At `max` speed, return at once."""
        if self.paced:
            self._clock.wait_until(self._origin_ns + due_ns, stop)
