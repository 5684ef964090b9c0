"""VGGish's patches inside the graph: 16 kHz waveform to 0.96 s log-mel patches (Hershey et al., ICASSP 2017, 3.1).

The text gives 25 ms windows every 10 ms, 64 mel bands and patches of 96 x 64, with the logarithm after an offset. The
rest is what the authors released and what their weights expect: magnitude (not power), periodic Hann window, 512
points, HTK's mel scale from 125 to 7500 Hz with triangles that are straight in mel (not in Hz), no area
normalisation, no constant component, offset 0.01, nothing padded.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from train.frontends.power_spectrum import PowerSpectrum, hann

RATE_HZ = 16_000
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
N_BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
PATCH_FRAMES = 96  # 0.96 s
PATCH_SAMPLES = WINDOW + (PATCH_FRAMES - 1) * HOP  # 15,600: the last frame reaches 15 ms past the 0.96 s


class VggishPatches(nn.Module):
    """Waveform to log-mel patches.

    In: (B, n_samples) float32 in [-1, 1] at 16 kHz. Out: (B, P, 96, 64) float32, time before frequency, natural
    logarithm, P = 1 + (n_frames - 96) // hop_frames with n_frames = 1 + (n_samples - 400) // 160.

    Args:
        hop_frames: Frames of 10 ms between the starts of patches; 96 lays them end to end, as published.

    Raises:
        ValueError: If `hop_frames` is not positive, or a waveform is shorter than one patch.
    """

    bands: Tensor

    def __init__(self, *, hop_frames: int = PATCH_FRAMES) -> None:
        super().__init__()
        if hop_frames < 1:
            raise ValueError(f"expected a patch hop of 1 frame or more, got {hop_frames}")
        self.hop_frames = hop_frames
        bands = mel_bands()
        bins = np.flatnonzero(bands.any(1))  # no band takes the others
        self.spectrum = PowerSpectrum(hann(WINDOW), n_fft=N_FFT, hop=HOP, bins=bins)
        self.register_buffer("bands", torch.tensor(bands[bins], dtype=torch.float32), persistent=False)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """The whole spectrogram: (B, n_samples) to (B, n_frames, 64)."""
        return torch.log(torch.matmul(self.spectrum(waveform).sqrt(), self.bands) + LOG_OFFSET)

    def forward(self, waveform: Tensor) -> Tensor:
        if waveform.shape[1] < PATCH_SAMPLES:
            raise ValueError(f"expected {PATCH_SAMPLES} samples or more, one patch, got {waveform.shape[1]}")
        return self.log_mel(waveform).unfold(1, PATCH_FRAMES, self.hop_frames).transpose(2, 3)


def mel_bands() -> np.ndarray:
    """Triangles on HTK's mel scale, straight in mel, height 1: (257, 64) float64."""
    edges = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), N_BANDS + 2)
    bins = np.array([_mel(k * RATE_HZ / N_FFT) for k in range(N_FFT // 2 + 1)])[:, None]
    rise = (bins - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    triangles[0] = 0.0  # the constant component, which 125 Hz leaves out already; the release says so twice
    return np.asarray(triangles)


def _mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)
