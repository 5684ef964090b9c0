"""I3D and C3D: parameters derived layer by layer, shapes of the papers' figures, SAME padding as loops."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from train.backbones.c3d import C3d
from train.backbones.i3d import FlowClip, I3d, Inception, RgbClip, SamePool, Unit

# GoogLeNet's table: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5 (3x3x3 in I3D), pool projection.
GOOGLENET = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}
I3D_SHAPES = {  # of 79 frames of 224 px: channels, frames, side
    "Conv3d_1a_7x7": (64, 40, 112), "Conv3d_2b_1x1": (64, 40, 56), "Conv3d_2c_3x3": (192, 40, 56),
    "Mixed_3b": (256, 40, 28), "Mixed_3c": (480, 40, 28), "Mixed_4b": (512, 20, 14), "Mixed_4c": (512, 20, 14),
    "Mixed_4d": (512, 20, 14), "Mixed_4e": (528, 20, 14), "Mixed_4f": (832, 20, 14), "Mixed_5b": (832, 10, 7),
    "Mixed_5c": (1024, 10, 7),
}  # fmt: skip


def n_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def unit_count(c_in: int, c_out: int, extent: int = 1) -> int:
    return extent**3 * c_in * c_out + 2 * c_out  # no bias; batch normalisation's scale and shift


def i3d_counts(n_channels: int, n_labels: int) -> dict[str, int]:
    counts = {
        "Conv3d_1a_7x7": unit_count(n_channels, 64, 7),
        "Conv3d_2b_1x1": unit_count(64, 64),
        "Conv3d_2c_3x3": unit_count(64, 192, 3),
        "logits": 1024 * n_labels + n_labels,
    }
    for name, (c_in, only, reduce1, full1, reduce2, full2, pooled) in GOOGLENET.items():
        counts[f"Mixed_{name}"] = (
            unit_count(c_in, only) + unit_count(c_in, reduce1) + unit_count(reduce1, full1, 3)
            + unit_count(c_in, reduce2) + unit_count(reduce2, full2, 3) + unit_count(c_in, pooled)
        )  # fmt: skip
    return counts


@pytest.mark.parametrize(
    ("n_channels", "n_labels", "total"), [(3, 400, 12_697_264), (2, 400, 12_675_312), (3, 4, 12_291_364)]
)
def test_i3d_has_the_derived_and_published_parameters(n_channels: int, n_labels: int, total: int) -> None:
    with torch.device("meta"):
        net = I3d(n_labels, n_channels=n_channels)
    expected = i3d_counts(n_channels, n_labels)
    assert {name: n_parameters(net.get_submodule(name)) for name in expected} == expected
    assert n_parameters(net) == sum(expected.values()) == total


def test_c3d_has_the_derived_and_published_parameters() -> None:
    channels = (3, 64, 128, 256, 256, 512, 512, 512, 512)
    convolutions = sum(27 * a * b + b for a, b in pairwise(channels))
    hidden = (512 * 4 * 4) * 4096 + 4096 + 4096 * 4096 + 4096
    for n_labels, total in ((487, 79_991_015), (101, 78_409_573)):  # the often quoted 78.4 million is of 101
        with torch.device("meta"):
            assert n_parameters(C3d(n_labels)) == convolutions + hidden + 4097 * n_labels == total


@pytest.mark.parametrize("n_channels", [3, 2])
def test_i3d_shapes_are_those_of_the_figure(n_channels: int) -> None:
    with torch.device("meta"):  # shapes of the full size, without its arithmetic
        net, clip = I3d(400, n_channels=n_channels), torch.empty(1, n_channels, 79, 224, 224)
        got = {name: tuple(x.shape) for name, x in net.stages(clip).items()}
        assert got == {name: (1, c, n, side, side) for name, (c, n, side) in I3D_SHAPES.items()}
        assert net.features(clip).shape == (1, 1024, 9)
        assert net(clip).shape == (1, 400)


def test_c3d_shapes_are_those_of_the_figure() -> None:
    with torch.device("meta"):
        net, clip = C3d(487), torch.empty(1, 3, 16, 112, 112)
        got = [tuple(x.shape[1:]) for x in net.stages(clip).values()]
        assert got == [(64, 16, 56, 56), (128, 8, 28, 28), (256, 4, 14, 14), (512, 2, 7, 7), (512, 1, 4, 4)]
        assert net.features(clip).shape == (1, 4096)
        assert net(clip).shape == (1, 487)


def test_module_names_are_those_of_public_weights() -> None:
    with torch.device("meta"):
        keys = set(I3d(400).state_dict())
    stems = {"Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"}
    units = stems | {f"Mixed_{m}.{b}" for m in GOOGLENET for b in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")}
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"{u}.conv3d.weight" for u in units} | {f"{u}.bn.{n}" for u in units for n in norms}
    assert keys == expected | {"logits.conv3d.weight", "logits.conv3d.bias"}


def same_start(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: number of outputs, and where the first window begins."""
    n_out = math.ceil(size / stride)
    return n_out, -(max((n_out - 1) * stride + kernel - size, 0) // 2)


def windows(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, ...]) -> dict[tuple[int, ...], list[tuple]]:
    """For each output place, the (offset in kernel, place in input) pairs that lie inside."""
    places = [same_start(n, k, s) for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    return {
        out: [
            (offset, at)
            for offset in np.ndindex(*kernel)
            for at in [tuple(p[1] + o * s + d for p, o, s, d in zip(places, out, stride, offset, strict=True))]
            if all(0 <= i < n for i, n in zip(at, x.shape[1:], strict=True))
        ]
        for out in np.ndindex(*(p[0] for p in places))
    }


@pytest.mark.parametrize(("extent", "stride"), [(1, 1), (3, 1), (3, 2), (7, 2)])
def test_a_unit_is_a_same_convolution_normalised_and_rectified(extent: int, stride: int) -> None:
    torch.manual_seed(0)
    unit = Unit(2, 3, extent, stride).double().eval()
    unit.bn.running_mean.uniform_(-1, 1)
    unit.bn.running_var.uniform_(0.5, 2)
    torch.nn.init.uniform_(unit.bn.bias)
    x = torch.randn(1, 2, 5, 6, 3, dtype=torch.float64)
    got = unit(x)[0].detach().numpy()
    kernel, source = unit.conv3d.weight.detach().numpy(), x[0].numpy()
    mean, variance = unit.bn.running_mean.numpy(), unit.bn.running_var.numpy()
    shift = unit.bn.bias.detach().numpy()
    places = windows(source, (extent,) * 3, (stride,) * 3)
    assert len(places) == got[0].size
    for out, pairs in places.items():
        value = np.zeros(3)
        for offset, at in pairs:
            value += kernel[(slice(None), slice(None), *offset)] @ source[(slice(None), *at)]
        expected = np.maximum((value - mean) / np.sqrt(variance + 1e-3) + shift, 0)
        np.testing.assert_allclose(got[(slice(None), *out)], expected, atol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1,) * 3)],
)
def test_a_pool_is_the_largest_inside_its_same_window(
    kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    x = torch.rand(1, 2, 5, 6, 7)
    got, source = SamePool(kernel, stride)(x)[0].numpy(), x[0].numpy()
    places = windows(source, kernel, stride)
    assert len(places) == got[0].size
    for out, pairs in places.items():
        for channel in range(2):
            assert got[(channel, *out)] == max(source[(channel, *at)] for _, at in pairs)


def test_an_inception_module_is_its_four_branches_in_order() -> None:
    torch.manual_seed(0)
    mixed = Inception(8, (2, 3, 4, 2, 3, 5)).eval()
    x = torch.rand(2, 8, 4, 5, 5)
    y = mixed(x)
    assert y.shape == (2, 2 + 4 + 3 + 5, 4, 5, 5)
    scale = 1.001**-0.5

    def conv(z: torch.Tensor, unit: Unit) -> torch.Tensor:
        weight = unit.conv3d.weight
        return F.relu(F.conv3d(z, weight, padding=weight.shape[-1] // 2) * scale)

    pooled = F.max_pool3d(x, 3, 1, 1)
    parts = [conv(x, mixed.b0), conv(conv(x, mixed.b1a), mixed.b1b), conv(conv(x, mixed.b2a), mixed.b2b)]
    torch.testing.assert_close(y, torch.cat([*parts, conv(pooled, mixed.b3b)], 1), atol=1e-5, rtol=1e-5)


def test_i3d_logits_are_the_mean_over_pairs_of_steps() -> None:
    torch.manual_seed(0)
    net = I3d(3, narrow=8).eval()
    clip = torch.rand(1, 3, 40, 64, 64) * 2 - 1
    with torch.no_grad():
        got, maps = net(clip)[0], net.stages(clip)["Mixed_5c"][0]
        assert maps.shape == (128, 5, 2, 2)
        weight, bias = net.logits.conv3d.weight[:, :, 0, 0, 0], net.logits.conv3d.bias
        assert bias is not None
        steps = [weight @ maps[:, t : t + 2].mean((1, 2, 3)) + bias for t in range(4)]
    torch.testing.assert_close(got, sum(steps, torch.zeros(3)) / 4, atol=1e-5, rtol=1e-5)


def test_i3d_takes_short_clips_of_small_pictures() -> None:
    net = I3d(3, narrow=8, n_channels=2).eval()
    assert net(torch.zeros(2, 2, 3, 17, 17)).shape == (2, 3)


@pytest.mark.parametrize(("n_frames", "crop_px"), [(16, 16), (16, 40), (33, 64), (79, 32)])
def test_c3d_sizes_its_first_layer_by_the_clip(n_frames: int, crop_px: int) -> None:
    net = C3d(3, n_frames=n_frames, crop_px=crop_px, narrow=16).eval()
    clip = torch.zeros(1, 3, n_frames, crop_px, crop_px)
    assert net.stages(clip)["pool5"].numel() == net.n_flat
    assert net(clip).shape == (1, 3)


def test_c3d_is_its_layers_in_order() -> None:
    torch.manual_seed(0)
    net = C3d(3, crop_px=32, narrow=16).eval()
    clip = x = torch.rand(2, 3, 16, 32, 32)
    for names, kernel, pad in (
        (("conv1a",), (1, 2, 2), 0),
        (("conv2a",), (2, 2, 2), 0),
        (("conv3a", "conv3b"), (2, 2, 2), 0),
        (("conv4a", "conv4b"), (2, 2, 2), 0),
        (("conv5a", "conv5b"), (2, 2, 2), (0, 1, 1)),
    ):
        for name in names:
            x = F.conv3d(x, net.get_parameter(f"{name}.weight"), net.get_parameter(f"{name}.bias"), padding=1).relu()
        x = F.max_pool3d(x, kernel, kernel, pad)
    hidden = net.fc7(net.fc6(x.reshape(2, -1)).relu()).relu()
    torch.testing.assert_close(net(clip), net.fc8(hidden), atol=1e-5, rtol=1e-5)


def test_front_ends_of_pictures_and_flow() -> None:
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    torch.testing.assert_close(RgbClip()(frames).flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    frames = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8)
    clip = RgbClip()(frames)
    assert clip.shape == (2, 3, 4, 5, 6)
    assert clip[1, 2, 3, 4, 5].item() == pytest.approx(frames[1, 3, 4, 5, 2].item() / 127.5 - 1, abs=1e-6)
    flow = torch.tensor([-30.0, 5.0]).reshape(1, 1, 1, 1, 2)
    torch.testing.assert_close(FlowClip()(flow).flatten(), torch.tensor([-1.0, 0.25]))
    assert FlowClip()(torch.zeros(2, 4, 5, 6, 2)).shape == (2, 2, 4, 5, 6)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="narrow: expected 1, 2, 4 or 8, got 3"):
        I3d(4, narrow=3)
    with pytest.raises(ValueError, match="narrow: expected 1, 2, 4, 8 or 16, got 3"):
        C3d(4, narrow=3)
    with pytest.raises(ValueError, match="expected 16 frames of 16 px or more, got 15 of 112 px"):
        C3d(4, n_frames=15)
