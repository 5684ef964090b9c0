"""The two spectrograms of Zhou et al. (2019), section 2, "Audio processing and Spectrogram calculation".

Speech spectrogram: Hamming window of 40 ms every 10 ms, the 200 lowest bins. Log-mel spectrogram with its deltas and
delta-deltas as second and third channel, as in Chen et al. (2018), which the text follows: 40 bands, 25 ms windows
every 10 ms, regression over two windows on each side.

Dimension letters: B batch, T audio samples at 16 kHz, M mel bands, W analysis windows.

What the text leaves open: a transform of 800 samples, so that 200 bins reach from 0 to 4 kHz in steps of 20 Hz;
natural logarithm of the power; zero mean and unit deviation of each spectrogram for itself. On purpose different: the
log-mel windows are Hann and the mel scale is Slaney's, as in the other front ends here.
"""

import numpy as np
import torch
from torch import Tensor, nn

from train.frontends.grey_and_mel import LogMel, delta
from train.frontends.power_spectrum import PowerSpectrum

RATE_HZ = 16_000
SPEECH_WINDOW, SPEECH_HOP, SPEECH_FFT, SPEECH_BINS = 640, 160, 800, 200
KINDS = ("speech", "log-mel")


class SpeechSpectrogram(nn.Module):
    """Log power of the low bins: (B, T) float32 in [-1, 1] to (B, 200, W), natural logarithm.

    No padding: W = 1 + (T - 640) // 160. The periodic Hamming window stands at the start of the transform.
    """

    def __init__(self, *, floor: float = 1e-7) -> None:
        super().__init__()
        self.floor = floor
        n = np.arange(SPEECH_WINDOW)
        taper = 0.54 - 0.46 * np.cos(2 * np.pi * n / SPEECH_WINDOW)
        self.spectrum = PowerSpectrum(taper, n_fft=SPEECH_FFT, hop=SPEECH_HOP, bins=np.arange(SPEECH_BINS))

    def forward(self, waveform: Tensor) -> Tensor:
        return torch.log(self.spectrum(waveform) + self.floor).transpose(1, 2)


class LogMelDeltas(nn.Module):
    """Log-mel spectrogram, its deltas and delta-deltas: (B, T) float32 in [-1, 1] to (B, 3, M, W)."""

    def __init__(self, *, n_mels: int = 40, low_hz: float = 0.0, high_hz: float = 8_000.0) -> None:
        super().__init__()
        self.log_mel = LogMel(rate_hz=RATE_HZ, n_mels=n_mels, low_hz=low_hz, high_hz=high_hz)

    def forward(self, waveform: Tensor) -> Tensor:
        static = self.log_mel(waveform)
        slope = delta(static)
        return torch.stack([static, slope, delta(slope)], 1)


def standardise_channels(spectrogram: Tensor) -> Tensor:
    """Zero mean and unit deviation of each channel of each item: (B, C, h, W) to the same shape.

    The floor of 1e-3 leaves a channel of a silent window at zero, rather than its rounding errors at one.
    """
    centred = spectrogram - spectrogram.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True).sqrt() + 1e-3)


class SpectrogramPicture(nn.Module):
    """A spectrogram as a picture network takes it: (B, T) float32 to (B, 3, 200, W).

    The speech spectrogram stands on all three channels, so that weights for pictures load. Log-mel, deltas and
    delta-deltas are the three channels, each band repeated until all are as high as the 200 bins: the poolings of
    a picture network leave nothing of 40 rows.

    Args:
        kind: speech or log-mel.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"expected a spectrogram of {', '.join(KINDS)}, got {kind!r}")
        self.frontend = SpeechSpectrogram() if kind == "speech" else LogMelDeltas()

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.frontend(waveform)
        if x.ndim == 3:
            return standardise_channels(x.unsqueeze(1)).expand(-1, 3, -1, -1)
        n_rows = SPEECH_BINS // x.shape[2]
        return standardise_channels(x).unsqueeze(3).expand(-1, -1, -1, n_rows, -1).flatten(2, 3)
