"""Graphs as the package `onnx` holds them: loaded, their tensors typed, their constants in one place.

`onnx` is imported when a graph is loaded; it comes with the extras `tensorrt`, `train` and `dev`, not with the runtime.
"""

from typing import Any

import numpy as np

from engines.engine import EngineError

MOVES = {  # pick, order or repeat values and compute none: exact in any precision
    "Abs", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu",
    "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
RESHAPES = {"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}  # of one tensor


def library() -> Any:
    """The package `onnx` with the parts used here. Raises EngineError where it is not installed."""
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
        import onnx.shape_inference
        import onnx.version_converter
    except ImportError as error:
        raise EngineError(
            "expected the package onnx, which rewrites graphs for TensorRT, and it is not installed; "
            "pip install 'emocast[tensorrt]'"
        ) from error
    return onnx


def loaded(graph: Any) -> Any:
    """A `ModelProto` of its own, from bytes or another.

    Raises:
        EngineError: If the bytes are no graph, or it holds local functions, or nodes with graphs of their own (`If`).
    """
    onnx = library()
    if isinstance(graph, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(graph)
    else:
        try:
            model = onnx.load_model_from_string(graph)
        except Exception as error:  # protobuf's own
            raise EngineError(f"expected the bytes of an ONNX graph, onnx says: {first_line(error)}") from error
    if not model.graph.output:
        raise EngineError("expected the bytes of an ONNX graph, got nothing with an output; export it again")
    inner = [node.op_type for node in model.graph.node if any(a.HasField("g") or a.graphs for a in node.attribute)]
    if inner or model.functions:
        what = ", ".join(sorted(set(inner))) or "local functions"
        raise EngineError(f"expected a graph without If, Loop, Scan and local functions, got {what}; export it flat")
    return model


def types_of(model: Any, *, strict: bool = True) -> dict[str, int]:
    """Element type of each tensor by name, as `TensorProto` numbers them.

    Args:
        model: The graph.
        strict: Whether all must be found; else what is not known is 0 or missing.

    Raises:
        EngineError: If strict, and a tensor's type cannot be inferred.
    """
    onnx = library()
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict).graph
    except Exception as error:  # onnx's own, which share no public base
        raise EngineError(f"expected a graph whose tensors can be typed, onnx says: {first_line(error)}") from error
    types = {constant.name: constant.data_type for constant in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type
    untyped = [name for node in model.graph.node for name in node.output if name and not types.get(name)]
    if strict and untyped:
        raise EngineError(f"expected a graph whose tensors can be typed, {untyped[0]} cannot; export it again")
    return types


def gather_constants(model: Any) -> None:
    """Turn the `Constant` nodes of floats into initialisers, so that all weights are found in one place."""
    onnx = library()
    kept = []
    for node in model.graph.node:
        value = _constant(node)
        if value is None or value.dtype != np.float32:
            kept.append(node)
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
    replace_nodes(model, kept)


def _constant(node: Any) -> np.ndarray | None:
    onnx = library()
    if node.op_type != "Constant" or node.attribute[0].name not in ("value", "value_float", "value_floats"):
        return None
    value = onnx.helper.get_attribute_value(node.attribute[0])
    return np.asarray(onnx.numpy_helper.to_array(value) if node.attribute[0].name == "value" else np.float32(value))


def cast_first(model: Any) -> bool:
    """Cast uint8 before it is transposed and the like, which TensorRT does to no uint8. True if anything changed."""
    uint8 = library().TensorProto.UINT8
    stored = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == uint8}
    nodes = list(model.graph.node)
    for place, move in enumerate(nodes):
        if move.op_type not in RESHAPES or move.input[0] not in stored:
            continue
        readers = [k for k, node in enumerate(nodes) if move.output[0] in node.input]
        if len(readers) != 1 or nodes[readers[0]].op_type != "Cast":
            stored.update(move.output)  # of several in a row the last changes places with the cast first
            continue
        cast = nodes[readers[0]]
        first, between, last = move.input[0], move.output[0], cast.output[0]
        cast.input[0], cast.output[0], move.input[0], move.output[0] = first, between, between, last
        nodes.insert(place, nodes.pop(readers[0]))
        replace_nodes(model, nodes)
        cast_first(model)
        return True
    return False


def replace_nodes(model: Any, nodes: list[Any]) -> None:
    """Give a graph these nodes, in this order; what was noted of tensors between them is dropped."""
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]


def first_line(error: Exception) -> str:
    """Of what an exception says, or its name."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
