"""Linear frequency cepstral coefficients in the graph (ICANet, Wu et al., section III-A-1).

Power spectrum, linear filter bank, natural logarithm, DCT-II. The text names `python_speech_features`, which has no
LFCC, and gives no sizes: window, hop and transform length are that package's defaults at 16 kHz (25 ms, 10 ms, 512),
the window is Hann as elsewhere here, filters and coefficients are ours.

Dimension letters: B batch, T audio samples, W analysis windows (1 + (T - window) // hop), Q coefficients, S picture
side in pixels.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.frontends.grey_and_mel import delta
from train.frontends.power_spectrum import PowerSpectrum, hann


def linear_filters(*, rate_hz: int, n_fft: int, n_filters: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangles of height 1 whose corners are evenly spaced in hertz, (n_filters, n_fft // 2 + 1) float64.

    Raises:
        ValueError: If the band is empty or leaves the spectrum, or a filter would be narrower than a bin.
    """
    if not 0 <= low_hz < high_hz <= rate_hz / 2:
        raise ValueError(f"expected 0 <= low < high <= {rate_hz / 2} Hz, got {low_hz} to {high_hz} Hz")
    edges = np.linspace(low_hz, high_hz, n_filters + 2)
    step, bin_hz = edges[1] - edges[0], rate_hz / n_fft
    if step < bin_hz:
        raise ValueError(f"{n_filters} filters are {step:.1f} Hz apart, bins of {n_fft} samples are {bin_hz:.1f} Hz")
    bins = np.arange(n_fft // 2 + 1) * bin_hz
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(bins[None] - edges[1:-1, None]) / step))


def dct_matrix(n_coefficients: int, n_inputs: int) -> np.ndarray:
    """Orthonormal DCT-II, its first rows: (n_coefficients, n_inputs) float64."""
    k, n = np.arange(n_coefficients)[:, None], np.arange(n_inputs)[None]
    matrix = np.cos(np.pi * k * (2 * n + 1) / (2 * n_inputs)) * np.sqrt(2 / n_inputs)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


class Lfcc(nn.Module):
    """Waveform to cepstra: (B, T) float32 in [-1, 1] to (B, Q, W) float32.

    Periodic Hann window, no padding. `floor` is added to each filter's energy before the logarithm.

    Raises:
        ValueError: If the sizes do not fit each other.
    """

    filters: Tensor
    dct: Tensor

    def __init__(
        self,
        *,
        rate_hz: int = 16_000,
        window: int = 400,
        hop: int = 160,
        n_fft: int = 512,
        n_filters: int = 64,
        n_coefficients: int = 40,
        low_hz: float = 0.0,
        high_hz: float = 8_000.0,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        if window > n_fft or n_coefficients > n_filters:
            raise ValueError(
                f"expected window <= n_fft and n_coefficients <= n_filters, "
                f"got {window}, {n_fft}, {n_coefficients}, {n_filters}"
            )
        self.floor = floor
        filters = linear_filters(rate_hz=rate_hz, n_fft=n_fft, n_filters=n_filters, low_hz=low_hz, high_hz=high_hz)
        bins = np.flatnonzero(filters.any(0))  # no filter takes the others
        self.spectrum = PowerSpectrum(hann(window), n_fft=n_fft, hop=hop, bins=bins)
        matrices = {"filters": filters[:, bins].T, "dct": dct_matrix(n_coefficients, n_filters).T}
        for name, matrix in matrices.items():
            self.register_buffer(name, torch.tensor(matrix, dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        energies = torch.matmul(self.spectrum(waveform), self.filters)  # (B, W, filters)
        return torch.matmul(torch.log(energies + self.floor), self.dct).transpose(1, 2)


class LfccPicture(nn.Module):
    """The LFCC spectrogram as the picture that VGG16 takes: (B, T) float32 to (B, 3, S, S) float32.

    Each coefficient is standardised over the window, which removes the microphone; the floor of 0.5 keeps silence at
    zero. The text's three colours of a plot say one number thrice; here they are the cepstra, their deltas and the
    deltas of these. Rows are coefficients, columns time, both stretched to S bilinearly.
    """

    def __init__(self, picture_px: int, lfcc: Lfcc | None = None) -> None:
        super().__init__()
        self.picture_px = picture_px
        self.lfcc = Lfcc() if lfcc is None else lfcc

    def forward(self, waveform: Tensor) -> Tensor:
        cepstra = self.lfcc(waveform)
        centred = cepstra - cepstra.mean(2, keepdim=True)
        scaled = centred / (centred.square().mean(2, keepdim=True).sqrt() + 0.5)
        slope = delta(scaled)
        layers = torch.stack([scaled, slope, delta(slope)], 1)  # (B, 3, Q, W)
        size = (self.picture_px, self.picture_px)
        return F.interpolate(layers, size=size, mode="bilinear", align_corners=False)
