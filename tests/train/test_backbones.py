"""Picture networks: published sizes and names, maps of published shapes, blocks against their formula, gradients."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from train.backbones.alexnet import LEAST_PX, AlexNet, AlexNetMaps, map_side
from train.backbones.resnet import IR50, BasicBlock, ImprovedBlock, ResNet18
from train.backbones.vgg import VGG16

Make = Callable[[], nn.Module]


def on_meta(make: Make) -> nn.Module:
    """The network without memory for its weights: shapes and counts of 138 million parameters cost nothing."""
    with torch.device("meta"):
        return make().eval()


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (lambda: ResNet18(1000), 11_689_512),
        (IR50, 43_590_848),
        (lambda: AlexNet(1000), 61_100_840),
        (AlexNetMaps, 2_469_696),
        (lambda: VGG16(1000), 138_357_544),
        (lambda: VGG16(1000, batch_norm=True), 138_365_992),
        (lambda: VGG16(2622), 138_357_544 + (2622 - 1000) * 4097),
        (VGG16, 138_357_544 - 1000 * 4097),
        (ResNet18, 11_689_512 - 1000 * 513),
    ],
)
def test_parameters_are_as_many_as_published(make: Make, published: int) -> None:
    assert sum(p.numel() for p in on_meta(make).parameters()) == published


@pytest.mark.parametrize(
    ("make", "side_px", "expected"),
    [
        (lambda: ResNet18(1000), 224, (2, 1000)),
        (ResNet18, 224, (2, 512)),
        (IR50, 112, (2, 512)),
        (lambda: AlexNet(1000), 224, (2, 1000)),
        (AlexNetMaps, 224, (2, 256, 6, 6)),
        (lambda: VGG16(2622), 224, (2, 2622)),
        (VGG16, 224, (2, 4096)),
    ],
)
def test_outputs_have_the_published_shapes(make: Make, side_px: int, expected: tuple[int, ...]) -> None:
    assert on_meta(make)(torch.empty(2, 3, side_px, side_px, device="meta")).shape == expected


def test_last_maps_have_the_published_shapes() -> None:
    with torch.device("meta"):
        resnet, ir50, vgg = ResNet18().eval(), IR50().eval(), VGG16().eval()
        assert resnet.maps(torch.empty(1, 3, 224, 224)).shape == (1, 512, 7, 7)
        assert ir50.maps(torch.empty(1, 3, 112, 112)).shape == (1, 512, 7, 7)
        assert vgg.features(torch.empty(1, 3, 224, 224)).shape == (1, 512, 7, 7)


def test_vgg_is_column_d() -> None:
    layers = on_meta(VGG16).get_submodule("features")
    assert isinstance(layers, nn.Sequential)
    widths = [layer.out_channels if isinstance(layer, nn.Conv2d) else "M" for layer in layers if not is_relu(layer)]
    d = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    assert widths == d
    assert all(layer.kernel_size == (3, 3) for layer in layers if isinstance(layer, nn.Conv2d))


def is_relu(layer: nn.Module) -> bool:
    return isinstance(layer, nn.ReLU)


def test_parameters_bear_the_published_names() -> None:
    alexnet = [name for name, _ in on_meta(lambda: AlexNet(1000)).named_parameters() if name.endswith("weight")]
    assert alexnet == [f"features.{k}.weight" for k in (0, 3, 6, 8, 10)] + [f"classifier.{k}.weight" for k in (1, 4, 6)]
    vgg = [name for name, _ in on_meta(lambda: VGG16(1000)).named_parameters() if name.endswith("weight")]
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert vgg == [f"features.{k}.weight" for k in convolutions] + [f"classifier.{k}.weight" for k in (0, 3, 6)]
    resnet = on_meta(lambda: ResNet18(1000)).state_dict()
    assert len(resnet) == 122
    assert resnet["layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)
    assert resnet["layer4.1.bn2.running_var"].shape == (512,)
    assert "layer1.0.downsample.0.weight" not in resnet
    ir50 = on_meta(IR50).state_dict()
    assert [sum(f"layer{s}.{b}.prelu.weight" in ir50 for b in range(20)) for s in (1, 2, 3, 4)] == [3, 4, 14, 3]
    assert ir50["layer1.0.downsample.0.weight"].shape == (64, 64, 1, 1)
    assert ir50["fc.weight"].shape == (512, 25_088)
    assert ir50["features.weight"].shape == (512,)


def scatter_statistics(network: nn.Module) -> None:
    """Batch normalisation that does something, so that a formula without it, or in another order, would fail."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, variance, scale, shift = (
        values.reshape(1, -1, 1, 1) for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def shortcut(block: BasicBlock | ImprovedBlock, x: Tensor, stride: int) -> Tensor:
    if block.downsample is None:
        return x
    return norm(F.conv2d(x[:, :, ::stride, ::stride], block.downsample.get_parameter("0.weight")), block.downsample[1])


