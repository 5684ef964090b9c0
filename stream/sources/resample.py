"""Audio of any rate, put on the session's 16 kHz grid without trusting jittery timestamps or hiding gaps."""

import numpy as np
import soxr

from stream.records import RATE_HZ, AudioBlock
from stream.windows import NS_PER_S

BLOCK = 512  # samples in a block handed out: 32 ms
SNAP_NS = 40_000_000  # a timestamp nearer than this to the sample count is jitter; further away it is the truth


class AudioGrid:
    """Resamples a stream of mono samples to 16 kHz and says where on the session timeline they lie.

    Samples are counted from an anchor, the time of the first. Only a timestamp more than 40 ms away from the count
    moves the anchor: forward leaves a gap; backward leaves out the samples whose time was already served. The
    resampler is flushed before and starts afresh after, so that nothing is filtered across the break. Its group delay
    is compensated inside soxr. The blocks do not depend on how the samples were cut when they were given.
    """

    def __init__(self) -> None:
        self.end = 0  # index after the newest sample handed out or held
        self.n_left_out = 0  # input samples that lay before what was already served
        self._running = False
        self._rate_hz = RATE_HZ
        self._anchor_ns = 0
        self._n_in = 0  # samples since the anchor
        self._soxr: soxr.ResampleStream | None = None
        self._held: list[np.ndarray] = []
        self._n_held = 0

    def push(self, samples: np.ndarray, rate_hz: int, t_ns: int | None) -> list[AudioBlock]:
        """Take more samples and return the blocks that are now complete.

        Args:
            samples: (n,) float32 mono.
            rate_hz: Their sample rate; may change from call to call.
            t_ns: Time of the first of them on the session timeline; None where the file states none.

        Returns:
            Blocks of 512 samples, and a shorter one before each break.
        """
        blocks: list[AudioBlock] = []
        departs = t_ns is not None and abs(t_ns - self._expected_ns()) > SNAP_NS
        if not self._running or departs or rate_hz != self._rate_hz:
            trusted = t_ns is not None and (departs or not self._n_in)
            blocks = self.flush()
            samples = self._begin(samples, rate_hz, t_ns if trusted and t_ns is not None else self._expected_ns())
            if not len(samples):
                return blocks
        self._n_in += len(samples)
        self._hold(samples if self._soxr is None else self._soxr.resample_chunk(samples))
        return [*blocks, *self._complete()]

    def flush(self) -> list[AudioBlock]:
        """End the run: hand out all that is held, the resampler's tail too. The next `push` begins a new run."""
        if self._soxr is not None:
            self._hold(self._soxr.resample_chunk(np.zeros(0, np.float32), last=True))
            self._soxr = None
        self._running = False
        blocks = self._complete()
        if self._n_held:
            blocks.append(self._block(np.concatenate(self._held)))
            self._held, self._n_held = [], 0
        return blocks

    def _expected_ns(self) -> int:
        return self._anchor_ns + self._n_in * NS_PER_S // self._rate_hz

    def _begin(self, samples: np.ndarray, rate_hz: int, start_ns: int) -> np.ndarray:
        # A run before this one may have handed out later places than start_ns: the samples they cover are left out.
        n_late = min(max(round((self.end * NS_PER_S // RATE_HZ - start_ns) * rate_hz / NS_PER_S), 0), len(samples))
        self.n_left_out += n_late
        self._rate_hz, self._anchor_ns, self._n_in = rate_hz, start_ns + n_late * NS_PER_S // rate_hz, 0
        self._running = n_late < len(samples)
        if self._running:
            self._soxr = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1, "float32")
            # Rounding may put the start a sample before the end of the run before: places are handed out once.
            self.end = max(round(self._anchor_ns * RATE_HZ / NS_PER_S), self.end)
        return samples[n_late:]

    def _hold(self, samples: np.ndarray) -> None:
        self._held.append(samples)
        self._n_held += len(samples)
        self.end += len(samples)

    def _complete(self) -> list[AudioBlock]:
        if self._n_held < BLOCK:
            return []
        held = np.concatenate(self._held)
        n_blocks = len(held) // BLOCK
        rest = held[n_blocks * BLOCK :]
        start = self.end - self._n_held
        self._held, self._n_held = [rest], len(rest)
        return [
            AudioBlock(first=start + k * BLOCK, samples=_bounded(held[k * BLOCK : (k + 1) * BLOCK]))
            for k in range(n_blocks)
        ]

    def _block(self, samples: np.ndarray) -> AudioBlock:
        return AudioBlock(first=self.end - len(samples), samples=_bounded(samples))


def _bounded(samples: np.ndarray) -> np.ndarray:
    # Filtering overshoots full scale; the record promises [-1, 1].
    return np.asarray(np.clip(samples, -1.0, 1.0))
