"""Sound read between its samples: a windowed sinc, tabulated finely, at any place that is asked for."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream.records import RATE_HZ

STOP_DB = 80.0  # how far images and aliases are pressed down: below the noise of 13 bits
N_PHASES = 256  # tabulated between two samples; read linearly between them, which errs by -94 dB at the worst
AT_ONCE = 1024  # places read in one go, which bounds the memory needed


class Interpolator:
    """Reads a sound at fractional places, filtered for 16 kHz: flat to 0.45 of the lower rate, gone above its half.

    A rate at or below 16 kHz has a transition twice as wide, for no alias can arise.

    Args:
        rate_hz: Rate of the sound.

    Attributes:
        half: Samples needed on either side of a place.
    """

    def __init__(self, rate_hz: int) -> None:
        passes = 0.45 * min(rate_hz, RATE_HZ)
        stops = RATE_HZ / 2 if rate_hz > RATE_HZ else 0.55 * rate_hz
        # Kaiser's formulas for the window's length and shape.
        n_taps = (STOP_DB - 8) / (2.285 * 2 * np.pi * (stops - passes) / rate_hz)
        self.half = int(np.ceil(n_taps / 2))
        taps = np.arange(1 - self.half, self.half + 1) - np.arange(N_PHASES + 1)[:, None] / N_PHASES
        window = np.i0(0.1102 * (STOP_DB - 8.7) * np.sqrt(np.maximum(1 - (taps / self.half) ** 2, 0)))
        table = window * np.sinc(taps * (passes + stops) / rate_hz)
        table /= table.sum(axis=1, keepdims=True)
        self._table = table[:-1].astype(np.float32)
        self._to_next = np.diff(table, axis=0).astype(np.float32)

    def read(self, samples: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The sound at places, each at least `half` samples from both ends; (n,) float32, (m,) float64 to (m,) float32.

        What comes for a place depends on that place alone, not on the others.
        """
        pieces = [self._read(samples, places[k : k + AT_ONCE]) for k in range(0, len(places), AT_ONCE)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _read(self, samples: np.ndarray, places: np.ndarray) -> np.ndarray:
        whole = np.floor(places).astype(np.int64)
        phase = (places - whole) * N_PHASES
        row = phase.astype(np.int64)
        around = sliding_window_view(samples, 2 * self.half)[whole - self.half + 1]
        at_row = np.einsum("ij,ij->i", around, self._table[row])
        rise = np.einsum("ij,ij->i", around, self._to_next[row])
        return np.asarray(at_row + (phase - row).astype(np.float32) * rise)
