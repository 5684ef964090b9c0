"""Feature enhancement of a picture (Zhou et al., 2019), section 3, "Feature Enhancement" and Table 3.

F-Mean, F-MeanStd, F-MeanStd-2: features of 18 views of a picture (three rotations, three scales, mirrored or not),
averaged, or averaged beside their standard deviation. F-NormFFT: the Fourier transform of the basic feature,
normalised, real part beside imaginary. F-AR-Mean: the F-Mean of two networks with different pretraining (AffectNet
and RAF-DB) side by side.

Dimension letters: B batch, V views (18), S side in pixels, D features of a network.

What the text leaves open: rotations and scales are about the picture's centre, with bilinear sampling, and what lies
outside repeats the border; the deviation is that of the 18 views themselves (divided by 18); the Fourier spectrum,
all D bins of it, is divided by its Euclidean length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Enhancement:
    """How features of views become the feature of a picture.

    Attributes:
        rotations_deg: Rotations of the views, anticlockwise; empty where only the picture itself counts.
        scales: Enlargements of the views; a value above 1 shows less of the picture.
        statistic: What is made of the views' features: their mean, or mean and deviation; or the spectrum of one.
        n_networks: Networks whose features are put side by side.
    """

    rotations_deg: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    statistic: Literal["mean", "mean-std", "norm-fft"] = "mean"
    n_networks: int = 1

    def __post_init__(self) -> None:
        if bool(self.rotations_deg) != bool(self.scales):
            raise ValueError(f"expected rotations and scales, or neither; got {self.rotations_deg} and {self.scales}")
        if any(not scale > 0 for scale in self.scales):
            raise ValueError(f"expected positive scales, got {self.scales}")
        if self.n_networks < 1:
            raise ValueError(f"expected one network or more, got {self.n_networks}")
        if (self.statistic == "mean-std") > bool(self.scales) or (self.statistic == "norm-fft") > (not self.scales):
            raise ValueError("the deviation is of several views, the spectrum of the one picture")

    @property
    def factor(self) -> int:
        """Width of the result in units of D."""
        return self.n_networks * (1 if self.statistic == "mean" else 2)


_DEFAULT_DEG, _DEFAULT_SCALES = (-2.0, 0.0, 2.0), (1.0, 1.03, 1.07)
ENHANCEMENTS = {
    "Basic": Enhancement(),
    "F-Mean": Enhancement(rotations_deg=_DEFAULT_DEG, scales=_DEFAULT_SCALES),
    "F-MeanStd": Enhancement(rotations_deg=_DEFAULT_DEG, scales=_DEFAULT_SCALES, statistic="mean-std"),
    "F-MeanStd-2": Enhancement(
        rotations_deg=(-15.0, 0.0, 15.0), scales=(0.75, 1.0, 1.25), statistic="mean-std"
    ),
    "F-NormFFT": Enhancement(statistic="norm-fft"),
    "F-AR-Mean": Enhancement(rotations_deg=_DEFAULT_DEG, scales=_DEFAULT_SCALES, n_networks=2),
}  # fmt: skip


class Views(nn.Module):
    """All rotations, scales and mirrors of a picture: (B, C, S, S) float32 to (B, V, C, S, S)."""

    grids: Tensor

    def __init__(self, rotations_deg: Sequence[float], scales: Sequence[float], side_px: int) -> None:
        super().__init__()
        rows = []
        for degrees, scale, mirror in product(rotations_deg, scales, (1.0, -1.0)):
            cos, sin = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
            # Where a place of the view lies in the picture; y points down, so this turns the view anticlockwise.
            rows.append([[mirror * cos, -mirror * sin, 0.0], [sin, cos, 0.0]])
        self.n_views = len(rows)
        shape = [len(rows), 1, side_px, side_px]
        self.register_buffer("grids", F.affine_grid(torch.tensor(rows), shape, align_corners=False), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        n = picture.shape[0]
        repeated = picture.unsqueeze(1).expand(-1, self.n_views, -1, -1, -1).flatten(0, 1)
        grids = self.grids.unsqueeze(0).expand(n, -1, -1, -1, -1).flatten(0, 1)
        views = F.grid_sample(repeated, grids, padding_mode="border", align_corners=False)
        return views.unflatten(0, (-1, self.n_views))


def mean_and_deviation(features: Tensor) -> Tensor:
    """Mean over the views beside their standard deviation: (B, V, D) to (B, 2D)."""
    mean = features.mean(1)
    variance = (features - mean.unsqueeze(1)).square().mean(1)
    return torch.cat([mean, (variance + 1e-12).sqrt()], 1)  # the root of a bare zero has no finite slope


class NormalisedSpectrum(nn.Module):
    """Discrete Fourier transform as a fixed product, divided by its length: (B, D) float32 to (B, 2D)."""

    basis: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        k = np.arange(n_features)
        # k * n modulo D: the angle of a product in the hundred thousands would lose its digits.
        angle = 2 * np.pi * (np.outer(k, k) % n_features) / n_features
        basis = np.concatenate([np.cos(angle), -np.sin(angle)], 1)
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(torch.matmul(features, self.basis), dim=1)


class EnhancedFeatures(nn.Module):
    """Pictures to enhanced features: (B, 3, S, S) float32 to (B, factor * D).

    Args:
        networks: As many as the enhancement says, each (B, 3, S, S) to (B, D).
        n_features: D.
        enhancement: What is made of them.
        side_px: S.

    Raises:
        ValueError: If there are not as many networks.
    """

    def __init__(
        self, networks: Sequence[nn.Module], n_features: int, enhancement: Enhancement, *, side_px: int
    ) -> None:
        super().__init__()
        if len(networks) != enhancement.n_networks:
            raise ValueError(f"expected {enhancement.n_networks} networks, got {len(networks)}")
        self.networks = nn.ModuleList(networks)
        self.statistic, self.n_out = enhancement.statistic, enhancement.factor * n_features
        self.views = Views(enhancement.rotations_deg, enhancement.scales, side_px) if enhancement.scales else None
        self.spectrum = NormalisedSpectrum(n_features) if enhancement.statistic == "norm-fft" else None

    def forward(self, picture: Tensor) -> Tensor:
        return torch.cat([self._one(network, picture) for network in self.networks], 1)

    def _one(self, network: nn.Module, picture: Tensor) -> Tensor:
        if self.views is None:
            features: Tensor = network(picture)
            return features if self.spectrum is None else self.spectrum(features)
        views = self.views(picture)
        features = network(views.flatten(0, 1)).unflatten(0, (-1, self.views.n_views))  # (B, V, D)
        return mean_and_deviation(features) if self.statistic == "mean-std" else features.mean(1)
