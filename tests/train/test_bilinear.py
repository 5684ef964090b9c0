"""The recogniser of Zhou et al.: every row of its tables, shapes, gradients, posteriors, the exported graph."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.bilinear import (
    CLASS_WEIGHTS,
    LABELS,
    N_LABELS,
    TABLE,
    AudioBranch,
    BilinearConfig,
    BilinearRecogniser,
    FaceClassifier,
    FaceConfig,
    FaceNetwork,
    FusionHead,
    SingleModality,
    VideoBranch,
    network,
    posterior,
)

N_FRAMES, N_SAMPLES = 3, 640 + 62 * 160  # 63 windows are the fewest that AlexNet's poolings take
Config = FaceConfig | BilinearConfig


def small_face(face: FaceConfig) -> FaceConfig:
    return replace(face, crop_px=32, width=4)


def small(config: BilinearConfig) -> BilinearConfig:
    faces = tuple(small_face(face) for face in config.faces)
    return replace(config, faces=faces, n_samples=N_SAMPLES, audio_width=4, hidden=8, n_pooled=16)


def members(config: Config | tuple[BilinearConfig, ...]) -> tuple[Config, ...]:
    return config if isinstance(config, tuple) else (config,)


# Rows that differ by training alone (the face corpus, class weights) have one small network between them.
DISTINCT: dict[Config, str] = {}
for row in TABLE:
    for member in members(row.config):
        tiny = small_face(member) if isinstance(member, FaceConfig) else replace(small(member), class_weights=())
        DISTINCT.setdefault(tiny, row.name)
DISTINCT[small(BilinearConfig(spectrogram="log-mel"))] = "Section 3: log-mel spectrogram"
DISTINCT[small(BilinearConfig(faces=(FaceConfig(backbone="VGGFace"),)))] = "VGGFace in the whole recogniser"


def build(config: Config) -> nn.Module:
    torch.manual_seed(0)
    return FaceClassifier(config) if isinstance(config, FaceConfig) else network(config)


def material(config: Config, n: int, *, n_frames: int = N_FRAMES) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(config, FaceConfig):
        shape = (n, config.crop_px, config.crop_px, 3)
        return (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),)
    side_px = config.faces[0].crop_px
    crops = torch.randint(0, 256, (n, n_frames, side_px, side_px, 3), generator=generator, dtype=torch.uint8)
    waveforms = torch.rand(n, config.n_samples, generator=generator) - 0.5
    return {"both": (crops, waveforms), "face": (crops,), "voice": (waveforms,)}[config.modality]


def test_every_row_has_its_published_figure() -> None:
    figures = {row.name: row.published for row in TABLE}
    assert len(figures) == len(TABLE) == 35
    assert figures["Table 1: IR50, FER+"] == 89.257
    assert figures["Table 1: ResNet18, AffectNet"] == 52.075
    assert figures["Table 1: VGGFace, RAF-DB"] == 86.93
    assert figures["Table 2: visual transformer, audio transformer"] == 61.1
    assert figures["Table 2: visual relation, audio self"] == 54.0
    assert figures["Table 2: visual self, audio relation"] == 56.9
    assert figures["Table 3: F-MeanStd"] == 63.7
    assert figures["Table 4: submission 5, validation"] == 65.5


def test_rows_are_the_configurations_they_name() -> None:
    configs = {row.name: row.config for row in TABLE}
    for name, config in configs.items():
        for one in members(config):
            if name.startswith("Table 1"):
                assert name == f"Table 1: {getattr(one, 'backbone')}, {getattr(one, 'corpus')}"  # noqa: B009
            elif name.startswith("Table 2"):
                assert isinstance(one, BilinearConfig)
                assert name == f"Table 2: visual {one.visual_attention}, audio {one.audio_attention}"
    assert configs["Table 3: Basic"] == BilinearConfig()
    assert configs["Table 3: Basic, RAF-DB"] == BilinearConfig(faces=(FaceConfig(corpus="RAF-DB"),))
    five = configs["Table 4: submission 5, test"]
    assert isinstance(five, tuple)
    assert [one.enhancement for one in five] == ["F-Mean", "F-MeanStd", "F-NormFFT", "F-MeanStd-2", "F-AR-Mean"]
    assert all(one.class_weights == CLASS_WEIGHTS for one in five)
    assert [face.corpus for face in five[-1].faces] == ["AffectNet", "RAF-DB"]


@pytest.mark.parametrize("config", list(DISTINCT), ids=list(DISTINCT.values()))
def test_gradients_reach_every_parameter_of_every_row(config: Config) -> None:
    model = build(config).train()
    logits = model(*material(config, 4))
    n_labels = N_LABELS[config.corpus] if isinstance(config, FaceConfig) else len(LABELS)
    assert logits.shape == (4, n_labels)
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(4)))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("config", "n_visual"),
    [
        (BilinearConfig(), 512),
        (BilinearConfig(faces=(FaceConfig(backbone="ResNet18"),)), 512),
        (BilinearConfig(faces=(FaceConfig(backbone="VGGFace"),)), 4096),
        (BilinearConfig(enhancement="F-NormFFT"), 1024),
        (BilinearConfig(enhancement="F-MeanStd", visual_attention="relation"), 1024),
    ],
    ids=["IR50", "ResNet18", "VGGFace", "F-NormFFT", "F-MeanStd"],
)
def test_full_size_shapes_are_those_of_the_text(config: BilinearConfig, n_visual: int) -> None:
    with torch.device("meta"):
        model = BilinearRecogniser(config).eval()
        crops = torch.empty(1, 2, 224, 224, 3, dtype=torch.uint8)
        waveform = torch.empty(1, 48_000)
        assert model.video(crops).shape == (1, 2, n_visual)
        assert model.audio.picture(waveform).shape == (1, 3, 200, 297)
        assert model.audio.maps(model.audio.picture(waveform)).shape == (1, 256, 5, 8)
        assert model.audio(waveform).shape == (1, 40, 256)
        pooled = model.head.fusion(torch.empty(1, model.head.audio.n_out), torch.empty(1, model.head.visual.n_out))
        assert pooled.shape == (1, config.n_pooled)
        assert model(crops, waveform).shape == (1, 7)


@pytest.mark.parametrize("backbone", ["VGGFace", "ResNet18", "IR50"])
def test_a_face_network_sees_centred_pixels(backbone: str) -> None:
    model = FaceNetwork(small_face(FaceConfig(backbone=backbone))).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    mean = (129.1863, 104.7624, 93.5940) if backbone == "VGGFace" else (127.5,) * 3
    seen = torch.stack([(pixels[:, channel] - mean[channel]) / 127.5 for channel in range(3)], 1)
    if backbone == "IR50":  # four pixels make one
        corners = [seen[:, :, row::2, column::2] for row in range(2) for column in range(2)]
        seen = torch.stack(corners).mean(0)
    torch.testing.assert_close(model(pixels), model.backbone(seen), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("enhancement", ["Basic", "F-MeanStd"])
def test_video_frames_are_encoded_each_for_itself(enhancement: str) -> None:
    config = small(BilinearConfig(enhancement=enhancement))
    branch = VideoBranch(config).eval()
    (crops, _) = material(config, 2)
    whole = branch(crops)
    for frame in range(N_FRAMES):
        torch.testing.assert_close(whole[:, frame], branch.encode(crops[:, frame]), atol=1e-4, rtol=1e-4)


def test_the_recogniser_is_its_parts_in_order() -> None:
    config = small(BilinearConfig(visual_attention="self", audio_attention="relation", rank=3))
    model = build(config).eval()
    assert isinstance(model, BilinearRecogniser)
    crops, waveform = material(config, 2)
    visual = model.head.visual(model.video(crops))
    audio = model.head.audio(model.audio(waveform))
    assert (visual.shape, audio.shape) == ((2, 32), (2, 32))
    z = model.head.fusion(audio, visual)
    torch.testing.assert_close(z.square().sum(1), torch.ones(2))
    expected = z @ model.head.classifier.weight.T + model.head.classifier.bias
    torch.testing.assert_close(model(crops, waveform), expected)


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_one_modality_is_its_features_mean_and_softmax(modality: str) -> None:
    config = small(BilinearConfig(modality=modality, visual_attention="mean", audio_attention="mean"))
    model = build(config).eval()
    assert isinstance(model, SingleModality)
    assert isinstance(model.branch, VideoBranch if modality == "face" else AudioBranch)
    (clip,) = material(config, 2)
    expected = model.classifier(model.branch(clip).mean(1))
    torch.testing.assert_close(model(clip), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["FBP", "concatenation"])
def test_a_head_takes_features_of_any_width_and_number(fusion: str) -> None:
    torch.manual_seed(0)
    head = FusionHead(BilinearConfig(fusion=fusion), n_visual=17, n_audio=25).eval()
    visual, audio = torch.randn(2, 9, 17), torch.randn(2, 6, 25)
    valid = torch.arange(9).reshape(1, -1) < torch.tensor([[9], [4]])
    got = head(visual, audio, visual_valid=valid)
    assert got.shape == (2, 7)
    torch.testing.assert_close(got[1:], head(visual[1:, :4], audio[1:]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got[1:], head(visual, audio)[1:], atol=1e-4)


def test_posteriors_are_averaged_then_weighted_by_class() -> None:
    logits = [torch.randn(2, 7, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    got = posterior(logits, CLASS_WEIGHTS)
    for item in range(2):
        scores = []
        for label in range(7):
            each = [float(torch.exp(x[item, label]) / torch.exp(x[item]).sum()) for x in logits]
            scores.append(sum(each) / 3 * CLASS_WEIGHTS[label])
        assert got[item].tolist() == pytest.approx([score / sum(scores) for score in scores], abs=1e-6)
    torch.testing.assert_close(posterior(logits[:1]), logits[0].softmax(-1))


def test_published_class_weights_are_those_of_the_text() -> None:
    assert sum(CLASS_WEIGHTS) == pytest.approx(1, abs=0.005)
    weight = dict(zip(LABELS, CLASS_WEIGHTS, strict=True))
    assert max(weight, key=weight.__getitem__) == "neutral"
    assert min(weight, key=weight.__getitem__) == "surprise"


EXPORTED = {
    "F-MeanStd": BilinearConfig(enhancement="F-MeanStd", visual_attention="relation"),
    "F-NormFFT": BilinearConfig(
        faces=(FaceConfig(backbone="ResNet18"),), enhancement="F-NormFFT", visual_attention="self",
        fusion="concatenation", spectrogram="log-mel",
    ),
}  # fmt: skip


def assert_exported_graph_agrees(model: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    with warnings.catch_warnings():
        # torch 2.13 warns of a class that its own exporter uses, and that two inputs share one batch: they do.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*axis name: batch will not be used", category=UserWarning)
        program = torch.onnx.export(
            model, tuple(tensor[:2] for tensor in inputs.values()), dynamo=True, opset_version=20,
            input_names=list(inputs), output_names=["out"], dynamic_shapes=tuple({0: "batch"} for _ in inputs),
            verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 3):
        with torch.no_grad():
            expected = model(*(tensor[:n] for tensor in inputs.values()))
        (got,) = session.run(None, {name: tensor[:n].numpy() for name, tensor in inputs.items()})
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", list(EXPORTED))
def test_the_exported_graph_agrees_at_any_batch(name: str, tmp_path: Path) -> None:
    config = small(EXPORTED[name])
    crops, waveform = material(config, 3, n_frames=2)
    assert_exported_graph_agrees(build(config).eval(), {"crops": crops, "waveform": waveform}, tmp_path / "both.onnx")


@pytest.mark.parametrize("spectrogram", ["speech", "log-mel"])
def test_the_exported_audio_branch_agrees_on_speech(
    spectrogram: str, tmp_path: Path, corpus: Callable[[str], Path]
) -> None:
    torch.manual_seed(0)
    branch = AudioBranch(small(BilinearConfig(spectrogram=spectrogram))).eval()
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::400]
    waveform = torch.stack(
        [torch.from_numpy(soundfile.read(file, dtype="float32")[0])[8000:][:N_SAMPLES] for file in files]
    )
    assert waveform.shape[0] >= 3
    assert_exported_graph_agrees(branch, {"waveform": waveform}, tmp_path / "audio.onnx")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FaceConfig(backbone="IR5O"), "backbone: expected one of VGGFace, ResNet18, IR50, got 'IR5O'"),
        (lambda: FaceConfig(corpus="CK+"), "corpus: expected one of FER\\+, RAF-DB, AffectNet, got 'CK\\+'"),
        (lambda: FaceConfig(crop_px=100), "expected a crop of a multiple of 32 px and a width, got 100, 64"),
        (lambda: BilinearConfig(fusion="sum"), "fusion: expected one of FBP, concatenation, got 'sum'"),
        (lambda: BilinearConfig(modality="audio"), "modality: expected one of both, face, voice"),
        (lambda: BilinearConfig(visual_attention="cross"), "visual_attention: expected one of self, relation"),
        (lambda: BilinearConfig(audio_attention="cross"), "audio_attention: expected one of self, relation"),
        (lambda: BilinearConfig(spectrogram="cqt"), "spectrogram: expected one of speech, log-mel"),
        (lambda: BilinearConfig(enhancement="F-Max"), "enhancement: expected one of Basic, F-Mean"),
        (lambda: BilinearConfig(enhancement="F-AR-Mean"), "F-AR-Mean takes 2 face networks, got 1"),
        (
            lambda: BilinearConfig(enhancement="F-AR-Mean", faces=(FaceConfig(), FaceConfig(backbone="ResNet18"))),
            "must differ by their corpus alone",
        ),
        (lambda: BilinearConfig(class_weights=(0.5, 0.5)), "expected 7 class weights or none, got 2"),
        (lambda: BilinearConfig(n_samples=8000), "expected a side of at least 63, got 47"),
    ],
)
def test_contradictions_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
