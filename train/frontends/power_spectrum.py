"""The power spectrum inside the exported graphs: two fixed matrix products over folded windows.

A short-time Fourier transform by fixed matrices exports to any ONNX backend as it is, so that training and serving
cannot disagree. A power spectrum does not depend on where the window has its time zero. With zero in its middle the
taper and the cosines are even and the sines odd, so that the samples on both sides are added for the one and
subtracted for the other before they are multiplied, which halves the products:

    |X(j)|^2 = (sum_t w_t cos(2 pi j t / n) (x_t + x_-t))^2 + (sum_t w_t sin(2 pi j t / n) (x_t - x_-t))^2

with t over half the window. A strided convolution over whole windows took 1.7 times as long in ONNX Runtime on one
thread, 1.3 times on two.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PowerSpectrum(nn.Module):
    """Squared magnitudes of a Fourier transform: (batch, n_samples) to (batch, n_frames, n_bins) float32.

    Nothing is padded: n_frames = 1 + (n_samples - window) // hop.

    Args:
        taper: The window, (window,) float64, and periodic: the same from both ends but for its first sample.
        n_fft: Points of the transform, at least as many as the window has; zeros fill it up.
        hop: Samples between the starts of windows.
        bins: Numbers of the bins to compute, (n_bins,) integers.

    Raises:
        ValueError: If the taper is not periodic, or a waveform is shorter than it.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, taper: np.ndarray, *, n_fft: int, hop: int, bins: np.ndarray) -> None:
        super().__init__()
        self.window, self.hop = len(taper), hop
        if self.window > n_fft or not np.allclose(taper[1:], taper[:0:-1]):
            raise ValueError(
                f"expected a periodic window of at most {n_fft} samples, the same from both ends but for its first, "
                f"got one of {self.window} that is not"
            )
        # Sample k lies as far before the middle as sample window - k behind it. The first has none to be folded with,
        # and weighs nothing in a Hann window.
        self.first = int(taper[0] == 0)
        left = np.arange(self.first, self.window // 2 + 1)
        weight = np.where(2 * left == self.window, 0.5, 1.0) * taper[left]  # the middle one meets itself
        angle = 2 * np.pi * np.outer(self.window / 2 - left, bins) / n_fft
        for name, wave in {"cosines": np.cos(angle), "sines": np.sin(angle)}.items():
            self.register_buffer(name, torch.tensor(wave * weight[:, None], dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        rows, half = self._rows(waveform), self.window // 2
        left = rows[:, :, self.first : half + 1]
        right = rows[:, :, self.window - half : self.window].flip(2)
        if not self.first:
            right = F.pad(right, (1, 0))
        even, odd = torch.matmul(left + right, self.cosines), torch.matmul(left - right, self.sines)
        return even * even + odd * odd

    def _rows(self, waveform: Tensor) -> Tensor:
        # (batch, n_samples) to (batch, n_frames, window or more): each window and what follows it, in whole hops.
        # `unfold` would be exported as a gather of single samples.
        n_samples = waveform.shape[1]
        if n_samples < self.window:
            raise ValueError(f"expected at least {self.window} samples, one window, got {n_samples}")
        n_frames, n_hops = 1 + (n_samples - self.window) // self.hop, -(-self.window // self.hop)
        n_needed = (n_frames + n_hops - 1) * self.hop
        whole = F.pad(waveform, (0, n_needed - n_samples)) if n_needed > n_samples else waveform[:, :n_needed]
        hops = whole.unflatten(1, (-1, self.hop))
        return torch.cat([hops[:, k : k + n_frames] for k in range(n_hops)], 2)


def hann(window: int) -> np.ndarray:
    """Periodic Hann window, (window,) float64."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))
