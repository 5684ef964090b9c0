"""Export: a trained temporal recogniser to the graphs of a bundle, checked against torch on the exact files."""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engines.onnx_runtime import OnnxEngine
from train.models.temporal import AudioVisualNetwork

OPSET = 20  # the newest that half precision and every TensorRT since 10.1 take
TOLERANCE = 1e-4  # of posteriors and features, ONNX Runtime against torch


class _FrameEncoder(nn.Module):
    def __init__(self, network: AudioVisualNetwork) -> None:
        super().__init__()
        self.branch, self.head = network.face, network.face_head

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        features = self.branch(crop)
        return features, self.head(features).softmax(-1)


class _AudioEncoder(nn.Module):
    def __init__(self, network: AudioVisualNetwork) -> None:
        super().__init__()
        self.branch, self.head = network.voice, network.voice_head

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        features = self.branch(waveform)
        return features, self.head(features).softmax(-1)


class _Head(nn.Module):
    def __init__(self, network: AudioVisualNetwork) -> None:
        super().__init__()
        self.head = network.both_head

    def forward(self, face: Tensor, voice: Tensor) -> Tensor:
        return self.head(torch.cat([face, voice], 1)).softmax(-1)


def export(network: AudioVisualNetwork, folder: Path, crops: np.ndarray, waveforms: np.ndarray) -> float:
    """Write `frame_encoder.onnx`, `audio_encoder.onnx` and `head.onnx`.

    Args:
        network: Trained, in evaluation mode.
        folder: Where to write.
        crops: (n, size_px, size_px, 3) uint8, real crops to check with; n is at least 2.
        waveforms: (n, n_samples) float32, real voice to check with.

    Returns:
        The largest difference between ONNX Runtime and torch on these.

    Raises:
        ValueError: If there are too few of these, the difference is above the tolerance, or an axis that should be
            free is not.
    """
    if min(len(crops), len(waveforms)) < 2 or len(crops) != len(waveforms):
        raise ValueError(f"expected as many crops as waveforms, 2 or more, got {len(crops)} and {len(waveforms)}")
    network = network.cpu().float().eval()
    pixels, waves = torch.from_numpy(crops), torch.from_numpy(waveforms)
    with torch.no_grad():
        face, voice = network.face(pixels), network.voice(waves)
    both = ["features", "posterior"]
    return max(
        export_graph(_FrameEncoder(network), folder / "frame_encoder.onnx", {"crop": pixels}, both),
        export_graph(_AudioEncoder(network), folder / "audio_encoder.onnx", {"waveform": waves}, both),
        export_graph(_Head(network), folder / "head.onnx", {"face": face, "voice": voice}, ["posterior"]),
    )


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what the exporter noted about its making: source lines, and paths of this machine."""
    model.graph.ClearField("doc_string")
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
    return model


def export_graph(module: nn.Module, path: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> float:
    """Write one graph, and check it on these inputs.

    Args:
        module: Takes the inputs in their order; gives one tensor, or a tuple of them.
        path: The file to write.
        inputs: Input names and example tensors, (n, ...) each; n is at least 2, since an example of one item would
            make the batch axis a constant. All axes but the batch's are fixed as they are here.
        outputs: Names of the outputs.

    Returns:
        The largest difference between ONNX Runtime and torch on these inputs; of outputs beyond 1, which only features
        have, in shares of the largest.

    Raises:
        ValueError: If there are too few items, the difference is above `TOLERANCE`, or an input or output has no free
            batch axis.
    """
    if min(len(tensor) for tensor in inputs.values()) < 2:
        raise ValueError(f"{path.name}: expected 2 items or more of each of {', '.join(inputs)} to check with")
    program = _trace(module.eval(), inputs, outputs)
    model = bare(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    engine = OnnxEngine(path)
    for spec in (*engine.inputs, *engine.outputs):
        if not isinstance(spec.shape[0], str):
            raise ValueError(f"{path.name}: expected a free batch axis, got {spec}")
    with torch.no_grad():
        expected = module(*inputs.values())
    got = engine.run({name: tensor.numpy() for name, tensor in inputs.items()})
    pairs = zip(outputs, expected if isinstance(expected, tuple) else (expected,), strict=True)
    difference = max(_difference(got[name], tensor.numpy()) for name, tensor in pairs)
    if difference > TOLERANCE:
        raise ValueError(
            f"{path.name}: ONNX Runtime departs from torch by {difference:.2e}, at most {TOLERANCE} is right"
        )
    return difference


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


def _trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    free: tuple[Any, ...] = tuple({0: "batch"} for _ in inputs)
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(module.forward).parameters.values()):
        free = (free,)  # `*given` is one argument to torch
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # torchvision is not here
    with warnings.catch_warnings():
        # torch 2.13 warns of a class that its own exporter uses, and that the head's two batches are one: they are.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*axis name: batch will not be used", category=UserWarning)
        return torch.onnx.export(
            module,
            tuple(tensor[:2] for tensor in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=free,
            verbose=False,
        )
