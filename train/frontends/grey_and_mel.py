"""Front ends that live inside the exported graphs: raw uint8 crops and float32 waveforms in, features out."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.frontends.power_spectrum import PowerSpectrum, hann


class GreyFace(nn.Module):
    """Colour crops to grey pictures of zero mean and unit variance, each for itself.

    In: (batch, size_px, size_px, 3) uint8, RGB. Out: (batch, 1, size_px, size_px) float32.
    Standardising each crop removes exposure and contrast; luma removes white balance.
    """

    luma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luma", torch.tensor([[0.299], [0.587], [0.114]]), persistent=False)

    def forward(self, crop: Tensor) -> Tensor:
        grey = torch.matmul(crop.to(torch.float32), self.luma)  # (batch, size_px, size_px, 1)
        return standardise(grey.permute(0, 3, 1, 2))


def standardise(grey: Tensor) -> Tensor:
    """Zero mean and unit variance per picture; the floor of 4 grey levels keeps a flat picture from exploding."""
    centred = grey - grey.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True).sqrt() + 4.0)


class LogMel(nn.Module):
    """Log-mel spectrogram of speech.

    In: (batch, n_samples) float32 in [-1, 1]. Out: (batch, n_mels, n_frames) float32, natural logarithm.
    Periodic Hann window, no padding: n_frames = 1 + (n_samples - window) // hop. Slaney's mel scale and area
    normalisation, as `librosa.feature.melspectrogram(center=False)` has them.
    """

    mel: Tensor

    def __init__(
        self,
        *,
        rate_hz: int = 16_000,
        window: int = 400,
        hop: int = 160,
        n_fft: int = 512,
        n_mels: int = 64,
        low_hz: float = 50.0,
        high_hz: float = 8_000.0,
        floor: float = 1e-7,
    ) -> None:
        super().__init__()
        self.floor = floor
        mel = mel_filters(rate_hz=rate_hz, n_fft=n_fft, n_mels=n_mels, low_hz=low_hz, high_hz=high_hz)
        bins = np.flatnonzero(mel.any(0))  # no filter takes the others
        self.spectrum = PowerSpectrum(hann(window), n_fft=n_fft, hop=hop, bins=bins)
        self.register_buffer("mel", torch.tensor(mel[:, bins].T, dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return torch.log(torch.matmul(self.spectrum(waveform), self.mel) + self.floor).transpose(1, 2)


def delta(sequence: Tensor, reach: int = 2) -> Tensor:
    """Slope over time by regression, of the same shape: (B, M, W).

    d_t = sum over k = 1 ... reach of k (c_(t+k) - c_(t-k)), divided by twice the sum of k squared. The first and
    last windows are repeated beyond the ends.
    """
    n = sequence.shape[-1]
    padded = F.pad(sequence, (reach, reach), mode="replicate")
    slope = torch.zeros_like(sequence)
    for k in range(1, reach + 1):
        slope = slope + k * (padded[..., reach + k : reach + k + n] - padded[..., reach - k : reach - k + n])
    return slope / (2 * sum(k * k for k in range(1, reach + 1)))


def mel_filters(*, rate_hz: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangular mel filters, (n_mels, n_fft // 2 + 1) float64, on Slaney's scale with Slaney's normalisation."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(low_hz), _hz_to_mel(high_hz), n_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * rate_hz / n_fft
    rise = (bins[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins[None]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None])


# Slaney's scale: linear to 1 kHz at 200/3 Hz a mel, then logarithmic with 27 mel for a factor of 6.4.
_LINEAR_HZ, _BREAK_HZ, _LOG_STEP = 200.0 / 3, 1000.0, math.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ
    return _BREAK_HZ / _LINEAR_HZ + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    knee = _BREAK_HZ / _LINEAR_HZ
    return np.where(mel < knee, mel * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mel - knee)))


def normalise_log_mel(log_mel: Tensor, *, range_nats: float = 18.0) -> Tensor:
    """Two views of a log-mel spectrogram, (batch, 2, n_mels, n_frames): level removed, and band means removed.

    Values more than `range_nats` (78 dB) under the window's loudest are raised to that floor first, so that digital
    silence and a quiet room look alike. The first view keeps the spectral tilt; the second removes what a voice and
    a microphone add to every frame. Both are scaled by a third, about one standard deviation of speech.
    """
    peak = log_mel.amax((1, 2), keepdim=True)
    bounded = torch.maximum(log_mel, peak - range_nats)
    level = bounded - bounded.mean((1, 2), keepdim=True)
    bands = bounded - bounded.mean(2, keepdim=True)
    return torch.stack([level, bands], dim=1) / 3.0
