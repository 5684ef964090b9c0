"""What a running stream measures of itself, for its status messages and its final totals."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

LOOK_BACK = 1000  # values that a percentile looks back over


class Meters:
    """Counters, and latencies in milliseconds. Any thread may count; the scoring thread reads.

    Args:
        now_s: A monotonic clock in seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._since_s = now_s()
        self._latencies: dict[str, deque[float]] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter: `frames`, `analysed`, `hops`, `estimates`."""
        with self._lock:
            self._totals[name] += n

    def total(self, name: str) -> int:
        """A counter since the start."""
        with self._lock:
            return self._totals[name]

    def time(self, name: str, ms: float) -> None:
        """Note a latency: `engine`, `age`."""
        with self._lock:
            self._latencies.setdefault(name, deque(maxlen=LOOK_BACK)).append(ms)

    def percentiles(self, name: str) -> tuple[float, float] | None:
        """p50 and p99 of a latency, in ms; None before the first."""
        with self._lock:
            values = list(self._latencies.get(name, ()))
        if not values:
            return None
        low, high = np.percentile(values, [50, 99])
        return round(float(low), 3), round(float(high), 3)

    def mean(self, name: str) -> float:
        """Mean of a latency's last values, in ms; 0 before the first."""
        with self._lock:
            values = self._latencies.get(name, ())
            return sum(values) / max(1, len(values))

    def due(self, every_s: float) -> bool:
        """Whether `every_s` have passed since the rates were last read."""
        return self._now_s() - self._since_s >= every_s

    def rates(self) -> dict[str, float]:
        """Counts per second since this was last called; starts the next second."""
        with self._lock:
            now_s = self._now_s()
            lasted_s = max(1e-9, now_s - self._since_s)
            rates = {name: (n - self._before[name]) / lasted_s for name, n in self._totals.items()}
            self._since_s, self._before = now_s, self._totals.copy()
        return rates
