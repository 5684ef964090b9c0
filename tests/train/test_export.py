"""Export: the three graphs of a small network, run by ONNX Runtime, against torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.engine import EngineError
from engines.onnx_runtime import OnnxEngine
from train.export import OPSET, export
from train.models.temporal import AudioVisualNetwork, TemporalConfig

SMALL = TemporalConfig(
    face_widths=(4, 6), face_blocks=(1, 1), voice_widths=(4, 5), voice_blocks=(1, 1), n_samples=4000, crop_px=16
)
FILES = ["audio_encoder.onnx", "frame_encoder.onnx", "head.onnx"]


def crops(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3)).astype(np.uint8)


def waveforms(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (n, 4000)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[AudioVisualNetwork, Path, float]:
    """A seeded network whose normalisations have seen something, its graphs, and the difference that export saw."""
    torch.manual_seed(3)
    network = AudioVisualNetwork(SMALL).train()
    with torch.no_grad():
        network(torch.from_numpy(crops(8, 5)), torch.from_numpy(waveforms(8, 5)))
    folder = tmp_path_factory.mktemp("exported")
    return network, folder, export(network, folder, crops(5), waveforms(5))


def test_files_say_nothing_of_the_machine_they_were_made_on(
    exported: tuple[AudioVisualNetwork, Path, float],
) -> None:
    for path in exported[1].glob("*.onnx"):
        content = path.read_bytes()
        assert b"stack_trace" not in content
        assert str(Path(__file__).parents[2]).encode() not in content


def test_three_files_of_one_opset_with_their_weights_inside(exported: tuple[AudioVisualNetwork, Path, float]) -> None:
    _, folder, difference = exported
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert 0 <= difference < 1e-4
    for name in FILES:
        model = onnx.load(folder / name, load_external_data=False)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)] == [("", 20)]
        assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)


def test_graphs_take_raw_media(exported: tuple[AudioVisualNetwork, Path, float]) -> None:
    declared = {}
    for name in FILES:
        engine = OnnxEngine(exported[1] / name)
        declared[name] = [(s.name, s.dtype, s.shape[1:]) for s in (*engine.inputs, *engine.outputs)]
        assert {s.shape[0] for s in (*engine.inputs, *engine.outputs)} == {"batch"}
    assert declared == {
        "frame_encoder.onnx": [
            ("crop", "uint8", (16, 16, 3)), ("features", "float32", (6,)), ("posterior", "float32", (7,)),
        ],
        "audio_encoder.onnx": [
            ("waveform", "float32", (4000,)), ("features", "float32", (10,)), ("posterior", "float32", (7,)),
        ],
        "head.onnx": [("face", "float32", (6,)), ("voice", "float32", (10,)), ("posterior", "float32", (7,))],
    }  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 5])
def test_graphs_agree_with_torch_at_any_batch(exported: tuple[AudioVisualNetwork, Path, float], n: int) -> None:
    network, folder, _ = exported
    looks, sounds = crops(n, 10 + n), waveforms(n, 10 + n)
    with torch.no_grad():
        face, voice = network.face(torch.from_numpy(looks)), network.voice(torch.from_numpy(sounds))
        expected = {
            "frame_encoder.onnx": (face, network.face_head(face).softmax(1)),
            "audio_encoder.onnx": (voice, network.voice_head(voice).softmax(1)),
        }
        joint = network(torch.from_numpy(looks), torch.from_numpy(sounds)).softmax(1)
    for name, feeds in (("frame_encoder.onnx", {"crop": looks}), ("audio_encoder.onnx", {"waveform": sounds})):
        got = OnnxEngine(folder / name).run(feeds)
        for key, tensor in zip(("features", "posterior"), expected[name], strict=True):
            np.testing.assert_allclose(got[key], tensor.numpy(), atol=1e-4)
    got = OnnxEngine(folder / "head.onnx").run({"face": face.numpy(), "voice": voice.numpy()})
    np.testing.assert_allclose(got["posterior"], joint.numpy(), atol=1e-4)
    np.testing.assert_allclose(got["posterior"].sum(1), 1, atol=1e-5)


def test_a_float_crop_is_refused(exported: tuple[AudioVisualNetwork, Path, float]) -> None:
    with pytest.raises(EngineError, match="expected input crop uint8"):
        OnnxEngine(exported[1] / "frame_encoder.onnx").run({"crop": crops(1).astype(np.float32)})


def test_dropout_is_not_exported(exported: tuple[AudioVisualNetwork, Path, float]) -> None:
    for name in FILES:
        assert "Dropout" not in {node.op_type for node in onnx.load(exported[1] / name).graph.node}


def test_too_little_to_check_with_is_refused(tmp_path: Path) -> None:
    network = AudioVisualNetwork(SMALL)
    for n_crops, n_waveforms in ((1, 1), (3, 2)):
        text = f"expected as many crops as waveforms, 2 or more, got {n_crops} and {n_waveforms}"
        with pytest.raises(ValueError, match=text):
            export(network, tmp_path, crops(n_crops), waveforms(n_waveforms))
    assert list(tmp_path.iterdir()) == []
