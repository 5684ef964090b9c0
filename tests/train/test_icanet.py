"""ICANet: the fusion as loops, every published row, gradients, export."""

import io
import math
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.backbones.vgg_attention import Cbam, SqueezeExcitation, VggConfig
from train.models.icanet import LABELS, MODALITIES, TABLE, Icanet, IcanetConfig, fuse

ROWS = {row.name: row for row in TABLE}
RATIOS = [(1, 1, 1), (3, 2, 5), (4, 3, 3), (4, 2, 4), (5, 3, 2)]


def small(config: IcanetConfig) -> IcanetConfig:
    """The same network with few channels, on clips of 16 pictures of 48 pixels and a quarter of a second."""
    vgg = replace(config.vgg, picture_px=64, widths=(8, 8, 16, 16, 16), hidden=24)
    return replace(config, crop_px=48, n_frames=16, narrow=8, n_samples=4000, vgg=vgg)


def material(n: int, config: IcanetConfig, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, config.n_frames, config.crop_px, config.crop_px)
    everything = {
        "rgb": torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8),
        "flow": torch.randn(*shape, 2, generator=generator) * 8,
        "audio": torch.rand(n, config.n_samples, generator=generator) - 0.5,
    }
    return {name: everything[name] for name in config.modalities}


def network(config: IcanetConfig) -> Icanet:
    """In evaluation mode, with the statistics of a batch in its normalisations."""
    torch.manual_seed(0)
    model = Icanet(config).train()
    with torch.no_grad():
        for seed in range(3):
            model(**material(4, config, seed))
    return model.eval()


def test_labels_are_table_is_in_its_order() -> None:
    assert LABELS == ("happiness", "sadness", "neutral", "anger")
    assert MODALITIES == ("rgb", "flow", "audio")


def test_the_tables_hold_what_the_paper_publishes() -> None:
    assert len(ROWS) == len(TABLE) == 14
    fusion = {row.config.weights: row.published for row in TABLE if row.name.startswith("IV-D")}
    assert fusion == dict(zip(RATIOS, (77.50, 78.85, 79.04, 80.77, 67.66), strict=True))
    audio = [row for row in TABLE if row.name.startswith("Fig. 5")]
    assert [(row.config.vgg.attention, row.config.vgg.after_blocks) for row in audio] == [
        ("none", ()),
        ("se", (1, 4, 5)),
        ("cbam", (1, 4, 5)),
        ("coordinate", (1, 4, 5)),
        ("coordinate", (1, 2, 3, 4, 5)),
    ]
    assert {row.config.modalities for row in audio} == {("audio",)}
    assert [row.published for row in audio] == [None, None, None, 58.96, None]
    alone = {row.name: (row.config.modalities, row.config.video, row.published) for row in TABLE if "Table" in row.name}
    assert alone == {
        "Table II: I3D, RGB": (("rgb",), "i3d", 64.88),
        "Table II: I3D, flow": (("flow",), "i3d", 60.12),
        "Table II: C3D, RGB": (("rgb",), "c3d", 61.33),
        "Table II: ours": (MODALITIES, "i3d", 80.77),
    }


@pytest.mark.parametrize("name", ROWS)
def test_full_size_shapes_of_every_row(name: str) -> None:
    config = ROWS[name].config
    with torch.device("meta"):
        model = Icanet(config)
    given = {key: x.to("meta") for key, x in material(1, replace(config, crop_px=16, n_frames=1)).items()}
    sides = (1, config.n_frames, config.crop_px, config.crop_px)
    for key, channels in (("rgb", 3), ("flow", 2)):
        if key in given:
            given[key] = torch.empty(*sides, channels, dtype=given[key].dtype, device="meta")
    model.to("meta")
    assert {key: tuple(x.shape) for key, x in model.logits(**given).items()} == dict.fromkeys(config.modalities, (1, 4))
    assert model(**given).shape == (1, 4)


def test_the_whole_networks_size_is_the_sum_of_its_published_parts() -> None:
    with torch.device("meta"):
        model = Icanet(IcanetConfig())
    counts = {name: sum(p.numel() for p in branch.parameters()) for name, branch in model.branches.items()}
    assert counts == {"rgb": 12_291_364, "flow": 12_269_412, "audio": 134_329_876}  # derived in the branches' tests


@pytest.mark.parametrize("name", ROWS)
def test_gradients_reach_every_parameter_of_every_row(name: str) -> None:
    config = small(ROWS[name].config)
    torch.manual_seed(1)
    model = Icanet(config).train()
    posterior = model(**material(4, config))
    torch.autograd.backward(F.nll_loss(posterior.log(), torch.arange(4)))
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("weights", RATIOS)
@pytest.mark.parametrize("scores", ["logits", "posteriors"])
def test_fusion_is_the_weighted_average_as_loops(weights: tuple[int, int, int], scores: str) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (3, 2, 4))
    given = {name: torch.from_numpy(logits[m]) for m, name in enumerate(MODALITIES)}
    got = fuse(given, dict(zip(MODALITIES, weights, strict=True)), scores)  # type: ignore[arg-type]
    for b in range(2):
        average = [0.0] * 4
        for m in range(3):
            exponentials = [math.exp(v) for v in logits[m, b]]
            for k in range(4):
                score = logits[m, b, k] if scores == "logits" else exponentials[k] / sum(exponentials)
                average[k] += weights[m] * score / sum(weights)
        if scores == "logits":
            total = sum(math.exp(v) for v in average)
            average = [math.exp(v) / total for v in average]
        np.testing.assert_allclose(got[b].numpy(), average, atol=1e-12)
        assert sum(average) == pytest.approx(1)


