"""The contract of an engine, which every backend passes on the same graphs."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.bundle import load, shipped
from engines.engine import Engine, EngineError, TensorSpec
from engines.fallback import Fallback
from engines.onnx_runtime import OnnxEngine
from engines.tensorrt.build import BuildOptions, build
from engines.tensorrt.run import TensorRTEngine
from tests.small_bundle import N_SAMPLES, SIZE_PX, audio_encoder, frame_encoder, graph, head, softmax
from train.torch_graph import TorchGraph

Open = Callable[[Path], Engine]


def tensorrt(path: Path) -> Engine:
    return TensorRTEngine(build(path.read_bytes(), BuildOptions(batch="1,4")))


def fallback(path: Path) -> Engine:
    return Fallback(OnnxEngine(path), lambda: OnnxEngine(path), name=path.stem)


BACKENDS: dict[str, Open] = {"onnx": OnnxEngine, "tensorrt": tensorrt, "fallback": fallback, "torch": TorchGraph}
NAMES = {"fallback": "onnx"}  # that they go by, where it is another
STAGES = ("frame_encoder", "audio_encoder", "head")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_graph(backend: str, request: pytest.FixtureRequest) -> Iterator[Open]:
    engines: list[Engine] = []
    if backend == "tensorrt":
        request.getfixturevalue("gpu")

    def opened(path: Path) -> Engine:
        engines.append(BACKENDS[backend](path))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture(params=["onnx", "torch"])
def open_file(request: pytest.FixtureRequest) -> Open:
    """Of the backends that read the file themselves."""
    return BACKENDS[str(request.param)]


def crops(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


def test_it_declares_what_the_graph_takes_and_gives(open_graph: Open, tmp_path: Path, backend: str) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    assert engine.backend == NAMES.get(backend, backend)
    assert engine.inputs == (TensorSpec(name="crop", dtype="uint8", shape=("batch", SIZE_PX, SIZE_PX, 3)),)
    assert engine.outputs == (
        TensorSpec(name="features", dtype="float32", shape=("batch", 3)),
        TensorSpec(name="posterior", dtype="float32", shape=("batch", 3)),
    )


@pytest.mark.parametrize("n", [1, 3, 8])
def test_it_computes_the_graph_for_any_batch(open_graph: Open, tmp_path: Path, n: int) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    given = crops(n)
    kept = given.copy()
    got = engine.run({"crop": given})
    features = given.reshape(n, -1, 3).mean(1) / 255
    assert list(got) == ["features", "posterior"]
    assert {array.dtype for array in got.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(got["features"], features, rtol=1e-5)
    np.testing.assert_allclose(got["posterior"], softmax(8 * features), rtol=1e-4)
    np.testing.assert_array_equal(given, kept)


def test_batches_may_follow_each_other_in_any_size(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    for n in (8, 1, 3, 8):
        alone = [engine.run({"crop": one[None]})["features"][0] for one in crops(n)]
        np.testing.assert_allclose(engine.run({"crop": crops(n)})["features"], alone, rtol=1e-6)


def test_several_inputs_go_by_name(open_graph: Open, tmp_path: Path) -> None:
    face, voice = np.eye(3, dtype=np.float32)[:2], np.full((2, 3), 0.5, np.float32)
    got = open_graph(head(tmp_path / "a.onnx")).run({"voice": voice, "face": face})
    np.testing.assert_allclose(got["posterior"], softmax(face - voice), rtol=1e-6)


def test_views_that_are_not_contiguous_are_read_right(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(audio_encoder(tmp_path / "a.onnx"))
    backwards = np.random.default_rng(0).normal(size=(2, N_SAMPLES)).astype(np.float32)[:, ::-1]
    expected = np.stack([backwards.mean(1), backwards.max(1), backwards.min(1)], 1)
    np.testing.assert_allclose(engine.run({"waveform": backwards})["features"], expected, atol=1e-6)


def test_outputs_belong_to_the_caller(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    first = engine.run({"crop": crops(2)})["features"]
    kept = first.copy()
    engine.run({"crop": 255 - crops(2)})
    np.testing.assert_array_equal(first, kept)
    first[:] = 7  # writable
    engine.close()
    assert (first == 7).all()


def test_it_runs_in_any_thread_and_in_several(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    given = [crops(1 + k % 5) for k in range(24)]
    got: list[np.ndarray | None] = [None] * len(given)

    def work(first: int) -> None:
        for k in range(first, len(given), 3):
            got[k] = engine.run({"crop": given[k]})["features"]

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, features in zip(given, got, strict=True):
        assert features is not None
        np.testing.assert_allclose(features, one.reshape(len(one), -1, 3).mean(1) / 255, rtol=1e-5)


def test_wrong_feeds_are_refused_and_it_goes_on(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    with pytest.raises(EngineError, match=r"expected inputs \['crop'\], got \['image'\]"):
        engine.run({"image": crops(1)})
    with pytest.raises(
        EngineError, match=r"expected input crop uint8 \(batch, 16, 16, 3\), got float32 \(1, 16, 16, 3\)"
    ):
        engine.run({"crop": crops(1).astype(np.float32)})
    with pytest.raises(EngineError, match=r"got uint8 \(1, 8, 16, 3\)"):
        engine.run({"crop": crops(1)[:, :8]})
    assert engine.run({"crop": crops(1)})["posterior"].shape == (1, 3)


def test_a_closed_engine_says_so_and_may_be_closed_again(open_graph: Open, tmp_path: Path) -> None:
    engine = open_graph(frame_encoder(tmp_path / "a.onnx"))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="expected an open engine, this one was closed"):
        engine.run({"crop": crops(1)})


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x09" * 50])
def test_a_corrupt_file_is_one_line_that_names_it(open_file: Open, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=f"expected an ONNX graph at {path}, ") as caught:
        open_file(path)
    assert "\n" not in str(caught.value)


def test_half_a_file_is_one_line_too(open_file: Open, tmp_path: Path) -> None:
    path = frame_encoder(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EngineError, match=f"expected an ONNX graph at {path}, ") as caught:
        open_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(open_file: Open, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.onnx") as caught:
        open_file(tmp_path / "none.onnx")
    assert "\n" not in str(caught.value)


def test_an_element_type_without_a_name_here_is_refused(open_file: Open, tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    path = graph(tmp_path / "a.onnx", nodes, {"x": (TensorProto.DOUBLE, ["batch", 2])}, {"y": ["batch", 2]})
    with pytest.raises(EngineError, match=r"expected tensors of .* in .*a.onnx, x is tensor\(double\)"):
        open_file(path)


# the graphs that are shipped


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("n", [1, 3, 8])
def test_shipped_graphs_score_batches_as_they_score_one(open_graph: Open, name: str, n: int) -> None:
    bundle = load(name)
    frame, audio, joint = (open_graph(bundle.stage(stage)) for stage in STAGES)  # type: ignore[arg-type]
    size, n_samples = bundle.manifest.face.size_px, bundle.manifest.audio.n_samples
    random = np.random.default_rng(n)
    faces = frame.run({"crop": random.integers(0, 256, (n, size, size, 3)).astype(np.uint8)})
    waveforms = (0.1 * random.normal(size=(n, n_samples))).astype(np.float32)
    voices = audio.run({"waveform": waveforms})
    both = joint.run({"face": faces["features"], "voice": voices["features"]})
    for posterior in (faces["posterior"], voices["posterior"], both["posterior"]):
        assert posterior.shape == (n, len(bundle.manifest.labels))
        assert (posterior >= 0).all()
        np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    for k in range(n):
        alone = audio.run({"waveform": waveforms[k : k + 1]})
        np.testing.assert_allclose(alone["posterior"][0], voices["posterior"][k], atol=1e-4)


@pytest.mark.parametrize("name", shipped())
def test_shipped_graphs_take_digital_silence_and_full_scale(open_graph: Open, name: str) -> None:
    bundle = load(name)
    audio = open_graph(bundle.stage("audio_encoder"))
    n_samples = bundle.manifest.audio.n_samples
    extremes = np.stack([np.zeros(n_samples), np.ones(n_samples), np.tile([1.0, -1.0], n_samples // 2)])
    for values in audio.run({"waveform": extremes.astype(np.float32)}).values():
        assert np.isfinite(values).all()
