"""A clip recogniser of a few kilobytes whose graphs can be computed by hand, built with onnx alone."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from engines.bundle import Bundle, load
from tests.small_bundle import MANIFEST, graph, softmax

SIZE_PX, N_FRAMES, CHUNK = 16, 5, 1600
HOP_S, SPAN_S, FRAME_HZ = 0.1, 0.5, 20.0
N_SAMPLES = 8000
FACE = {"size_px": SIZE_PX, "align": "frame", "fallback": "frame"}
TAKES = {
    "colour": ("frame", {"crop": "crop"}),
    "tone": ("chunk", {"waveform": "waveform"}),
    "motion": ("window", {"flow": "flow"}),
    "posture": ("window", {"pose": "pose"}),
    "head": ("window", {"colour": "colour.features", "tone": "tone.features", "motion": "motion.features"}),
    "face_head": ("window", {"colour": "colour.features", "posture": "posture.features"}),
    "voice_head": ("window", {"wave": "waveform"}),
}
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


def _mean(source: str, out: str, axes: Sequence[int]) -> Any:
    return helper.make_node("ReduceMean", [source], [out], axes=list(axes), keepdims=0)


def _write(name: str, path: Path) -> None:
    b = "batch"
    if name == "colour":  # mean of each colour, in [0, 1]
        nodes = [
            helper.make_node("Cast", ["crop"], ["pixels"], to=FLOAT),
            _mean("pixels", "level", [1, 2]),
            helper.make_node("Constant", [], ["full"], value=helper.make_tensor("full", FLOAT, [], [255.0])),
            helper.make_node("Div", ["level", "full"], ["features"]),
        ]
        graph(path, nodes, {"crop": (UINT8, [b, SIZE_PX, SIZE_PX, 3])}, {"features": [b, 3]})
    elif name == "tone":  # largest sample, for each label
        nodes = [
            helper.make_node("ReduceMax", ["waveform"], ["most"], axes=[1], keepdims=1),
            helper.make_node("Concat", ["most", "most", "most"], ["features"], axis=1),
        ]
        graph(path, nodes, {"waveform": (FLOAT, [b, CHUNK])}, {"features": [b, 3]})
    elif name == "motion":  # mean flow to the right and down, over frames and pixels
        nodes = [_mean("flow", "features", [1, 2, 3])]
        graph(path, nodes, {"flow": (FLOAT, [b, N_FRAMES, SIZE_PX, SIZE_PX, 2])}, {"features": [b, 2]})
    elif name == "posture":  # mean landmark
        graph(path, [_mean("pose", "features", [1, 2])], {"pose": (FLOAT, [b, N_FRAMES, 33, 3])}, {"features": [b, 3]})
    elif name == "head":  # colour, less the voice, and the first label more where the picture moves to the right
        nodes = [
            _mean("colour", "seen", [1]),
            _mean("tone", "heard", [1]),
            helper.make_node("Sub", ["seen", "heard"], ["apart"]),
            helper.make_node("Pad", ["motion", "room"], ["moved"]),
            helper.make_node("Constant", [], ["room"], value=helper.make_tensor("room", 7, [4], [0, 0, 0, 1])),
            helper.make_node("Add", ["apart", "moved"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["posterior"], axis=-1),
        ]
        nodes.insert(0, nodes.pop(4))
        steps: tuple[int, list[int | str]] = (FLOAT, [b, N_FRAMES, 3])
        graph(path, nodes, {"colour": steps, "tone": steps, "motion": (FLOAT, [b, 2])}, {"posterior": [b, 3]})
    elif name == "face_head":
        nodes = [
            _mean("colour", "seen", [1]),
            helper.make_node("Add", ["seen", "posture"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["posterior"], axis=-1),
        ]
        inputs: dict[str, Any] = {"colour": (FLOAT, [b, N_FRAMES, 3]), "posture": (FLOAT, [b, 3])}
        graph(path, nodes, inputs, {"posterior": [b, 3]})
    else:  # voice_head: largest, smallest and mean sample
        nodes = [
            helper.make_node("ReduceMax", ["wave"], ["most"], axes=[1], keepdims=1),
            helper.make_node("ReduceMin", ["wave"], ["least"], axes=[1], keepdims=1),
            helper.make_node("ReduceMean", ["wave"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Concat", ["most", "least", "mean"], ["logits"], axis=1),
            helper.make_node("Softmax", ["logits"], ["posterior"], axis=-1),
        ]
        graph(path, nodes, {"wave": (FLOAT, [b, N_SAMPLES])}, {"posterior": [b, 3]})


def write_clip_bundle(folder: Path, *, name: str = "clip", **changes: Any) -> Path:
    """Write the bundle; `changes` replace top-level keys of `bundle.json`, None takes one away."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = {}
    for stage, (per, takes) in TAKES.items():
        path = folder / f"{stage}.onnx"
        _write(stage, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stages[stage] = {"file": path.name, "sha256": digest, "per": per, "takes": takes}
    manifest = {
        **MANIFEST,
        "name": name,
        "face": FACE,
        "audio": {**MANIFEST["audio"], "n_samples": N_SAMPLES},
        "scheme": {"segment_s": HOP_S, "audio_s": 0.5, "jitter_s": 0.0, "n_segments": 1, "alignments": ["causal"]},
        "clip": {"frame_hz": FRAME_HZ, "n_frames": N_FRAMES, "span_s": SPAN_S, "chunk_s": CHUNK / 16_000},
        "pose": True,
        "flow": "farneback",
        "stages": stages,
        "posteriors": {"both": "head.posterior", "face": "face_head.posterior", "voice": "voice_head.posterior"},
        "temperature": {"face": 1.0, "voice": 1.0, "both": 1.0},
        **changes,
    }
    (folder / "bundle.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    return folder


def small_clip_bundle(folder: Path, **changes: Any) -> Bundle:
    """Write and load it."""
    return load(write_clip_bundle(folder, **changes))


def head(colours: np.ndarray, tones: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`head` by hand: (N, 3) mean colours, (N,) chunk maxima, (N, S, S, 2) flow, to the posterior."""
    x, y = flow.mean((0, 1, 2))
    return softmax(colours.mean(0) - tones.mean() + np.array([x, y, 0.0]))
