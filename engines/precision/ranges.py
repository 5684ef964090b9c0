"""Which tensors of a graph a half holds, measured on real inputs in float32."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.precision.graph import library
from engines.precision.run import outputs

# float16 holds magnitudes up to 65504. Other inputs than those measured go higher: measured ones may use an eighth.
# Below 2 ** -14 it loses a bit for each halving: at 2 ** -17 the largest value of a tensor has the 8 of bfloat16 left.
LEAST, MOST = 2.0**-17, 65504 / 8


def outside_float16(model: Any, types: Mapping[str, int], feeds: Sequence[Mapping[str, np.ndarray]]) -> set[str]:
    """Names of float32 tensors and weights whose largest magnitude is not held by float16 with room; 0 is.

    Args:
        model: In float32, with its float constants among the initialisers.
        types: Of its tensors.
        feeds: Real inputs.

    Raises:
        EngineError: If ONNX Runtime cannot run the graph.
    """
    onnx = library()
    largest = {
        weight.name: float(np.abs(onnx.numpy_helper.to_array(weight)).max(initial=0))
        for weight in model.graph.initializer
        if weight.data_type == onnx.TensorProto.FLOAT
    }
    for feed in feeds:
        for name, value in _largest(model, types, feed).items():
            largest[name] = max(largest.get(name, 0.0), value)
    return {name for name, value in largest.items() if value and not LEAST <= value <= MOST}


def _largest(model: Any, types: Mapping[str, int], feed: Mapping[str, np.ndarray]) -> dict[str, float]:
    # Extremes are taken within the graph: to return every tensor of a clip recogniser would take gigabytes.
    onnx = library()
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [value.name for value in model.graph.input] + [n for node in model.graph.node for n in node.output if n]
    names = [name for name in names if types[name] == onnx.TensorProto.FLOAT]
    del probe.graph.output[:]
    for k, name in enumerate(names):
        for op in ("ReduceMax", "ReduceMin"):
            probe.graph.node.append(onnx.helper.make_node(op, [name], [f"{op}/{k}"], keepdims=0))
            probe.graph.output.append(onnx.helper.make_tensor_value_info(f"{op}/{k}", onnx.TensorProto.FLOAT, []))
    got = outputs(probe.SerializeToString(), feed)
    return {
        name: float(np.maximum(np.abs(got[f"ReduceMax/{k}"]), np.abs(got[f"ReduceMin/{k}"])))
        for k, name in enumerate(names)
    }
