"""Sound from a clock that runs too fast or too slow, made of sound from a true one."""

from dataclasses import replace

import numpy as np
import soxr

from stream.records import RATE_HZ, AudioBlock
from stream.sources.device import Back, Lost, Picture, Sink, Sound
from stream.sources.resample import BLOCK
from stream.windows import NS_PER_S


class Stretch:
    """Puts sound where it lies when samples of a clock `ppm` too fast are counted as if it were true: 16 kHz, blocks.

    Args:
        ppm: How much faster the clock runs, in parts per million.

    Attributes:
        raw_end: Index after the newest sample taken.
        end: Index after the newest sample handed out.
    """

    def __init__(self, ppm: float) -> None:
        self._factor = 1 + ppm * 1e-6
        self.raw_end = self.end = 0
        self._soxr: soxr.ResampleStream | None = None

    def push(self, block: AudioBlock) -> list[AudioBlock]:
        """Take a block, and return what is complete. A jump forward begins a new run; gaps are stretched too."""
        blocks: list[AudioBlock] = []
        if self._soxr is None or block.first != self.raw_end:
            blocks = self.flush()
            self._soxr = soxr.ResampleStream(RATE_HZ, RATE_HZ * self._factor, 1, "float32")
            self.end = max(round(block.first * self._factor), self.end)
        self.raw_end = block.first + len(block.samples)
        return [*blocks, *self._cut(self._soxr.resample_chunk(block.samples))]

    def flush(self) -> list[AudioBlock]:
        """End the run: what the filter holds."""
        if self._soxr is None:
            return []
        rest = self._soxr.resample_chunk(np.zeros(0, np.float32), last=True)
        self._soxr = None
        return self._cut(rest)

    def known_ns(self, raw_ns: int) -> int:
        """No block that is complete before this can still come, where the source is at `raw_ns`."""
        if self._soxr is not None:
            return self.end * NS_PER_S // RATE_HZ
        return round(raw_ns * self._factor) - NS_PER_S // RATE_HZ

    def _cut(self, samples: np.ndarray) -> list[AudioBlock]:
        first, self.end = self.end, self.end + len(samples)
        bounded = np.clip(samples, -1.0, 1.0)  # filtering overshoots full scale
        return [AudioBlock(first=first + k, samples=bounded[k : k + BLOCK]) for k in range(0, len(bounded), BLOCK)]


class DriftingSink:
    """A microphone's sink before which its clock runs `ppm` too fast: for a live line, which is to correct it.

    The same sound in the same time is more samples, counted by the fast clock. A run ends where samples were lost.

    Args:
        sink: Takes what comes; all but sound as it is.
        ppm: How much faster the clock runs, in parts per million.
    """

    def __init__(self, sink: Sink, ppm: float) -> None:
        self._sink, self._factor = sink, 1 + ppm * 1e-6
        self._soxr: soxr.ResampleStream | None = None
        self._last: Sound | None = None
        self._next = self._out = 0  # index after the newest sample of the true clock, and of the fast one

    def __call__(self, item: Picture | Sound | Lost | Back) -> None:
        """Take an item, in the device's thread."""
        if not isinstance(item, Sound):
            self._end()
            self._sink(item)
            return
        if self._soxr is None or item.overflowed or item.first != self._next:
            self._end()
            self._soxr = soxr.ResampleStream(item.rate_hz, item.rate_hz * self._factor, 1, "float32")
            self._out = round(item.first * self._factor)
        self._next, self._last = item.first + len(item.samples), item
        self._give(item, self._soxr.resample_chunk(item.samples))

    def _end(self) -> None:
        if self._soxr is not None and self._last is not None:
            self._give(replace(self._last, overflowed=False), self._soxr.resample_chunk(np.zeros(0, np.float32), True))
        self._soxr = None

    def _give(self, at: Sound, samples: np.ndarray) -> None:
        if not len(samples):
            return
        # The filter holds some back: what comes out began to be converted before what went in, or after, at the end.
        adc_ns = at.adc_ns + round((self._out / self._factor - at.first) * NS_PER_S / at.rate_hz)
        first, self._out = self._out, self._out + len(samples)
        self._sink(replace(at, first=first, samples=samples, adc_ns=adc_ns))
