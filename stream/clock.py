"""The clocks that pace a stream: the machine's own, one that can be held, and one that tests turn by hand."""

import threading
import time
from typing import Protocol

LOOK_S = 0.05  # between two looks at whether a clock is held


class Clock(Protocol):
    """A clock that can be read and waited on, in nanoseconds since some fixed instant."""

    def now_ns(self) -> int:
        """The time now; never runs backwards."""
        ...

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Return when the clock reads `t_ns` or later, or when `stop` is set, whichever comes first."""
        ...


class MonotonicClock:
    """The machine's monotonic clock. Any thread may call."""

    def now_ns(self) -> int:
        """Nanoseconds since an instant that holds for this run of the machine."""
        return time.monotonic_ns()

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Sleep until `t_ns`; `stop` ends the sleep at once."""
        while (left_ns := t_ns - self.now_ns()) > 0 and not stop.wait(left_ns / 1e9):
            pass


class HeldClock:
    """A clock that somebody may hold: it then stands still, and goes on later from where it stood. Any thread may call.

    Args:
        clock: What runs while it is not held; the machine's own if not given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._stood_ns = 0  # in all, up to the last time that it went on
        self._held_at_ns: int | None = None

    def now_ns(self) -> int:
        """The time of the clock without that for which it was held."""
        with self._lock:
            now_ns = self._clock.now_ns() if self._held_at_ns is None else self._held_at_ns
            return now_ns - self._stood_ns

    def hold(self, held: bool) -> None:
        """Stand still, or go on; twice does no harm."""
        with self._lock:
            if held and self._held_at_ns is None:
                self._held_at_ns = self._clock.now_ns()
            elif not held and self._held_at_ns is not None:
                self._stood_ns += self._clock.now_ns() - self._held_at_ns
                self._held_at_ns = None

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Sleep until `t_ns`, however long it is held meanwhile; `stop` ends the sleep at once."""
        while (left_ns := t_ns - self.now_ns()) > 0 and not stop.wait(min(left_ns / 1e9, LOOK_S)):
            pass


class ManualClock:
    """A clock that stands still until it is turned. Any thread may call.

    Args:
        start_ns: What it reads at first.
        jumps: Whether a wait turns the clock to the awaited time itself and returns at once, so that a paced source
            runs through without a second thread. Otherwise a wait blocks until `advance` has turned the clock.
    """

    def __init__(self, start_ns: int = 0, *, jumps: bool = False) -> None:
        self._now_ns = start_ns
        self._jumps = jumps
        self._turned = threading.Condition()
        self.waits_ns: list[int] = []  # every time that was waited for, in order

    def now_ns(self) -> int:
        """The time it was turned to last."""
        with self._turned:
            return self._now_ns

    def advance(self, by_ns: int) -> None:
        """Turn the clock forward and wake whoever waits for the new time.

        Raises:
            ValueError: If `by_ns` is negative.
        """
        if by_ns < 0:
            raise ValueError(f"expected a time to advance by of 0 ns or more, got {by_ns}")
        with self._turned:
            self._now_ns += by_ns
            self._turned.notify_all()

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Note the wait; then jump to `t_ns`, or block until the clock is turned that far or `stop` is set."""
        with self._turned:
            self.waits_ns.append(t_ns)
            self._turned.notify_all()
            if self._jumps:
                self._now_ns = max(self._now_ns, t_ns)
            while self._now_ns < t_ns and not stop.is_set():
                # The event cannot wake a condition, so it is looked at again a hundred times a second.
                self._turned.wait(0.01)

    def await_waits(self, n: int, timeout_s: float = 10.0) -> bool:
        """Block until `n` waits have begun since the clock was made; false where `timeout_s` ran out first."""
        with self._turned:
            return self._turned.wait_for(lambda: len(self.waits_ns) >= n, timeout_s)
