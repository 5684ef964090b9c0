"""VGG16 and its attentions: each attention as loops from its paper, parameters derived, positions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from train.backbones.vgg_attention import Cbam, CoordinateAttention, SqueezeExcitation, Vgg16, VggConfig

PLAIN = VggConfig(attention="none", after_blocks=())
SMALL = VggConfig(picture_px=64, widths=(8, 8, 16, 16, 16), hidden=24)
LAYERS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # configuration D


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mlp(module: SqueezeExcitation | Cbam, values: list[float]) -> np.ndarray:
    down, up = module.down.weight.detach().numpy(), module.up.weight.detach().numpy()
    return np.asarray(up @ np.maximum(down @ np.array(values), 0))


def material(c: int, h: int, w: int) -> tuple[torch.Tensor, np.ndarray]:
    x = torch.randn(2, c, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return x, x.numpy()


def test_squeeze_excitation_is_its_equations() -> None:
    torch.manual_seed(0)
    gate = SqueezeExcitation(12, reduction=2).double()
    assert gate.down.weight.shape == (6, 12)
    x, source = material(12, 3, 5)
    got = gate(x).detach().numpy()
    for b in range(2):
        z = [sum(source[b, c, i, j] for i in range(3) for j in range(5)) / 15 for c in range(12)]
        s = mlp(gate, z)
        for c in range(12):
            np.testing.assert_allclose(got[b, c], source[b, c] * sigmoid(s[c]), atol=1e-10)


def test_cbam_is_its_equations() -> None:
    torch.manual_seed(0)
    gate = Cbam(12, reduction=2).double()
    x, source = material(12, 3, 5)
    got = gate(x).detach().numpy()
    kernel = gate.spatial.weight.detach().numpy()[0]
    assert kernel.shape == (2, 7, 7)
    for b in range(2):
        mean, peak = [source[b, c].mean() for c in range(12)], [source[b, c].max() for c in range(12)]
        s = mlp(gate, mean) + mlp(gate, peak)
        refined = np.stack([source[b, c] * sigmoid(s[c]) for c in range(12)])
        maps = (refined.mean(0), refined.max(0))
        for i in range(3):
            for j in range(5):
                total = 0.0
                for m in range(2):
                    for di in range(-3, 4):
                        for dj in range(-3, 4):
                            if 0 <= i + di < 3 and 0 <= j + dj < 5:
                                total += kernel[m, di + 3, dj + 3] * maps[m][i + di, j + dj]
                np.testing.assert_allclose(got[b, :, i, j], refined[:, i, j] * sigmoid(total), atol=1e-10)


def test_coordinate_attention_is_its_equations() -> None:
    torch.manual_seed(0)
    gate = CoordinateAttention(12).double().eval()
    gate.norm.running_mean.uniform_(-0.3, 0.3)
    gate.norm.running_var.uniform_(0.05, 0.2)
    x, source = material(12, 3, 5)
    got = gate(x).detach().numpy()
    joint = gate.joint.weight.detach().numpy()[:, :, 0]
    assert joint.shape == (8, 12)
    mean, variance = gate.norm.running_mean.numpy(), gate.norm.running_var.numpy()

    def transformed(strip: np.ndarray) -> np.ndarray:  # eq. 6 at one place: F1, batch normalisation, h-swish
        v = (joint @ strip - mean) / np.sqrt(variance + 1e-5)
        return np.array([a * min(max(a + 3, 0), 6) / 6 for a in v])

    def gated(layer: nn.Conv1d, f: np.ndarray) -> list[float]:
        assert layer.bias is not None
        return [sigmoid(a) for a in layer.weight.detach().numpy()[:, :, 0] @ f + layer.bias.detach().numpy()]

    for b in range(2):
        along_h = [np.array([sum(source[b, c, i]) / 5 for c in range(12)]) for i in range(3)]  # eq. 4
        along_w = [np.array([sum(source[b, c, :, j]) / 3 for c in range(12)]) for j in range(5)]  # eq. 5
        rows = [gated(gate.rows, transformed(strip)) for strip in along_h]  # eq. 7
        columns = [gated(gate.columns, transformed(strip)) for strip in along_w]  # eq. 8
        for c in range(12):
            for i in range(3):
                for j in range(5):
                    expected = source[b, c, i, j] * rows[i][c] * columns[j][c]  # eq. 9
                    assert got[b, c, i, j] == pytest.approx(expected, abs=1e-10)


def derived_count(n_labels: int, attention: str, after_blocks: tuple[int, ...]) -> int:
    total, c_in = 0, 3
    for width in LAYERS:
        total += 9 * c_in * width + width
        c_in = width
    total += 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * n_labels + n_labels
    for c in (dict(zip(range(1, 6), (64, 128, 256, 512, 512), strict=True))[b] for b in after_blocks):
        r = max(c // 32, 8)
        added = {"se": 2 * c * (c // 16), "cbam": 2 * c * (c // 16) + 98}
        total += added.get(attention, c * r + 2 * r + 2 * (r * c + c))
    return total


def test_vgg16_has_its_published_parameters() -> None:
    with torch.device("meta"):
        assert n_parameters(Vgg16(1000, PLAIN)) == derived_count(1000, "none", ()) == 138_357_544


@pytest.mark.parametrize("attention", ["se", "cbam", "coordinate"])
@pytest.mark.parametrize("after_blocks", [(1, 4, 5), (1, 2, 3, 4, 5)])
def test_attention_adds_its_derived_parameters(attention: str, after_blocks: tuple[int, ...]) -> None:
    with torch.device("meta"):
        net = Vgg16(4, VggConfig(attention=attention, after_blocks=after_blocks))  # type: ignore[arg-type]
    assert n_parameters(net) == derived_count(4, attention, after_blocks)


def test_layer_sizes_follow_equations_1_to_4() -> None:
    with torch.device("meta"):
        net, x = Vgg16(4, PLAIN), torch.empty(1, 3, 224, 224)
        side, sides = 224, []
        for layer in (layer for block in net.blocks for layer in block):  # type: ignore[attr-defined]
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                padding, kernel, stride = 1, 3, 1
                side = (side + 2 * padding - kernel) // stride + 1
            elif isinstance(layer, nn.MaxPool2d):
                kernel, stride = 2, 2
                side = (side - kernel) // stride + 1
                sides.append(side)
            assert x.shape[2:] == (side, side)
        assert sides == [112, 56, 28, 14, 7]
        assert [tuple(s.shape) for s in net.stages(torch.empty(1, 3, 224, 224))] == [
            (1, c, side, side) for c, side in zip((64, 128, 256, 512, 512), sides, strict=True)
        ]
        assert net.features(torch.empty(1, 3, 224, 224)).shape == (1, 4096)
        assert net(torch.empty(1, 3, 224, 224)).shape == (1, 4)


@pytest.mark.parametrize("after_blocks", [(1, 4, 5), (1, 2, 3, 4, 5), (2,)])
@pytest.mark.parametrize(
    ("attention", "kind"), [("se", SqueezeExcitation), ("cbam", Cbam), ("coordinate", CoordinateAttention)]
)
def test_attention_ends_the_blocks_named_and_no_other(
    attention: str, kind: type, after_blocks: tuple[int, ...]
) -> None:
    net = Vgg16(4, replace(SMALL, attention=attention, after_blocks=after_blocks))  # type: ignore[arg-type]
    ends = [list(block)[-1] for block in net.blocks]  # type: ignore[call-overload]
    assert [isinstance(end, kind) for end in ends] == [n in after_blocks for n in range(1, 6)]
    assert sum(isinstance(m, kind) for m in net.modules()) == len(after_blocks)
    gated = list(net.blocks[after_blocks[0] - 1])  # type: ignore[call-overload]
    assert isinstance(gated[-2], nn.MaxPool2d)


def test_a_signal_keeps_its_size_through_the_plain_network() -> None:
    torch.manual_seed(0)
    net = Vgg16(4, replace(PLAIN, picture_px=32, widths=(32,) * 5, hidden=64)).eval()
    x = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        deviation = net(x).std().item()
    assert 0.1 < deviation < 30  # torch's own draw gives about 1e-3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"attention": "ca"}, "attention: expected none, se, cbam, coordinate, got ca"),
        ({"attention": "none"}, r"attention none does not go with after_blocks \(1, 4, 5\)"),
        ({"after_blocks": ()}, r"attention coordinate does not go with after_blocks \(\)"),
        ({"after_blocks": (4, 1)}, r"after_blocks: expected some of 1 to 5, ascending, got \(4, 1\)"),
        ({"after_blocks": (1, 6)}, r"after_blocks: expected some of 1 to 5, ascending, got \(1, 6\)"),
        ({"picture_px": 48}, "picture_px: expected a multiple of 32, got 48"),
        ({"dropout": 1.0}, "dropout: expected 0 to below 1, got 1.0"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(VggConfig(), **changes)  # type: ignore[arg-type]