@pytest.mark.parametrize(("stride", "c_out"), [(1, 4), (1, 6), (2, 4), (2, 6)])
def test_blocks_are_their_formulas(stride: int, c_out: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8)
    basic, improved = BasicBlock(4, c_out, stride).eval(), ImprovedBlock(4, c_out, stride).eval()
    for block in (basic, improved):
        scatter_statistics(block)
        assert (block.downsample is None) == (stride == 1 and c_out == 4)
    y = norm(F.conv2d(x, basic.conv1.weight, stride=stride, padding=1), basic.bn1).clamp_min(0)
    y = norm(F.conv2d(y, basic.conv2.weight, padding=1), basic.bn2) + shortcut(basic, x, stride)
    torch.testing.assert_close(basic(x), y.clamp_min(0), atol=1e-5, rtol=1e-4)
    y = norm(F.conv2d(norm(x, improved.bn1), improved.conv1.weight, padding=1), improved.bn2)
    y = torch.where(y > 0, y, y * improved.prelu.weight.reshape(1, -1, 1, 1))
    y = norm(F.conv2d(y, improved.conv2.weight, stride=stride, padding=1), improved.bn3)
    torch.testing.assert_close(improved(x), y + shortcut(improved, x, stride), atol=1e-5, rtol=1e-4)


@given(height=st.integers(LEAST_PX, 700), width=st.integers(LEAST_PX, 700))
def test_map_side_is_what_the_layers_leave(height: int, width: int) -> None:
    with torch.device("meta"):
        maps = AlexNetMaps(width=1)(torch.empty(1, 3, height, width))
    assert maps.shape == (1, 4, map_side(height), map_side(width))


def test_vectors_are_the_maps_positions_row_by_row() -> None:
    torch.manual_seed(0)
    network = AlexNetMaps(width=2).eval()
    picture = torch.randn(2, 3, 130, 100)
    maps, vectors = network(picture), network.vectors(picture)
    assert maps.shape == (2, 8, 3, 2)
    assert vectors.shape == (2, 6, 8)
    for row in range(3):
        for column in range(2):
            assert torch.equal(vectors[:, 2 * row + column], maps[:, :, row, column])


@pytest.mark.parametrize(
    ("make", "side_px"),
    [
        (lambda: ResNet18(5, width=4), 32),
        (lambda: ResNet18(width=4), 32),
        (lambda: IR50(side_px=16, width=4), 16),
        (lambda: AlexNet(5, side_px=67, width=4), 67),
        (lambda: VGG16(5, side_px=32, width=4), 32),
        (lambda: VGG16(side_px=32, width=4, batch_norm=True), 32),
    ],
)
def test_gradients_reach_every_parameter(make: Make, side_px: int) -> None:
    torch.manual_seed(0)
    network = make().train()
    out = network(torch.randn(6, 3, side_px, side_px))
    torch.autograd.backward((out * torch.randn_like(out)).sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_signals_neither_fade_nor_explode_in_a_fresh_vgg() -> None:
    torch.manual_seed(0)
    out = VGG16(side_px=32, width=16).eval().features(torch.randn(4, 3, 32, 32))
    assert 0.1 < out.square().mean().sqrt() < 10
    assert out.std(0).mean() > 0.05  # torch's own initialisation leaves 6e-7 of what tells pictures apart


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a side of a multiple of 16 px, got 100"):
        IR50(side_px=100)
    with pytest.raises(ValueError, match="expected a side of a multiple of 32 px, got 48"):
        VGG16(side_px=48)
    with pytest.raises(ValueError, match="expected a side of at least 63, got 40: AlexNet's poolings leave nothing"):
        AlexNet(7, side_px=40)
