"""The 68 audio features of EMODal (Zhang et al., 2018, section 2), in the graph.

34 short-term features of pyAudioAnalysis (Giannakopoulos, 2015) and their deltas, each averaged over the window.
The numbers are those of version 0.3 of that package, and so are these of its quirks:
- The whole window is centred and divided by its peak first, so that loudness is lost and every feature depends on
  the window it is in.
- Frames have no taper, spectra are magnitudes of the first half of the bins divided by their number.
- The filters of the MFCC take the half spectrum for a whole one: a filter named 1 kHz lies at 500 Hz. They weigh
  magnitudes, not powers, and the logarithm is to base 10.
- In the chroma, of all bins nearest to one semitone only the highest counts, divided by a number that belongs to
  another semitone; bins under 27.5 Hz wrap around to the end of the table.
- The first frame's delta and flux are 0.

On purpose different:
- Arithmetic in float32.
- Where the package adds an epsilon, values are raised to it instead: the ONNX exporter takes an addition of 1e-8 or
  less for one of zero and drops it, and silence would be NaN.
- The mean is kept out of every bin but the lowest by algebra, not by subtraction, so that digital silence has no
  spectrum of rounding errors for the logarithm to show.

Dimension letters: B batch, T samples, N frames, K = window // 2 bins.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.frontends.power_spectrum import PowerSpectrum

EPS = float(np.finfo(np.float64).eps)  # the package's; float32 can hold it
N_BLOCKS = 10  # of both entropies
N_MFCC = 13
ROLLOFF = 0.9

NAMES = (
    *("zcr", "energy", "energy_entropy", "spectral_centroid", "spectral_spread", "spectral_entropy"),
    *("spectral_flux", "spectral_rolloff"),
    *(f"mfcc_{n}" for n in range(1, N_MFCC + 1)),
    *(f"chroma_{n}" for n in range(1, 13)),
    "chroma_std",
)


class ShortTermFeatures(nn.Module):
    """Waveform to 68 averages: 34 features, then their 34 deltas.

    In: (B, T) float32; the level does not matter. Out: (B, 68) float32, in the order of `NAMES`, deltas after.
    N = 1 + (T - window) // hop; samples after the last whole frame count for centre and peak alone.
    """

    time_blocks: Tensor
    position: Tensor
    lower: Tensor
    filters: Tensor
    cosines: Tensor
    chroma: Tensor

    def __init__(self, *, rate_hz: int = 16_000, window: int = 800, hop: int = 400) -> None:
        """Fix the matrices. The text gives no frame; 50 ms every 25 ms is the package's own example.

        Raises:
            ValueError: If the hop is not positive, or the frame is too short or the rate too low for the tables.
        """
        super().__init__()
        if hop < 1:
            raise ValueError(f"expected a hop of at least one sample, got {hop}")
        self.window, self.hop, self.n_bins = window, hop, window // 2
        taper = np.full(window, 1 / self.n_bins)
        self.spectrum = PowerSpectrum(taper, n_fft=window, hop=hop, bins=np.arange(1, self.n_bins))
        blocks = np.kron(np.eye(N_BLOCKS), np.ones(window // N_BLOCKS))
        blocks = np.pad(blocks, ((0, 0), (0, window - blocks.shape[1])))
        for name, matrix in {
            "time_blocks": blocks[:, None],
            "position": (np.arange(self.n_bins)[:, None] + 1) / self.n_bins,
            "lower": np.tri(self.n_bins),
            "filters": cepstral_filters(rate_hz=rate_hz, n_bins=self.n_bins),
            "cosines": _cosines(40),
            "chroma": chroma_matrix(rate_hz=rate_hz, n_bins=self.n_bins),
        }.items():
            self.register_buffer(name, torch.tensor(matrix, dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.frames(waveform)
        # Deltas telescope: the first is 0, the others sum to the last frame less the first.
        deltas = (features[:, :, -1] - features[:, :, 0]) / features.shape[2]
        return torch.cat([features.mean(2), deltas], 1)

    def frames(self, waveform: Tensor) -> Tensor:
        """The 34 features of each frame, (B, T) to (B, 34, N).

        Raises:
            ValueError: If the waveform is shorter than a frame.
        """
        if waveform.shape[1] < self.window:
            raise ValueError(f"expected at least {self.window} samples, one frame, got {waveform.shape[1]}")
        mean = waveform.mean(1, keepdim=True)
        peak = (waveform - mean).abs().amax(1, keepdim=True).clamp_min(1e-10)
        centred = (waveform - mean) / peak
        magnitude = self._magnitude(waveform / peak, centred)
        return torch.cat([self._time(centred), self._spectral(magnitude), self._tonal(magnitude)], 1)

    def _magnitude(self, scaled: Tensor, centred: Tensor) -> Tensor:
        # (B, T) twice to (B, K, N). Whole periods fit in a frame, so that the mean shows in the lowest bin only.
        lowest = F.avg_pool1d(centred.unsqueeze(1), self.window, self.hop).abs() * (self.window / self.n_bins)
        return torch.cat([lowest, self.spectrum(scaled).sqrt().transpose(1, 2)], 1)

    def _time(self, centred: Tensor) -> Tensor:
        # Zero crossing rate, energy and its entropy: (B, T) to (B, 3, N).
        sign, square = centred.sign().unsqueeze(1), centred.square().unsqueeze(1)
        crossings = 0.5 * (sign[:, :, 1:] - sign[:, :, :-1]).abs()
        rate = F.avg_pool1d(crossings, self.window - 1, self.hop)
        energy = F.avg_pool1d(square, self.window, self.hop)
        blocks = F.conv1d(square, self.time_blocks, stride=self.hop)
        return torch.cat([rate, energy, _entropy(blocks, energy * self.window)], 1)

    def _spectral(self, magnitude: Tensor) -> Tensor:
        # Centroid, spread, entropy, flux and roll-off: (B, K, N) to (B, 5, N).
        peak = magnitude.amax(1, keepdim=True)
        shape = magnitude / peak.clamp_min(EPS)
        total = shape.sum(1, keepdim=True).clamp_min(EPS)
        centroid = (self.position * shape).sum(1, keepdim=True) / total
        spread = (((self.position - centroid).square() * shape).sum(1, keepdim=True) / total).sqrt()

        power = magnitude.square()
        energy = power.sum(1, keepdim=True)
        width = self.n_bins // N_BLOCKS
        blocks = power[:, : N_BLOCKS * width].unflatten(1, (N_BLOCKS, width)).sum(2)
        # Bins up to which the power adds up to nine tenths; a product with a triangle is a running sum.
        rolloff = (
            (torch.matmul(self.lower, power).clamp_min(EPS) <= ROLLOFF * energy).to(power.dtype).mean(1, keepdim=True)
        )

        share = magnitude / magnitude.sum(1, keepdim=True).clamp_min(EPS)
        flux = (share[:, :, 1:] - share[:, :, :-1]).square().sum(1, keepdim=True)
        return torch.cat([centroid, spread, _entropy(blocks, energy), F.pad(flux, (1, 0)), rolloff], 1)

    def _tonal(self, magnitude: Tensor) -> Tensor:
        # MFCC, chroma and the chroma's deviation: (B, K, N) to (B, 26, N).
        cepstrum = torch.matmul(self.cosines, torch.log10(torch.matmul(self.filters, magnitude).clamp_min(EPS)))
        power = magnitude.square()
        energy = power.sum(1, keepdim=True)
        chroma = torch.matmul(self.chroma, power) / energy.clamp_min(EPS)
        deviation = (chroma - chroma.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt()
        return torch.cat([cepstrum, chroma, deviation], 1)


def _entropy(blocks: Tensor, energy: Tensor) -> Tensor:
    # Of the blocks' shares of the energy, in bits: (B, blocks, N) and (B, 1, N) to (B, 1, N).
    share = blocks / energy.clamp_min(EPS)
    return -(share * torch.log2(share.clamp_min(EPS))).sum(1, keepdim=True)


def _cosines(n_filters: int) -> np.ndarray:
    # The orthonormal DCT-II, its first rows.
    row, column = np.arange(N_MFCC)[:, None], np.arange(n_filters)
    basis = np.cos(np.pi * row * (2 * column + 1) / (2 * n_filters)) * math.sqrt(2 / n_filters)
    basis[0] /= math.sqrt(2)
    return np.asarray(basis)


def cepstral_filters(*, rate_hz: int, n_bins: int) -> np.ndarray:
    """Triangles of the MFCC, (40, n_bins) float64: 13 linear and 27 logarithmic, of unit area in hertz.

    Raises:
        ValueError: If the rate is too low for the highest filter.
    """
    linear = 133.33 + 200 / 3 * np.arange(13)
    edges = np.concatenate([linear, linear[-1] * 1.0711703 ** np.arange(1, 30)])
    if edges[-1] >= rate_hz:
        raise ValueError(f"expected a rate above {edges[-1]:.0f} Hz, that of the highest filter, got {rate_hz}")
    hz = np.arange(n_bins) / n_bins * rate_hz  # the package's quirk: twice what the bins have
    at = np.floor(edges * n_bins / rate_hz)  # a triangle's sides end on whole bins
    filters = np.zeros((40, n_bins))
    bins = np.arange(n_bins)
    for row, (left, centre, right) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        height = 2 / (right - left)
        rise = (at[row] < bins) & (bins <= at[row + 1])
        fall = (at[row + 1] < bins) & (bins <= at[row + 2])
        filters[row] = height * (rise * (hz - left) / (centre - left) + fall * (right - hz) / (right - centre))
    return filters


def chroma_matrix(*, rate_hz: int, n_bins: int) -> np.ndarray:
    """From the power of bins to that of twelve pitch classes from A, (12, n_bins) float64, with the package's quirks.

    Raises:
        ValueError: If there are fewer bins than semitones.
    """
    hz = (np.arange(n_bins) + 1) * rate_hz / (2 * n_bins)
    semitone = np.round(12 * np.log2(hz / 27.5)).astype(int)
    if semitone.max() >= n_bins or semitone.min() < -n_bins:
        raise ValueError(f"expected more than {semitone.max()} bins, one a semitone, got {n_bins}: take longer frames")
    n_sharing = np.array([np.count_nonzero(semitone == s) for s in semitone])
    # Every bin writes over what a lower one of its semitone wrote.
    last = {s % n_bins: k for k, s in enumerate(semitone)}
    matrix = np.zeros((12, n_bins))
    for slot, k in last.items():
        matrix[slot % 12, k] += 1 / n_sharing[semitone[slot]]
    return matrix
