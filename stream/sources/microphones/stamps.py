"""Where a callback's samples lie: by their number since the opening, and by the clock."""

from typing import NamedTuple

from stream.windows import NS_PER_S

DOUBT_S = 0.02  # of age beyond the latency that PortAudio states, from which on its account is not believed
DOUBT_LASTS_S = 0.1


class Stamp(NamedTuple):
    """Number of a block's first sample, and the clock time at which it was converted."""

    first: int
    adc_ns: int


class Stamps:
    """Stamps one opening's blocks, in order.

    A sample cannot be younger than the block that it came with is long, whatever PortAudio says: over PulseAudio it
    says up to 10 ms less. Nor much older than the latency stated: in the first second of a PulseAudio stream it says
    half a second, and counts down to nothing, while samples come evenly. Then the time of arrival alone counts.

    Args:
        rate_hz: The device's rate.
        latency_s: The latency that PortAudio states.
    """

    def __init__(self, rate_hz: int, latency_s: float) -> None:
        self.rate_hz = rate_hz
        self._most_s = latency_s + DOUBT_S
        self._doubt_until_ns = 0
        self._next = 0
        self._next_ns = 0

    def next(self, n: int, arrived_ns: int, age_s: float | None, *, n_lost: int = 0, lost_more: bool = False) -> Stamp:
        """Stamp a block.

        Args:
            n: Its samples.
            arrived_ns: Clock time of its callback.
            age_s: Age of its first sample then, by PortAudio's account; None where it gives none.
            n_lost: Samples known to be lost just before.
            lost_more: Whether others were lost; how many is estimated from the clock.
        """
        adc_ns = arrived_ns - self._believed_ns(n, arrived_ns, age_s)
        self._next += n_lost
        self._next_ns += n_lost * NS_PER_S // self.rate_hz
        if lost_more and self._next:
            self._next += max(round((adc_ns - self._next_ns) * self.rate_hz / NS_PER_S), 0)
        first = self._next
        self._next += n
        self._next_ns = adc_ns + n * NS_PER_S // self.rate_hz
        return Stamp(first, adc_ns)

    def _believed_ns(self, n: int, arrived_ns: int, age_s: float | None) -> int:
        least_ns = n * NS_PER_S // self.rate_hz
        if age_s is None:
            return least_ns
        if age_s - n / self.rate_hz > self._most_s:
            self._doubt_until_ns = arrived_ns + round(DOUBT_LASTS_S * NS_PER_S)
        return least_ns if arrived_ns < self._doubt_until_ns else max(least_ns, round(age_s * NS_PER_S))
