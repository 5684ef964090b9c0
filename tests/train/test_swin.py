"""Swin Transformer: size, shapes, moved windows against loops, frozen outputs of torchvision, export."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from train.backbones.swin import ImageNetScale, PatchMerging, Swin, SwinBlock, SwinConfig

SMALL = SwinConfig(crop_px=32, width=8, depths=(2, 2), heads=(2, 4), window=4, n_labels=5)


def crops(n: int, config: SwinConfig) -> Tensor:
    values = torch.arange(n * config.crop_px**2 * 3) * 7919 % 256
    return values.to(torch.uint8).reshape(n, config.crop_px, config.crop_px, 3)


def network(config: SwinConfig) -> Swin:
    """Parameters are sines, which no other version of torch draws otherwise."""
    net = Swin(config).eval()
    with torch.no_grad():
        for k, (name, parameter) in enumerate(net.named_parameters()):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.37 + k)
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.2 * wave.reshape(parameter.shape))
    return net


def derived_count(config: SwinConfig) -> int:
    total: int = 3 * config.patch_px**2 * config.width + config.width + 2 * config.width
    for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        c = config.width * 2**stage
        attention = c * 3 * c + 3 * c + c * c + c + (2 * config.window - 1) ** 2 * heads
        mlp = c * 4 * c + 4 * c + 4 * c * c + c
        total += depth * (2 * c + attention + 2 * c + mlp)
        if stage + 1 < len(config.depths):
            total += 2 * 4 * c + 4 * c * 2 * c
    last: int = config.width * 2 ** (len(config.depths) - 1)
    return total + 2 * last + (last * config.n_labels + config.n_labels)


@pytest.mark.parametrize(
    ("config", "expected"),
    [(SwinConfig(n_labels=1000), 28_288_354), (SwinConfig(), 28_288_354 - 769 * 1000), (SMALL, 9993)],
)
def test_parameters_are_as_many_as_published(config: SwinConfig, expected: int) -> None:
    with torch.device("meta"):
        net = Swin(config)
    assert derived_count(config) == expected
    assert sum(p.numel() for p in net.parameters()) == expected


def test_shapes_along_swin_t() -> None:
    torch.manual_seed(0)
    net = Swin(SwinConfig()).eval()
    x = net.patch_embed(net.frontend(crops(1, net.config)))
    assert x.shape == (1, 56, 56, 96)
    seen = []
    with torch.no_grad():
        for layer in net.layers:
            for block in layer.get_submodule("blocks").children():
                x = block(x)
                seen.append(tuple(x.shape))
            merging = layer.downsample
            x = merging(x) if isinstance(merging, PatchMerging) else x
        assert seen == [(1, 56, 56, 96)] * 2 + [(1, 28, 28, 192)] * 2 + [(1, 14, 14, 384)] * 6 + [(1, 7, 7, 768)] * 2
        features = net(crops(1, net.config))
    assert features.shape == (1, net.n_features) == (1, 768)
    torch.testing.assert_close(features, net.norm(x).mean((1, 2)))
    shifts = [m.shift for m in net.modules() if isinstance(m, SwinBlock)]
    assert shifts == [0, 3] * 5 + [0, 0]  # the last grid is one window


def test_logits_are_torchvisions() -> None:
    # Frozen: torchvision 0.29's SwinTransformer of these sizes with these parameters on this crop.
    expected = torch.tensor([[-0.388787, -0.270969, -0.117364, 0.051642, 0.213642]])
    torch.testing.assert_close(network(SMALL)(crops(1, SMALL)), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_block_attends_within_moved_windows_as_loops_have_it(shift: int) -> None:
    torch.manual_seed(shift)
    c, heads, side, window = 6, 2, 8, 4
    block = SwinBlock(c, heads, side=side, window=window, shift=shift).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(1, side, side, c)
    with torch.no_grad():
        got = block(x)[0]
        y = block.norm1(x)[0]
        q, k, v = block.attn.qkv(y).split(c, -1)
        mixed = torch.zeros(side, side, c)
        cells = [(row, column) for row in range(side) for column in range(side)]
        for row, column in cells:
            # Without a cyclic shift: windows begin at `shift`, those at the border are smaller.
            home = ((row - shift) // window, (column - shift) // window)
            inside = [at for at in cells if ((at[0] - shift) // window, (at[1] - shift) // window) == home]
            for head in range(heads):
                part = slice(head * c // heads, (head + 1) * c // heads)
                scores = []
                for r, s in inside:
                    place = (row - r + window - 1) * (2 * window - 1) + (column - s + window - 1)
                    bias = block.attn.relative_position_bias_table[place, head]
                    scores.append(q[row, column, part] @ k[r, s, part] / (c / heads) ** 0.5 + bias)
                shares = torch.stack(scores).softmax(0)
                for share, at in zip(shares, inside, strict=True):
                    mixed[(row, column)][part] += share * v[at][part]
        after = x[0] + block.attn.proj(mixed)
        expected = after + block.mlp(block.norm2(after))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_merging_joins_four_neighbours() -> None:
    torch.manual_seed(0)
    merging = PatchMerging(3).eval()
    x = torch.randn(1, 4, 4, 3)
    got = merging(x)
    assert got.shape == (1, 2, 2, 6)
    for row in range(2):
        for column in range(2):
            # The order of the authors' code: down first, then across.
            four = [x[0, 2 * row + down, 2 * column + across] for across in (0, 1) for down in (0, 1)]
            expected = merging.reduction(merging.norm(torch.cat(four)))
            torch.testing.assert_close(got[0, row, column], expected)


def test_crops_are_scaled_by_imagenet() -> None:
    crop = crops(1, SMALL)
    got = ImageNetScale()(crop)
    assert got.shape == (1, 3, 32, 32)
    for channel, (mean, deviation) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        expected = (crop[0, 3, 5, channel].item() / 255 - mean) / deviation
        assert got[0, channel, 3, 5].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n_labels", [0, 5])
def test_gradients_reach_every_parameter(n_labels: int) -> None:
    torch.manual_seed(0)
    net = Swin(replace(SMALL, n_labels=n_labels)).train()
    out = net(crops(2, SMALL))
    torch.autograd.backward((out * torch.randn_like(out)).sum())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_names_are_those_of_the_authors_checkpoints() -> None:
    with torch.device("meta"):
        names = set(Swin(SwinConfig(n_labels=1000)).state_dict())
    assert len(names) == 173  # 4 + 12 blocks of 13 + 3 mergings of 3 + norm and head 4
    assert {
        "patch_embed.proj.weight", "layers.0.blocks.1.attn.relative_position_bias_table", "head.bias",
        "layers.2.blocks.5.mlp.fc2.bias", "layers.1.downsample.reduction.weight", "norm.weight",
        "layers.3.blocks.0.attn.qkv.bias",
    } <= names  # fmt: skip


def test_the_exported_graph_agrees_at_any_batch(tmp_path: Path) -> None:
    net = network(replace(SMALL, depths=(2, 1)))
    path = tmp_path / "swin.onnx"
    with warnings.catch_warnings():
        # torch 2.13 warns of a class that its own exporter uses.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        torch.onnx.export(
            net, (crops(2, SMALL),), path, dynamo=True, opset_version=20, input_names=["crop"],
            dynamic_shapes=({0: "batch"},), verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 3):
        (got,) = session.run(None, {"crop": crops(n, SMALL).numpy()})
        np.testing.assert_allclose(got, net(crops(n, SMALL)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (2,)}, "expected as many heads as depths, got 1 and 2"),
        ({"heads": (3, 4)}, "stage 0: expected a width divisible by 3, got 8"),
        ({"crop_px": 48}, "stage 1: expected a crop of a multiple of 32 px, got 48"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwinConfig(**{**SMALL.__dict__, **change})
