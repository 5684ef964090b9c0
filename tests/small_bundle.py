"""A whole bundle of a few kilobytes whose graphs can be computed by hand, built with onnx alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from engines.bundle import Bundle, load

SIZE_PX, N_SAMPLES, N_LABELS = 16, 1600, 3
OPSET, IR_VERSION = 17, 9

MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "small",
    "paper": "none",
    "labels": ["red", "green", "blue"],
    "face": {"size_px": SIZE_PX, "align": "box"},
    "audio": {"rate_hz": 16000, "n_samples": N_SAMPLES, "silence_dbfs": -55.0, "min_coverage": 0.5},
    "scheme": {"segment_s": 0.05, "audio_s": 0.1, "jitter_s": 0.01, "n_segments": 4, "alignments": ["centered"]},
    "fusion": {"face": 1.0, "voice": 0.5, "both": 2.0},
    "temperature": {"face": 1.0, "voice": 2.0, "both": 0.5},
    "min_confidence": 0.4,
    "trained": [],
    "command": "none",
    "scores": [],
}
Shape = Sequence[int | str]
STAGES = ("frame_encoder", "audio_encoder", "head")


def graph(path: Path, nodes: list[Any], inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, Shape]) -> Path:
    """Write a graph: inputs by name are (element type, shape), outputs are float32 by shape."""
    made = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def frame_encoder(path: Path, *, size_px: int = SIZE_PX) -> Path:
    """Features: the mean of each colour in [0, 1]; posterior: softmax of 8 times that."""
    nodes = [
        helper.make_node("Cast", ["crop"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0),
        _constant("full_scale", 255.0),
        helper.make_node("Div", ["colour", "full_scale"], ["features"]),
        _constant("gain", 8.0),
        helper.make_node("Mul", ["features", "gain"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["posterior"], axis=-1),
    ]
    crop: dict[str, tuple[int, Shape]] = {"crop": (TensorProto.UINT8, ["batch", size_px, size_px, 3])}
    return graph(path, nodes, crop, {"features": ["batch", 3], "posterior": ["batch", 3]})


def audio_encoder(path: Path) -> Path:
    """Features: mean, largest and smallest sample; posterior: their softmax."""
    nodes = [
        helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["waveform"], ["most"], axes=[1], keepdims=1),
        helper.make_node("ReduceMin", ["waveform"], ["least"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean", "most", "least"], ["features"], axis=1),
        helper.make_node("Softmax", ["features"], ["posterior"], axis=-1),
    ]
    waveform: dict[str, tuple[int, Shape]] = {"waveform": (TensorProto.FLOAT, ["batch", N_SAMPLES])}
    return graph(path, nodes, waveform, {"features": ["batch", 3], "posterior": ["batch", 3]})


def head(path: Path) -> Path:
    """Posterior: softmax of the face's features less the voice's."""
    nodes = [
        helper.make_node("Sub", ["face", "voice"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["posterior"], axis=-1),
    ]
    features: tuple[int, Shape] = (TensorProto.FLOAT, ["batch", 3])
    return graph(path, nodes, {"face": features, "voice": features}, {"posterior": ["batch", 3]})


def write_bundle(folder: Path, **changes: Any) -> Path:
    """Write the bundle; `changes` replace top-level keys of `bundle.json`, None takes one away."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, write in zip(STAGES, (frame_encoder, audio_encoder, head), strict=True):
        write(folder / f"{stage}.onnx")
    manifest = {**MANIFEST, "stages": stages(folder), **changes}
    (folder / "bundle.json").write_text(
        json.dumps({key: value for key, value in manifest.items() if value is not None})
    )
    return folder


def stages(folder: Path) -> dict[str, dict[str, str]]:
    """The `stages` of `bundle.json` for the files as they are."""
    files = {stage: folder / f"{stage}.onnx" for stage in STAGES}
    return {
        stage: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for stage, path in files.items()
    }


def small_bundle(folder: Path, **changes: Any) -> Bundle:
    """Write and load it."""
    return load(write_bundle(folder, **changes))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, as the definition has it."""
    powers = np.exp(np.asarray(logits, np.float64))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _constant(name: str, value: float) -> Any:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
