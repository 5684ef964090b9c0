"""EMODal: sizes, shapes, gradients, the published rows, the exported graph."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.losses import LossWeights, bimodal_losses
from train.models.emodal import CONFUSION, LABELS, TABLE, Emodal, EmodalConfig, Unimodal, build

SMALL = EmodalConfig(crop_px=16, n_samples=2400, image_widths=(3, 4, 5), image_hidden=12, audio_hidden=(9, 7))


def material(n: int, *, config: EmodalConfig = SMALL, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (n, config.crop_px, config.crop_px, 3), generator=generator, dtype=torch.uint8)
    tones = torch.rand(n, 1, generator=generator) * torch.arange(config.n_samples)
    return crops, torch.sin(tones) + 0.2 * torch.rand(n, config.n_samples, generator=generator)


def both(config: EmodalConfig = SMALL) -> Emodal:
    torch.manual_seed(0)
    return Emodal(config).eval()


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_table_is_the_papers() -> None:
    assert {name: (config.modality, figure) for name, config, figure in TABLE} == {
        "audio-only": ("audio", 52.20),
        "image-only": ("image", 63.73),
        "audio+image": ("both", 66.02),
    }
    assert LABELS == ("anger", "happiness", "neutral", "sadness")
    for row in CONFUSION:
        assert sum(row) == pytest.approx(100, abs=0.02)
    # Four classes of nearly the same number of clips: the mean of the diagonal is near the row's accuracy.
    assert np.mean(np.diag(CONFUSION)) == pytest.approx(66.02, abs=0.5)


def test_sizes_of_the_networks() -> None:
    net = both(EmodalConfig())
    # The audio network and the heads are given by the text; the image network's widths are ours.
    assert n_parameters(net.audio) == (68 * 128 + 128) + (128 * 64 + 64) + (64 * 10 + 10) == 17_738
    assert [n_parameters(head) for head in (net.image_head, net.audio_head, net.both_head)] == [44, 44, 84]
    convolutions = (9 * 16 + 16) + (9 * 16 * 32 + 32) + (9 * 32 * 64 + 64)
    assert n_parameters(net.image) == convolutions + (64 * 16 * 16 * 128 + 128) + (128 * 10 + 10) == 2_121_866
    rows = {name: n_parameters(build(config)) for name, config, _ in TABLE}
    assert rows == {"audio-only": 17_782, "image-only": 2_121_910, "audio+image": 2_139_776}


def test_shapes_along_the_default_networks() -> None:
    config = EmodalConfig()
    net = both(config)
    crops, waves = material(2, config=config)
    grey = net.image.frontend(crops)
    assert grey.shape == (2, 1, 128, 128)
    sides = []
    for layer in net.image.convolutions:
        grey = layer(grey)
        if isinstance(layer, nn.MaxPool2d):
            sides.append(tuple(grey.shape[1:]))
    assert sides == [(16, 64, 64), (32, 32, 32), (64, 16, 16)]
    assert net.audio.frontend.frames(waves).shape == (2, 34, 79)
    assert net.audio.frontend(waves).shape == (2, 68)
    assert [layer.out_features for layer in net.audio.dense if isinstance(layer, nn.Linear)] == [128, 64, 10]
    outputs = net.outputs(net.image(crops), net.audio(waves))
    assert [tuple(tensor.shape) for tensor in outputs] == [(2, 10), (2, 10), (2, 4), (2, 4), (2, 4)]
    torch.testing.assert_close(net(crops, waves), outputs.joint_logits)


def assert_gradients(net: nn.Module) -> None:
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_gradients_reach_every_parameter_of_every_row(config: EmodalConfig) -> None:
    torch.manual_seed(0)
    sizes = {name: value for name, value in vars(SMALL).items() if name != "modality"}
    net = build(dataclasses.replace(config, **sizes)).train()
    crops, waves = material(8)
    labels = torch.arange(8) % 4
    if isinstance(net, Emodal):
        outputs = net.outputs(net.image(crops), net.audio(waves))
        torch.autograd.backward(bimodal_losses(outputs, labels, LossWeights()).total)
    else:
        torch.autograd.backward(F.cross_entropy(net(crops if config.modality == "image" else waves), labels))
    assert_gradients(net)


@pytest.mark.parametrize(
    ("weights", "silent"),
    [
        (LossWeights(joint=0, specific=0), {"image_head", "audio_head", "both_head"}),
        (LossWeights(common=0, specific=0), {"image_head", "audio_head"}),
        (LossWeights(common=0, joint=0), {"both_head"}),
    ],
)
def test_each_loss_reaches_both_networks_and_its_own_heads(weights: LossWeights, silent: set[str]) -> None:
    net = both().train()
    crops, waves = material(8)
    outputs = net.outputs(net.image(crops), net.audio(waves))
    torch.autograd.backward(bimodal_losses(outputs, torch.arange(8) % 4, weights).total)
    for name, part in net.named_children():
        for parameter in part.parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.abs().sum() > 0) is (name not in silent), name


def test_the_image_network_is_the_texts_loop() -> None:
    net = both()
    grey = net.image.frontend(material(2)[0])
    x = grey
    for at in (0, 3, 6):  # three times: 3 x 3 convolution, ReLU, pooling
        weight, bias = (net.image.convolutions.get_parameter(f"{at}.{kind}") for kind in ("weight", "bias"))
        padded = F.pad(x, (1, 1, 1, 1))
        side = x.shape[2]
        y = torch.zeros(2, len(weight), side, side)
        for row in range(side):
            for column in range(side):
                patch = padded[:, None, :, row : row + 3, column : column + 3]
                y[:, :, row, column] = (patch * weight[None]).sum((2, 3, 4)) + bias
        y = y.relu()
        x = torch.stack(
            [torch.stack([y[:, :, r : r + 2, c : c + 2].amax((2, 3)) for c in range(0, side, 2)], -1)
             for r in range(0, side, 2)], -2,
        )  # fmt: skip
    hidden = x.reshape(2, -1) @ net.image.dense.get_parameter("1.weight").T + net.image.dense.get_parameter("1.bias")
    expected = hidden.relu() @ net.image.dense.get_parameter("4.weight").T + net.image.dense.get_parameter("4.bias")
    torch.testing.assert_close(net.image.encode(grey), expected, atol=1e-5, rtol=1e-5)


def test_audio_features_are_standardised_by_what_training_saw() -> None:
    net = both().train()
    features = (torch.randn(64, 68) + 2) * torch.logspace(-5, 2, 68)
    for _ in range(400):  # the running variance starts at 1 and loses a tenth of that a batch
        net.audio.standardise(features)
    standardised = net.eval().audio.standardise(features)
    assert standardised.mean(0).abs().max() < 0.05
    assert (standardised.std(0) - 1).abs().max() < 0.01


def test_it_learns_what_shows_only_in_both() -> None:
    # Four classes; the picture tells two apart, the voice two others, so each alone is right in half of the items.
    net = both(dataclasses.replace(SMALL, dropout=0.0)).train()
    labels = torch.arange(32) % 4
    side = torch.where(torch.arange(16) < 8, 220, 30).to(torch.uint8)
    crops = torch.where((labels < 2)[:, None, None, None], side[:, None, None], side[None, :, None]).expand(
        32, 16, 16, 3
    )
    pitch_hz = torch.where(labels % 2 == 0, 150.0, 900.0) + torch.arange(32) // 4
    waves = torch.sin(2 * torch.pi * pitch_hz[:, None] * torch.arange(2400) / 16_000)
    grey, features = net.image.frontend(crops), net.audio.frontend(waves)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(80):
        optimiser.zero_grad()
        outputs = net.outputs(net.image.encode(grey), net.audio.encode(features))
        torch.autograd.backward(bimodal_losses(outputs, labels, LossWeights()).total)
        optimiser.step()
    net.eval()
    outputs = net.outputs(net.image.encode(grey), net.audio.encode(features))
    right = [(logits.argmax(1) == labels).double().mean().item() for logits in outputs[2:]]
    assert right == [1.0, 0.5, 0.5]


class _Streamed(nn.Module):
    def __init__(self, net: Emodal) -> None:
        super().__init__()
        self.net = net

    def forward(self, crop: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, audio = self.net.image(crop), self.net.audio(waveform)
        return image, audio, self.net.joint(image, audio).softmax(-1)


def session_of(module: nn.Module, crops: Tensor, waves: Tensor, path: Path) -> onnxruntime.InferenceSession:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # in torch 2.13's exporter
        warnings.filterwarnings("ignore", message=".*axis name: batch will not be used", category=UserWarning)
        program = torch.onnx.export(
            module, (crops[:2], waves[:2]), dynamo=True, opset_version=20, input_names=["crop", "waveform"],
            output_names=["image", "audio", "posterior"], dynamic_shapes=({0: "batch"}, {0: "batch"}), verbose=False,
        )  # fmt: skip
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_the_exported_graph_agrees_on_speech(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, n_samples=32_000)
    net = both(config)
    crops, _ = material(4, config=config)
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::400]
    waves = torch.from_numpy(np.stack([soundfile.read(file, dtype="float32")[0][8000:40_000] for file in files[:3]]))
    half = torch.where(torch.arange(32_000) < 16_000, waves[0], 0.0)  # the voice starts late: half is digital silence
    waves = torch.stack([*waves[1:], half, torch.zeros(32_000)])
    net.train().audio(waves)  # statistics that are not 0 and 1
    module = _Streamed(net.eval()).eval()
    session = session_of(module, crops, waves, tmp_path / "emodal.onnx")
    assert session.get_inputs()[0].shape == ["batch", 16, 16, 3]
    for rows in (slice(0, 1), slice(1, 4)):
        got = session.run(None, {"crop": crops[rows].numpy(), "waveform": waves[rows].numpy()})
        with torch.no_grad():
            expected = module(crops[rows], waves[rows])
        for mine, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "voice"}, "expected a modality of audio, image, both, got 'voice'"),
        ({"crop_px": 100}, "expected crop_px a multiple of 8, which three poolings halve, got 100"),
        ({"n_samples": 799}, "expected n_samples of 800 or more, one short-term frame, got 799"),
        ({"image_widths": (1, 2)}, "expected 3 image_widths and 2 audio_hidden"),
        ({"n_labels": 0}, "expected counts and widths of 1 or more"),
        ({"dropout": 1.0}, r"expected a dropout in \[0, 1\), got 1.0"),
    ],
)
def test_a_configuration_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_a_network_of_another_modality_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected the modality both, got audio: take Unimodal, or build\(\)"):
        Emodal(EmodalConfig(modality="audio"))
    with pytest.raises(ValueError, match=r"expected the modality audio or image, got both"):
        Unimodal(SMALL)
