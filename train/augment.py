"""Augmentation of faces and voices, on whole batches, before the branch that encodes them.

Faces leave here as a webcam would give them: turned, shifted, badly lit, blurred, blocky. Voices leave as another
person in another room would: another pitch and vocal tract, another microphone, other noise.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from train.frontends.grey_and_mel import standardise


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) float32, uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=generator)


def faces(images: Tensor, size_px: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Grey pictures to augmented, standardised ones: (n, 48, 48) uint8 to (n, 1, size_px, size_px) float32.

    `strength` in [0, 1] scales how far pictures are moved and relit, and how often they are blurred and covered.
    """
    return erase(standardise(pixels(images, size_px, generator, strength)), generator, strength)


def pixels(images: Tensor, size_px: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """As `faces`, in grey levels of 0 to 255, and nothing covered."""
    n = len(images)
    grey = images.to(torch.float32).unsqueeze(1)
    grey = _warp(grey, size_px, generator, strength)
    grey = _light(grey, generator, strength)
    grey = _soften(grey, generator, strength)
    noise = uniform(n, 0.0, 8.0 * strength, generator).reshape(n, 1, 1, 1)
    grey = grey + noise * torch.randn(grey.shape, generator=generator)
    return grey.clamp(0.0, 255.0)


def _warp(grey: Tensor, size_px: int, generator: torch.Generator, strength: float) -> Tensor:
    n = len(grey)
    angle = strength * uniform(n, -0.26, 0.26, generator)
    scale = torch.exp(strength * uniform(n, -0.2, 0.2, generator))
    stretch = torch.exp(strength * uniform(n, -0.08, 0.08, generator))
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = strength * uniform(2 * n, -0.16, 0.16, generator).reshape(n, 2)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        torch.stack([cos * mirror * stretch, -sin, shift[:, 0]], 1),
        torch.stack([sin * mirror, cos, shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 1, size_px, size_px], align_corners=False)
    return F.grid_sample(grey, grid, padding_mode="border", align_corners=False)


def _light(grey: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    n, size_px = len(grey), grey.shape[-1]
    gamma = torch.exp(strength * uniform(n, -0.5, 0.5, generator)).reshape(n, 1, 1, 1)
    line = torch.linspace(-1.0, 1.0, size_px)
    slope = strength * uniform(2 * n, -0.35, 0.35, generator).reshape(n, 2, 1, 1)
    side = 1.0 + slope[:, :1] * line.reshape(1, 1, 1, -1) + slope[:, 1:] * line.reshape(1, 1, -1, 1)
    return 255.0 * (grey / 255.0).clamp_min(1e-4) ** gamma * side


def _soften(grey: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    # A face far from the camera: fewer pixels than the crop, then enlarged. One size for the batch is cheap.
    if torch.rand(1, generator=generator).item() < 0.3 * strength:
        size_px = grey.shape[-1]
        small = int(size_px * uniform(1, 0.45, 0.9, generator).item())
        grey = F.interpolate(grey, size=(small, small), mode="area")
        grey = F.interpolate(grey, size=(size_px, size_px), mode="bilinear", align_corners=False)
    return grey


def erase(grey: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Zero, the mean of a standardised picture, over a part of it: a hand, hair, the picture's edge; (n, 1, S, S)."""
    n, size_px = len(grey), grey.shape[-1]
    centre = uniform(2 * n, 0.0, float(size_px), generator).reshape(n, 2, 1)
    half = uniform(2 * n, 0.06 * size_px, 0.2 * size_px, generator).reshape(n, 2, 1)
    half = half * (torch.rand(n, generator=generator) < 0.5 * strength).reshape(n, 1, 1)
    inside = (torch.arange(size_px).reshape(1, 1, -1) - centre).abs() < half  # (n, axis, size)
    return grey.masked_fill((inside[:, 0, :, None] & inside[:, 1, None, :]).unsqueeze(1), 0.0)


def stretch(samples: Tensor, rate: Tensor, n_out: int) -> Tensor:
    """Play each row `rate` times as fast, which shifts pitch and formants alike: (n, n_in) to (n, n_out).

    Starts are aligned to the middle of the row. Positions beyond either end read zero. Linear interpolation: its
    images lie above 6 kHz, at -20 dB and less, where speech at these corpora's codec rates holds little.
    """
    n, n_in = samples.shape
    position = (torch.arange(n_out) - n_out / 2) * rate.reshape(n, 1) + n_in / 2
    below = position.floor()
    fraction = position - below
    index = below.to(torch.int64)
    padded = F.pad(samples, (1, 2))
    left = padded.gather(1, (index + 1).clamp(0, n_in + 2))
    right = padded.gather(1, (index + 2).clamp(0, n_in + 2))
    return left * (1 - fraction) + right * fraction


def voices(samples: Tensor, n_out: int, generator: torch.Generator) -> Tensor:
    """Waveforms of another speaker in another room: (n, n_in) to (n, n_out) float32, n_in at least n_out * 1.3."""
    n = len(samples)
    octaves = uniform(n, -0.36, 0.36, generator)
    wave = stretch(samples, torch.exp2(octaves), n_out)
    level = wave.square().mean(1, keepdim=True).sqrt()
    snr_db = uniform(n, 6.0, 60.0, generator).reshape(n, 1)
    noise = torch.randn(wave.shape, generator=generator)
    brown = torch.rand(n, 1, generator=generator) < 0.5  # half of the noises fall with frequency, as rooms' do
    noise = torch.where(brown, _lowpass(noise), noise)
    return wave + noise * level * 10 ** (-snr_db / 20)


def _lowpass(noise: Tensor) -> Tensor:
    smooth = F.avg_pool1d(noise.unsqueeze(1), 9, 1, 4, count_include_pad=False).squeeze(1)
    return smooth * 3.0  # an average of nine leaves a third of the deviation


def log_mel(spectrogram: Tensor, generator: torch.Generator) -> Tensor:
    """Another microphone and another vocal tract: (n, n_mels, n_frames) to the same shape.

    A smooth random equaliser is added, and the mel axis is stretched around its foot (vocal tract length).
    """
    n, n_mels, _ = spectrogram.shape
    axis = torch.linspace(0.0, 1.0, n_mels).reshape(1, -1, 1)
    curve = torch.zeros(n, n_mels, 1)
    for order in range(1, 5):
        weight = torch.randn(n, 1, 1, generator=generator) * 1.6 / order
        curve = curve + weight * torch.cos(math.pi * order * axis)
    warp = torch.exp(uniform(n, -0.12, 0.12, generator)).reshape(n, 1)
    position = (torch.arange(n_mels).reshape(1, -1) * warp).clamp(max=n_mels - 1.001)
    low = position.floor().to(torch.int64)
    part = (position - low).unsqueeze(2)
    index = low.unsqueeze(2).expand(-1, -1, spectrogram.shape[2])
    warped = spectrogram.gather(1, index) * (1 - part) + spectrogram.gather(1, index + 1) * part
    return warped + curve


def mask(views: Tensor, generator: torch.Generator) -> Tensor:
    """SpecAugment (Park et al., 2019): two bands and two spans of each item set to zero, (n, 2, n_mels, n_frames)."""
    n, _, n_mels, n_frames = views.shape
    for axis, size, widest in ((2, n_mels, 10), (3, n_frames, 20)):
        for _ in range(2):
            width = uniform(n, 0.0, float(widest), generator)
            start = uniform(n, 0.0, 1.0, generator) * (size - width)
            at = torch.arange(size).reshape(1, -1)
            hidden = (at >= start.reshape(-1, 1)) & (at < (start + width).reshape(-1, 1))
            shape = (n, 1, n_mels, 1) if axis == 2 else (n, 1, 1, n_frames)
            views = views.masked_fill(hidden.reshape(shape), 0.0)
    return views
