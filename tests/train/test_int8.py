"""The 8-bit variant of `default`: what is quantised, how near it stays, and its recipe on miniature corpora."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.bundle import Bundle, load
from engines.onnx_runtime import OnnxEngine
from engines.samples import Samples
from tests import corpora_files as made
from train import voices as speech
from train.corpora.items import CorpusError
from train.default.int8 import (
    N_CALIBRATION,
    calibration_crops,
    calibration_waves,
    quantise,
    residual_stages,
    train_int8,
)

LOSS = 0.005  # of accuracy, that the 8-bit variant may cost
ENCODERS = ("frame_encoder", "audio_encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {
        "ferplus": made.even_ferplus(root / "ferplus", train=2, valid=2),
        "ravdess": made.ravdess(root / "ravdess"),
        "emodb": made.emodb(root / "emodb"),
    }


@pytest.fixture(scope="module")
def bundle(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load(train_int8(data, tmp_path_factory.mktemp("run"), seed=3))


def stage(bundle: Bundle, name: str) -> Path:
    return bundle.stage(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "n_convolutions", "n_sums"), [("frame_encoder", 15, 6), ("audio_encoder", 11, 4)])
def test_residual_stages_are_quantised_and_nothing_else(
    bundle: Bundle, name: str, n_convolutions: int, n_sums: int
) -> None:
    graph = onnx.load(stage(bundle, name)).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    kinds = [n.op_type for n in graph.node if any(made_by.get(i) == "DequantizeLinear" for i in n.input)]
    assert kinds.count("Conv") == n_convolutions
    assert kinds.count("Add") == n_sums
    assert set(kinds) == {"Conv", "Add", "ReduceMean"}  # the last is the pooling, in float32
    weights = {tensor.name: tensor for tensor in graph.initializer}
    eight = [t for t in weights.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(eight) == n_convolutions
    assert max(int(np.abs(onnx.numpy_helper.to_array(t)).max()) for t in eight) <= 64  # 7 bits


def test_the_nodes_between_stem_and_pooling_are_found() -> None:
    graph = onnx.load(stage(load("default"), "audio_encoder")).graph
    found = residual_stages(graph)
    kinds = [node.op_type for node in graph.node if node.name in found]
    assert (len(found), kinds.count("Conv"), kinds.count("Add"), kinds.count("Relu")) == (23, 11, 4, 8)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_shipped_variant_stays_near_the_shipped_default(name: str) -> None:
    default, variant = load("default"), load("default-int8")
    one, two = OnnxEngine(stage(default, name)), OnnxEngine(stage(variant, name))
    assert (one.inputs, one.outputs) == (two.inputs, two.outputs)
    with Samples(default) as samples:
        feeds = samples.feeds(name, 8)
    expected, got = one.run(feeds)["posterior"], two.run(feeds)["posterior"]
    assert np.abs(got - expected).max() < 0.05
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
    assert stage(variant, name).stat().st_size < 0.4 * stage(default, name).stat().st_size


def test_the_shipped_variant_loses_half_a_point_at_most() -> None:
    one, two = load("default").manifest, load("default-int8").manifest
    assert (two.labels, two.face, two.audio, two.scheme) == (one.labels, one.face, one.audio, one.scheme)
    own = {(s.corpus, s.modality, s.protocol): s for s in two.scores}
    lost = {(s.corpus, s.modality): s.accuracy - own[s.corpus, s.modality, s.protocol].accuracy for s in one.scores}
    assert lost["ferplus", "face"] <= LOSS
    assert lost["all of these", "voice"] <= LOSS
    assert lost["class-matched pairs", "both"] <= LOSS
    assert [s.n for s in two.scores] == [s.n for s in one.scores]


def test_the_same_inputs_give_the_same_file(tmp_path: Path) -> None:
    default = load("default")
    with Samples(default) as samples:
        feeds = samples.feeds("frame_encoder", 8)
    for name in ("a.onnx", "b.onnx"):
        quantise(stage(default, "frame_encoder"), tmp_path / name, feeds)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_scales_come_from_people_that_the_weights_were_trained_on(data: dict[str, Path]) -> None:
    crops = calibration_crops(data["ferplus"], 0)
    assert (crops.shape, crops.dtype) == ((N_CALIBRATION, 48, 48, 3), np.uint8)
    trained = {made.picture(label, 7 * k + label).tobytes() for k in range(2) for label in range(7)}
    assert {crop[..., 0].tobytes() for crop in crops} <= trained
    spoken = [(name, data[name]) for name in ("ravdess", "emodb")]
    waves = calibration_waves(spoken, 0)
    assert (waves.shape, waves.dtype) == ((N_CALIBRATION, 20_480), np.float32)
    whole = [samples.astype(np.float32) / 32768 for samples in speech.load(spoken, "train").samples]
    for wave in waves[::16]:
        heard = np.trim_zeros(wave)
        assert any(heard.tobytes() in samples.tobytes() for samples in whole)


def test_the_bundle_says_what_it_is_and_how_it_was_made(bundle: Bundle) -> None:
    manifest, default = bundle.manifest, load("default")
    assert manifest.name == "default-int8"
    assert (
        manifest.command == "emocast train default-int8 --data ferplus=DIR --data ravdess=DIR --data emodb=DIR --seed 3"
    )
    assert manifest.trained == default.manifest.trained
    assert [s.modality for s in manifest.scores] == ["face", "voice", "voice", "voice", "both", "face", "voice"]
    assert stage(bundle, "head").read_bytes() == stage(default, "head").read_bytes()
    card = (bundle.folder / "README.md").read_text()
    assert card.startswith("# default-int8\n")
    assert f"    {manifest.command}\n" in card
    assert "Seed 3. The weights are those of the shipped `default`" in card
    assert "the residual stages of both encoders compute in 8-bit integers." in card


@pytest.mark.parametrize("given", [{"stage": "faces"}, {"epochs": 1}])
def test_options_of_training_are_refused(data: dict[str, Path], tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected no --stage and no --epochs: default-int8 has one stage"):
        train_int8(data, tmp_path / "out", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_missing_corpus_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"expected --data ferplus=DIR and one or more of .*, got ravdess$"):
        train_int8({"ravdess": tmp_path}, tmp_path / "out")
