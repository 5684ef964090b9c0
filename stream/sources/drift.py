"""A microphone's sound put on the session's 16 kHz grid, its clock's drift taken out, its gaps left open.

Each place of the grid is a clock time; the sample clock says where in the device's samples that time lies, mostly
between two of them, and a windowed sinc reads the sound there. soxr's variable rate was the other choice: it takes a
ratio, not places, so that the time of a sample has to be inferred from what came out so far; it also holds 12 ms back,
where this holds 3.
"""

import numpy as np

from stream.records import RATE_HZ, AudioBlock
from stream.sources.device import Sound
from stream.sources.interpolate import Interpolator
from stream.sources.resample import BLOCK
from stream.sources.sample_clock import SampleClock
from stream.sources.sample_map import SampleMap
from stream.windows import NS_PER_S

STEP_NS = NS_PER_S // RATE_HZ  # 62.5 us, without a remainder


class LiveAudioGrid:
    """Turns what a microphone hands on into blocks whose sample i lies at i / 16000 s of the session. One thread.

    In the first moments of an opening and after lost samples, sound is held until the clock knows where it lies: a
    tenth of a second where callbacks are regular, half a second where they are not. Then nothing more is held than the
    filter needs.

    Args:
        began_ns: Clock time of the session's zero.

    Attributes:
        end: Index after the newest sample handed out or held.
        drift_ppm: How much faster than nominal the device's clock runs; None until that is known.
        residual_ms: What is left between the clock's line and what it was fitted to; None until that is known.
        n_gap: Samples of the grid that were jumped over within openings.
        n_left_out: Samples of the grid whose place was already handed out, or lies before the session began.
    """

    def __init__(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self.end = 0
        self.drift_ppm: float | None = None
        self.residual_ms: float | None = None
        self.n_gap = self.n_left_out = 0
        self._rate_hz = RATE_HZ
        self._filter = Interpolator(RATE_HZ)
        self._clock = SampleClock(RATE_HZ)
        self._open = False
        self._is_first_run = True
        self._next = 0  # index after the device's newest sample
        self._map: SampleMap | None = None  # of the run; None until its first sample is handed out
        self._samples = np.zeros(0, np.float32)  # the run's, as far as they are needed
        self._first = 0  # index of the first of them
        self._held: list[np.ndarray] = []
        self._n_held = 0

    def push(self, sound: Sound) -> list[AudioBlock]:
        """Take a run of samples; return the blocks that are now complete: of 512 samples, a shorter one before a break.

        A `first` below what came before, or another rate, is a new opening of the device.
        """
        blocks: list[AudioBlock] = []
        if not self._open or sound.rate_hz != self._rate_hz or sound.first < self._next:
            blocks += self.flush()
            self._begin_opening(sound)
        elif sound.overflowed or sound.first > self._next:
            self._clock.settle()
            blocks += self._end_run()
            self._clock.lost_before(self._next)
            self._begin_run(sound.first)
        self._clock.observe(sound.first, sound.adc_ns)
        if self._map is not None and self._clock.map is not self._map:
            blocks += self._end_run()
            self._begin_run(sound.first)
        self.drift_ppm, self.residual_ms = self._clock.drift_ppm, self._clock.residual_ms
        self._samples = np.concatenate([self._samples, sound.samples])
        self._next = sound.first + len(sound.samples)
        if self._clock.settled:
            self._read(self._next - self._filter.half)
        return [*blocks, *self._complete()]

    def flush(self) -> list[AudioBlock]:
        """End the opening: hand out all that is held. What comes next is a new opening."""
        blocks: list[AudioBlock] = []
        if self._open:
            self._clock.settle()
            blocks = self._end_run()
            self._open = False
        return blocks

    def _begin_opening(self, sound: Sound) -> None:
        if sound.rate_hz != self._rate_hz:
            self._filter = Interpolator(sound.rate_hz)
        self._rate_hz, self._open, self._next = sound.rate_hz, True, sound.first
        self._clock = SampleClock(sound.rate_hz)
        self._is_first_run = True
        self._begin_run(sound.first)

    def _begin_run(self, first: int) -> None:
        # Silence stands before the first sample, as far as the filter reaches.
        self._map = None
        self._first = first - self._filter.half
        self._samples = np.zeros(self._filter.half, np.float32)

    def _end_run(self) -> list[AudioBlock]:
        if self._next > self._first + self._filter.half:
            self._samples = np.concatenate([self._samples, np.zeros(self._filter.half + 1, np.float32)])
            self._read(self._next)
        self._is_first_run = False
        blocks = self._complete()
        if self._n_held:
            blocks.append(AudioBlock(first=self.end - self._n_held, samples=np.concatenate(self._held)))
            self._held, self._n_held = [], 0
        return blocks

    def _read(self, stop: int) -> None:
        # Hands out every place of the grid that lies before the device's sample `stop`.
        if self._map is None:
            self._map = self._clock.map
            assert self._map is not None
            self._place_run(self._ceil(self._map.time_ns(self._first + self._filter.half)))
        until = self._ceil(self._map.time_ns(stop))
        if until <= self.end:
            return
        t_ns = self._began_ns + STEP_NS * np.arange(self.end, until, dtype=np.int64)
        places = self._map.indices(t_ns, less=self._first)
        out = self._filter.read(self._samples, places)
        self._held.append(np.clip(out, -1.0, 1.0))
        self._n_held += len(out)
        self.end = until
        n_done = max(int(places[-1]) - self._filter.half, 0)
        self._samples = self._samples[n_done:]
        self._first += n_done
        self._map.forget(self._first)

    def _place_run(self, start: int) -> None:
        n_late = max(self.end, 0) - start
        self.n_left_out += max(n_late, 0)
        if n_late < 0:
            if not self._is_first_run:
                self.n_gap -= n_late
            self.end = start

    def _ceil(self, t_ns: int) -> int:
        return -((self._began_ns - t_ns) // STEP_NS)

    def _complete(self) -> list[AudioBlock]:
        if self._n_held < BLOCK:
            return []
        held = np.concatenate(self._held)
        n_blocks = len(held) // BLOCK
        rest = held[n_blocks * BLOCK :]
        start = self.end - self._n_held
        self._held, self._n_held = [rest], len(rest)
        return [AudioBlock(first=start + k * BLOCK, samples=held[k * BLOCK : (k + 1) * BLOCK]) for k in range(n_blocks)]
