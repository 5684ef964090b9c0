"""Every graph of ours in every precision: valid, of operators that TensorRT takes, and close to float32 on real inputs.

The small bundles are made by hand, the default is shipped, and the five recognisers are exported with fresh weights, as
narrow as tests allow; `python -m tools.measure.half_graphs` does the same for one of full size.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.bundle import Bundle, load, shipped
from engines.parity import TOLERANCES
from engines.precision import PRECISIONS, check, convert
from engines.samples import Samples
from tests.clip_prepared import prepared
from tests.half_checks import faults
from tests.half_network import FLOAT, graph, matrix, node
from tests.small_bundle import small_bundle, write_bundle
from tests.small_clip_bundle import small_clip_bundle
from tests.tools.test_five_recognisers import RECIPES
from tools.measure.half_graphs import main
from train.clips.bundle import write_untrained
from train.clips.recipes import CLIP_RECIPES

pytestmark = pytest.mark.timeout(240)
IN_FLOAT = [name for name in shipped() if not name.endswith("-int8")]
RECOGNISERS = ("temporal", "icanet", "skeleton", "emodal", "bilinear")
FEATURES = dict.fromkeys(("face", "voice"), (FLOAT, ("batch", 3)))  # what the head of the small bundle takes


def recogniser(name: str) -> Callable[[Path], Bundle]:
    def made(folder: Path) -> Bundle:
        (small,) = [small for small in RECIPES if small.recipe == name]
        torch.manual_seed(0)
        task = CLIP_RECIPES[name].task(("a", "b"), dict(word.split("=", 1) for word in small.settings))
        clips, _ = prepared("both", 2, task.needs(), duration_s=2.0)
        return write_untrained(task, clips, folder, "none")

    return made


BUNDLES: dict[str, Callable[[Path], Bundle]] = {
    "small": small_bundle,
    "small clip": small_clip_bundle,
    **{name: lambda _, name=name: load(name) for name in IN_FLOAT},  # type: ignore[misc]
    **{name: recogniser(name) for name in RECOGNISERS},
}


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return BUNDLES[request.param](tmp_path_factory.mktemp("bundle"))


def test_every_graph_in_every_precision(bundle: Bundle) -> None:
    wrong: list[str] = []
    with Samples(bundle) as samples:
        for stage in bundle.manifest.stages:
            original = bundle.stage(stage).read_bytes()
            feeds = [samples.feeds(stage, 1), samples.feeds(stage, 2, first=3)]
            for precision in PRECISIONS:
                made = convert(original, precision, feeds[:1])
                wrong += [f"{stage} {precision}: {line}" for line in faults(made.model, original)]
                found = check(original, made, feeds)
                wrong += [f"{stage} {precision}: {found}"] * (max(found.values()) > TOLERANCES[precision])
    assert wrong == []


def test_fixed_transforms_stay_in_float32(bundle: Bundle) -> None:
    logarithms = 0
    with Samples(bundle) as samples:
        for stage in bundle.manifest.stages:
            made = convert(bundle.stage(stage).read_bytes(), "fp16", [samples.feeds(stage, 1)])
            front = made.kept.get("front end", ())
            for each in onnx.load(bundle.stage(stage)).graph.node:
                fixed = {"frontend", "lfcc"} & {part for name in each.input for part in name.split(".")}
                assert not fixed or each.output[0] in front
                assert each.op_type not in ("Log", "Sin", "Cos") or each.output[0] in front
                logarithms += each.op_type == "Log"
    assert (logarithms > 0) == (not bundle.manifest.name.startswith(("small", "clip")))


@pytest.mark.parametrize("name", IN_FLOAT)
def test_a_shipped_bundle_is_half_as_large_and_mostly_in_half(name: str) -> None:
    bundle = load(name)
    with Samples(bundle) as samples:
        made = convert(bundle.stage("frame_encoder").read_bytes(), "fp16", [samples.feeds("frame_encoder", 2)])
    assert made.n_half > 2 * made.n_kept
    assert len(made.model) < 0.55 * bundle.stage("frame_encoder").stat().st_size


def test_the_table_tells_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_bundle(tmp_path)
    monkeypatch.setattr(sys, "argv", ["half_graphs", str(tmp_path)])
    assert main() == 0
    told = rows(capsys.readouterr().out)
    assert [row[:4] for row in told] == [
        [stage, precision, "0", str(n)]
        for stage, n in (("frame_encoder", 5), ("audio_encoder", 5), ("head", 2))
        for precision in PRECISIONS
    ]
    assert {(float(row[6].split()[0]), row[7]) for row in told} == {(0.0, "-")}


@pytest.mark.parametrize("planted", ["cancels", "determinant"])
def test_a_graph_that_cannot_serve_is_told(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path)
    (tmp_path / "head.onnx").write_bytes(cancelling() if planted == "cancels" else with_determinant())
    manifest = json.loads((tmp_path / "bundle.json").read_text())
    manifest["stages"]["head"]["sha256"] = hashlib.sha256((tmp_path / "head.onnx").read_bytes()).hexdigest()
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(sys, "argv", ["half_graphs", str(tmp_path)])
    assert main() == 2
    told = rows(capsys.readouterr().out)[-3:]
    beyond = [float(row[6].split()[0]) > TOLERANCES[row[1]] for row in told]
    assert beyond == ([False, True, True] if planted == "cancels" else [False] * 3)
    assert {row[7] for row in told} == {
        "-" if planted == "cancels" else "Det that gives size: the operator is not taken"
    }


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def cancelling() -> bytes:
    """A learned layer whose result nearly goes lost in a large offset that is taken off again: halves cannot do it."""
    nodes = [
        node("Concat", ["face", "voice"], ["both"], axis=1),
        node("Gemm", ["both", "wide"], ["a"]),
        node("Add", ["a", "offset"], ["b"]),
        node("Sub", ["b", "offset"], ["c"]),
        node("Gemm", ["c", "narrow"], ["posterior"]),
    ]
    weights = {"wide": matrix(0, 6, 2048), "narrow": matrix(1, 2048, 3), "offset": np.array(2000, np.float32)}
    return graph(nodes, weights, FEATURES, {"posterior": ["batch", 3]})


def with_determinant() -> bytes:
    nodes = [
        node("Unsqueeze", ["face", "axis"], ["row"]),
        node("Unsqueeze", ["voice", "axis2"], ["column"]),
        node("MatMul", ["column", "row"], ["square"]),
        node("Det", ["square"], ["size"]),
        node("Unsqueeze", ["size", "axis"], ["one"]),
        node("Add", ["one", "face"], ["posterior"]),
    ]
    weights = {"axis": np.array([1]), "axis2": np.array([2])}
    return graph(nodes, weights, FEATURES, {"posterior": ["batch", 3]})
