"""The three-stream recogniser: its tables, equations 1 to 4 against loops, encoder against torch's, export."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from train.models.skeleton import (
    LABELS,
    N_STEPS,
    N_VALUES,
    PUBLISHED,
    STREAMS,
    TABLE,
    EncoderLayer,
    Gate,
    Reduction,
    Row,
    SkeletonConfig,
    SkeletonNextVlad,
    StreamEncoder,
    positions,
)

OURS = [row for row in TABLE if row.config is not None]
POSE = replace(PUBLISHED, streams=("skeleton",))


def steps(n: int, config: SkeletonConfig, n_steps: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, n_steps, N_VALUES[name], generator=generator) for name in config.streams)


def model(config: SkeletonConfig) -> SkeletonNextVlad:
    torch.manual_seed(0)
    return SkeletonNextVlad(config).eval()


def test_the_tables_are_the_papers() -> None:
    figures = {(row.table, row.name): row.accuracy for row in TABLE}
    assert len(figures) == len(TABLE) == 12
    assert [row.accuracy for row in TABLE if row.table == "Table 1"] == [35.5, 40.4, 30.2, 43.2]
    assert [row.accuracy for row in TABLE if row.table == "Table 2"] == [37.4, 39.9, 38.5, 43.2]
    assert [row.accuracy for row in TABLE if row.table == "Table 3"] == [42.5, 43.2, 42.8, 41.3]
    assert {row.name for row in TABLE if row.config is None} == {"SentiBank", "E-MDBM"}
    assert {row.accuracy for row in TABLE if row.config == PUBLISHED} == {43.2}
    for row in OURS:
        assert row.config is not None
        if row.table == "Table 2" and row.name != "Ours":
            gone = row.name.split()[1]
            assert row.config == replace(PUBLISHED, streams=tuple(name for name in STREAMS if name != gone))
        if row.table == "Table 3":
            assert row.config == replace(PUBLISHED, n_clusters=int(row.name.split()[-1]))


def test_the_published_sizes_are_the_texts() -> None:
    assert LABELS == ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
    assert STREAMS == ("visual", "audio", "skeleton")
    assert (N_STEPS, list(N_VALUES.items())) == (100, [("visual", 768), ("audio", 128), ("skeleton", 99)])
    assert (PUBLISHED.n_heads, PUBLISHED.n_groups, PUBLISHED.n_clusters, PUBLISHED.n_fused) == (4, 8, 4, 512)
    net = model(PUBLISHED)
    inputs = steps(2, PUBLISHED, N_STEPS)
    encoders = [part for part in net.streams.values() if isinstance(part, StreamEncoder)]
    encoded = [part.encode(x) for part, x in zip(encoders, inputs, strict=True)]
    assert [tuple(x.shape) for x in encoded] == [(2, 100, 768), (2, 100, 128), (2, 100, 128)]
    aggregates = [part(x) for part, x in zip(encoders, inputs, strict=True)]
    assert [tuple(x.shape) for x in aggregates] == [(2, 4 * 192), (2, 4 * 32), (2, 4 * 32)]
    assert net.reduce.w1.in_features == 768 + 128 + 128
    assert net.fuse(inputs).shape == (2, 512)
    assert net(*inputs).shape == (2, 8)
    torch.testing.assert_close(net(*inputs), net.mlp(net.gate(net.reduce(torch.cat(aggregates, 1)))))


@pytest.mark.parametrize("row", OURS, ids=lambda row: f"{row.table} {row.name}")
def test_each_row_has_its_size_and_gradients_everywhere(row: Row) -> None:
    assert row.config is not None
    net = model(row.config).train()
    assert sum(p.numel() for p in net.parameters()) == derived_count(row.config)
    logits = net(*steps(4, row.config))
    assert logits.shape == (4, 8)
    torch.autograd.backward(nn.functional.cross_entropy(logits, torch.arange(4)))
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def derived_count(config: SkeletonConfig) -> int:
    total, joined = 0, 0
    for name in config.streams:
        d = {"visual": 768, "audio": 128, "skeleton": 128}[name]
        total += 99 * 128 + 128 if name == "skeleton" else 0
        attention, inner, norms = 4 * d * d + 4 * d, 8 * d * d + 5 * d, 4 * d
        total += config.n_layers * (attention + inner + norms)
        e, k = 2 * d, config.n_clusters
        total += d * e + e + e * 8 + 8 + e * 8 * k + 2 * 8 * k + k * e // 8 + 2 * k * e // 8
        joined += k * e // 8
    total += joined * 512 + 2 * 512
    total += 512 * 32 + 2 * 32 + 32 * 512 if config.fusion == "gate" else 0
    return total + 512 * 512 + 512 + 512 * 8 + 8


def test_the_gate_is_equations_2_to_4_in_training() -> None:
    torch.manual_seed(0)
    reduction, gate = Reduction(7, 6).double(), Gate(6, 2).double()
    for norm in (reduction.norm, gate.norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    joined = torch.randn(5, 7, dtype=torch.float64)
    f1 = batch_norm_by_loops([[dot(w, f) for w in reduction.w1.weight] for f in joined], reduction.norm)
    f1 = [[max(0.0, value) for value in row] for row in f1]  # (2)
    inner = [[max(0.0, dot(w, torch.tensor(row).double())) for w in gate.w2.weight] for row in f1]
    inner = batch_norm_by_loops(inner, gate.norm)  # (3): the norm comes after the ReLU
    got = gate(reduction(joined))
    for item in range(5):
        for place in range(6):
            sum3 = dot(gate.w3.weight[place], torch.tensor(inner[item]).double())
            f2 = 1 / (1 + math.exp(-sum3))
            assert got[item, place].item() == pytest.approx(f1[item][place] * f2, abs=1e-6)  # (4)
    assert (got > 0).any()


def dot(a: Tensor, b: Tensor) -> float:
    return math.fsum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def batch_norm_by_loops(rows: list[list[float]], norm: nn.BatchNorm1d) -> list[list[float]]:
    out = [[0.0] * len(rows[0]) for _ in rows]
    for place, column in enumerate(zip(*rows, strict=True)):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        for item, value in enumerate(column):
            scaled = (value - mean) / math.sqrt(variance + norm.eps)
            out[item][place] = scaled * norm.weight[place].item() + norm.bias[place].item()
    return out


def test_the_encoder_layer_is_torchs() -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(12, 4, 0.1).eval()
    peer = nn.TransformerEncoderLayer(12, 4, 48, batch_first=True)
    names = {
        "qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "inner": "linear1.", "outer": "linear2.",
        "norm1": "norm1.", "norm2": "norm2.",
    }  # fmt: skip
    state = {}
    for name, value in ours.state_dict().items():
        part, kind = name.split(".")
        state[names[part] + kind] = value
    peer.load_state_dict(state)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), peer.eval()(x), atol=1e-5, rtol=1e-5)


def test_positions_are_sines_and_cosines() -> None:
    got = positions(9, 6)
    for at in range(9):
        for pair in range(3):
            angle = at / 10_000 ** (2 * pair / 6)
            assert got[at, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert got[at, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_the_order_of_steps_matters_only_to_the_encoder() -> None:
    for n_layers, least, most in ((0, 0.0, 1e-4), (1, 1e-3, math.inf)):
        net = model(replace(POSE, n_layers=n_layers))
        (x,) = steps(2, POSE, 8)
        apart = (net.fuse((x,)) - net.fuse((x.flip(1),))).abs().max().item()
        assert least <= apart <= most


def test_the_exported_graph_agrees_at_any_batch(tmp_path: Path) -> None:
    net = model(PUBLISHED)
    path = tmp_path / "head.onnx"
    inputs = steps(3, PUBLISHED, N_STEPS)
    with warnings.catch_warnings():
        # torch 2.13 warns of a class that its own exporter uses, and that the three batches are one: they are.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*axis name: batch will not be used", category=UserWarning)
        torch.onnx.export(
            net, tuple(x[:2] for x in inputs), path, dynamo=True, opset_version=20, input_names=list(STREAMS),
            dynamic_shapes=(tuple({0: "batch"} for _ in STREAMS),), verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 3):
        feeds = {name: x[:n].numpy() for name, x in zip(STREAMS, inputs, strict=True)}
        (got,) = session.run(None, feeds)
        np.testing.assert_allclose(got, net(*(x[:n] for x in inputs)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams": ()}, "expected some of .* in this order"),
        ({"streams": ("audio", "visual")}, "expected some of .* in this order"),
        ({"streams": ("audio", "smell")}, "expected some of .* in this order"),
        ({"fusion": "sum"}, "expected fusion 'gate' or 'concatenation', got 'sum'"),
        ({"n_clusters": 0}, "expected positive sizes"),
        ({"head_dropout": 1.0}, "expected dropout rates in"),
        ({"reduction": 7}, "expected a reduction that divides 512, got 7"),
        ({"n_heads": 5}, "visual: expected heads that divide 768 and groups that divide 1536, got 5 and 8"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SkeletonConfig(**{**PUBLISHED.__dict__, **change})


def test_wrong_inputs_are_refused() -> None:
    net = model(POSE)
    with pytest.raises(ValueError, match=r"expected features of \('skeleton',\), got 2"):
        net(*steps(2, PUBLISHED)[:2])
    with pytest.raises(ValueError, match="skeleton: expected 99 values a step, got 128"):
        net(torch.zeros(2, 5, 128))
