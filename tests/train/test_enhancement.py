"""Feature enhancement: views against loops and exact turns, the five features against the text's definitions."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.layers.enhancement import (
    ENHANCEMENTS,
    EnhancedFeatures,
    Enhancement,
    NormalisedSpectrum,
    Views,
    mean_and_deviation,
)

S = 9


def pictures(n: int = 2) -> Tensor:
    return torch.rand(n, 3, S, S, generator=torch.Generator().manual_seed(0))


def by_loop(picture: np.ndarray, degrees: float, scale: float, mirror: bool) -> np.ndarray:
    """One channel: mirrored, turned anticlockwise, enlarged; bilinear, the border repeated."""
    source = picture[:, ::-1] if mirror else picture
    cos, sin, middle = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), (S - 1) / 2
    out = np.zeros((S, S))
    for row, column in product(range(S), range(S)):
        x, up = (column - middle) / scale, (middle - row) / scale
        # The place that a turn by +degrees, anticlockwise with y up, brings here.
        at_x, at_up = cos * x + sin * up, -sin * x + cos * up
        r = min(max(middle - at_up, 0.0), S - 1.0)
        c = min(max(middle + at_x, 0.0), S - 1.0)
        r0, c0 = min(int(r), S - 2), min(int(c), S - 2)
        top = source[r0, c0] * (1 - (c - c0)) + source[r0, c0 + 1] * (c - c0)
        bottom = source[r0 + 1, c0] * (1 - (c - c0)) + source[r0 + 1, c0 + 1] * (c - c0)
        out[row, column] = top * (1 - (r - r0)) + bottom * (r - r0)
    return out


@pytest.mark.parametrize("name", ["F-Mean", "F-MeanStd-2"])
def test_views_are_the_18_of_three_turns_three_scales_and_mirrors(name: str) -> None:
    settings = ENHANCEMENTS[name]
    got = Views(settings.rotations_deg, settings.scales, S)(pictures())
    assert got.shape == (2, 18, 3, S, S)
    for item, channel in ((0, 0), (1, 2)):
        source = pictures()[item, channel].double().numpy()
        wanted = product(settings.rotations_deg, settings.scales, (False, True))
        for view, (degrees, scale, mirror) in enumerate(wanted):
            expected = by_loop(source, degrees, scale, mirror)
            np.testing.assert_allclose(got[item, view, channel], expected, atol=1e-5)


def test_a_quarter_turn_is_anticlockwise_and_the_second_view_is_the_mirror() -> None:
    turned = Views((0.0, 90.0), (1.0,), S)(pictures())
    torch.testing.assert_close(turned[:, 0], pictures(), atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[:, 1], pictures().flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[:, 2], torch.rot90(pictures(), 1, (2, 3)), atol=1e-5, rtol=0)


def test_a_scale_of_two_shows_the_middle_half_enlarged() -> None:
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    enlarged = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Views((0.0,), (2.0,), 8)(picture)[:, 0], enlarged[:, :, 4:12, 4:12])


def test_settings_are_those_of_table_3() -> None:
    assert list(ENHANCEMENTS) == ["Basic", "F-Mean", "F-MeanStd", "F-MeanStd-2", "F-NormFFT", "F-AR-Mean"]
    for name in ("F-Mean", "F-MeanStd", "F-AR-Mean"):
        assert ENHANCEMENTS[name].rotations_deg == (-2, 0, 2)
        assert ENHANCEMENTS[name].scales == (1, 1.03, 1.07)
    assert ENHANCEMENTS["F-MeanStd-2"].rotations_deg == (-15, 0, 15)
    assert ENHANCEMENTS["F-MeanStd-2"].scales == (0.75, 1, 1.25)
    assert [enhancement.factor for enhancement in ENHANCEMENTS.values()] == [1, 1, 2, 2, 2, 2]


class Probe(nn.Module):
    """A network that sees where things are: (B, 3, S, S) to (B, 4)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        weight = torch.randn(4, 3 * S * S, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)

    def forward(self, picture: Tensor) -> Tensor:
        return torch.tanh(picture.flatten(1) @ self.weight.T)


def expected_feature(name: str, picture: np.ndarray) -> list[float]:
    """The text's definition, one picture (3, S, S)."""
    settings = ENHANCEMENTS[name]
    out: list[float] = []
    for seed in range(settings.n_networks):
        weight = Probe(seed).weight.detach().double().numpy()
        basic = np.tanh(weight @ picture.ravel())
        if name == "Basic":
            out += list(basic)
        elif name == "F-NormFFT":
            spectrum = np.fft.fft(basic)
            spectrum /= np.sqrt((np.abs(spectrum) ** 2).sum())
            out += [*spectrum.real, *spectrum.imag]
        else:
            features = []
            for degrees, scale, mirror in product(settings.rotations_deg, settings.scales, (False, True)):
                view = np.stack([by_loop(channel, degrees, scale, mirror) for channel in picture])
                features.append(np.tanh(weight @ view.ravel()))
            out += list(np.mean(features, 0))
            out += list(np.std(features, 0)) if "Std" in name else []
    return out


@pytest.mark.parametrize("name", list(ENHANCEMENTS))
def test_features_are_as_the_text_defines_them(name: str) -> None:
    enhancement = ENHANCEMENTS[name]
    layer = EnhancedFeatures([Probe(seed) for seed in range(enhancement.n_networks)], 4, enhancement, side_px=S)
    got = layer(pictures())
    assert got.shape == (2, layer.n_out) == (2, 4 * enhancement.factor)
    for item in range(2):
        expected = expected_feature(name, pictures()[item].double().numpy())
        np.testing.assert_allclose(got[item].detach(), expected, atol=2e-5)
    torch.autograd.backward(got.square().sum() + got.sum())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize("n_features", [1, 8, 512])
def test_the_spectrum_is_numpys_of_unit_length(n_features: int) -> None:
    features = torch.randn(3, n_features, generator=torch.Generator().manual_seed(0))
    got = NormalisedSpectrum(n_features)(features)
    spectrum = np.fft.fft(features.double().numpy())
    spectrum /= np.linalg.norm(spectrum, axis=1, keepdims=True)
    np.testing.assert_allclose(got, np.concatenate([spectrum.real, spectrum.imag], 1), atol=1e-6)


def test_equal_views_have_no_deviation_and_a_finite_gradient() -> None:
    features = torch.ones(2, 18, 3, requires_grad=True)
    got = mean_and_deviation(features)
    torch.testing.assert_close(got, torch.tensor([[1.0, 1, 1, 0, 0, 0]] * 2), atol=1e-5, rtol=0)
    torch.autograd.backward(got.sum())
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Enhancement(scales=(1.0,)), "expected rotations and scales, or neither"),
        (lambda: Enhancement(scales=(0.0,), rotations_deg=(0.0,)), "expected positive scales"),
        (lambda: Enhancement(n_networks=0), "expected one network or more, got 0"),
        (lambda: Enhancement(statistic="mean-std"), "the deviation is of several views"),
        (
            lambda: Enhancement(statistic="norm-fft", scales=(1.0,), rotations_deg=(0.0,)),
            "the spectrum of the one picture",
        ),
        (
            lambda: EnhancedFeatures([Probe(0)], 4, ENHANCEMENTS["F-AR-Mean"], side_px=S),
            "expected 2 networks, got 1",
        ),
    ],
)
def test_contradictions_are_refused(make: Callable[[], object], message: str) -> None:

    with pytest.raises(ValueError, match=message):
        make()