def test_only_the_ratio_of_those_given_counts() -> None:
    logits = {name: torch.randn(3, 4) for name in MODALITIES}
    weights = {"rgb": 4.0, "flow": 2.0, "audio": 4.0}
    torch.testing.assert_close(fuse(logits, weights), fuse(logits, {name: w / 10 for name, w in weights.items()}))
    pair = {name: logits[name] for name in ("flow", "audio")}
    torch.testing.assert_close(fuse(pair, weights), fuse(pair, {"flow": 1.0, "audio": 2.0}))
    torch.testing.assert_close(fuse({"flow": logits["flow"]}, weights), logits["flow"].softmax(-1))
    for nothing in ({}, {"pose": logits["rgb"]}):
        with pytest.raises(ValueError, match="expected scores of a modality that has a weight"):
            fuse(nothing, weights)


def test_the_network_fuses_its_branches() -> None:
    for scores in ("logits", "posteriors"):
        config = small(IcanetConfig(weights=(3, 2, 5), scores=scores))  # type: ignore[arg-type]
        model = network(config)
        given = material(2, config)
        alone = {name: model.branches[name](x) for name, x in given.items()}
        expected = fuse(alone, {"rgb": 3, "flow": 2, "audio": 5}, config.scores)
        torch.testing.assert_close(model(**given), expected)
        assert (expected - alone["rgb"].softmax(-1)).abs().max() > 1e-3


def test_other_modalities_than_configured_are_refused() -> None:
    config = small(ROWS["Table II: I3D, flow"].config)
    model = Icanet(config)
    assert list(model.branches) == ["flow"]
    with pytest.raises(ValueError, match=r"expected \('flow',\), got \('flow', 'audio'\)"):
        model(flow=material(1, config)["flow"], audio=torch.zeros(1, 4000))


class _Open(nn.Module):
    """A recogniser that gives its branches' logits too, so that softmax hides no difference."""

    def __init__(self, model: Icanet) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        config = self.model.config
        logits = self.model.logits(**dict(zip(config.modalities, given, strict=True)))
        return fuse(logits, dict(zip(MODALITIES, config.weights, strict=True)), config.scores), *logits.values()


def onnx_session(module: nn.Module, inputs: dict[str, Tensor]) -> onnxruntime.InferenceSession:
    with warnings.catch_warnings():
        # As in train/export.py: torch warns of its own class, and that all inputs' batches are one.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*axis name: batch will not be used", category=UserWarning)
        program = torch.onnx.export(
            module, tuple(inputs.values()), dynamo=True, opset_version=20, input_names=list(inputs), verbose=False,
            dynamic_shapes=(tuple({0: "batch"} for _ in inputs),),
        )  # fmt: skip
    graph = io.BytesIO()
    assert program is not None
    program.save(graph)
    return onnxruntime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])


EXPORTED = {
    "I3D and CA-VGG16": IcanetConfig(weights=(0, 2, 4)),  # a second I3D would double the exporter's time
    "C3D": replace(ROWS["Table II: C3D, RGB"].config, scores="posteriors"),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_graph_is_torchs(name: str) -> None:
    config = small(EXPORTED[name])
    module = _Open(network(config)).eval()
    session = onnx_session(module, material(2, config))
    for n in (1, 3):
        given = material(n, config, seed=n)
        got = session.run(None, {key: x.numpy() for key, x in given.items()})
        with torch.no_grad():
            expected = module(*given.values())
        assert len(got) == len(expected) == 1 + len(config.modalities)
        for ours, theirs in zip(got, expected, strict=True):
            assert theirs.shape == (n, 4)
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


class _Attentions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList([SqueezeExcitation(16), Cbam(16)])

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(gate(given[0]) for gate in self.gates)


def test_the_other_attentions_export_too() -> None:
    torch.manual_seed(0)
    module = _Attentions().eval()
    session = onnx_session(module, {"x": torch.randn(2, 16, 6, 9)})
    for n in (1, 3):
        x = torch.randn(n, 16, 6, 9)
        for ours, theirs in zip(session.run(None, {"x": x.numpy()}), module(x), strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"weights": (0, 0, 0)}, r"weights: expected three of 0 or more, not all 0, got \(0, 0, 0\)"),
        ({"weights": (4, -2, 4)}, "weights: expected three of 0 or more"),
        ({"weights": (1, 1)}, "weights: expected three of 0 or more"),
        ({"scores": "votes"}, "scores: expected logits or posteriors, got votes"),
        ({"video": "r2d"}, "video: expected i3d or c3d, got r2d"),
        ({"n_frames": 0}, "expected 2 labels, 1 frame and 16 px or more, got 4, 0, 224"),
        ({"n_samples": 399}, "n_samples: expected one analysis window of 400 or more, got 399"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(IcanetConfig(), **changes)  # type: ignore[arg-type]


def test_a_configuration_is_frozen_and_compares_by_value() -> None:
    assert IcanetConfig() == IcanetConfig(vgg=VggConfig()) == ROWS["Table II: ours"].config
    with pytest.raises(AttributeError):
        IcanetConfig().n_labels = 5  # type: ignore[misc]
