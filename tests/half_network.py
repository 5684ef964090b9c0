"""A network of a few matrices that has all that conversion to half precision tells apart, built with onnx alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

N = 128  # inputs, outputs and hidden values
FLOAT = TensorProto.FLOAT
node = helper.make_node


def graph(
    nodes: Sequence[Any],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, Sequence[int | str] | None],
    *,
    opset: int = 20,
) -> bytes:
    """A graph of these nodes; inputs by name are (element type, shape), outputs are float32 by shape."""
    made = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return bytes(model.SerializeToString())


def matrix(seed: int, rows: int = N, columns: int = N) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).normal(0, rows**-0.5, (rows, columns)), np.float32)


def wave(n: int = 2, scale: float = 1.0) -> dict[str, np.ndarray]:
    return {"wave": (scale * np.random.default_rng(9).normal(size=(n, N))).astype(np.float32)}


def network(*, gain: float = 1.0, least: float = 1e-12) -> bytes:
    """A log spectrum, a residual block, a layer normalisation, an L2 norm, and a classifier.

    Args:
        gain: Of the first learned layer: with a large one, what it gives leaves the range of float16.
        least: Lower bound of the norm.
    """
    nodes = [
        node("MatMul", ["wave", "branch.frontend.basis"], ["spectrum"]),
        node("Mul", ["spectrum", "spectrum"], ["power"]),
        node("Add", ["power", "floor"], ["floored"]),
        node("Log", ["floored"], ["levels"]),
        node("MatMul", ["levels", "first.weight"], ["hidden"]),
        node("Relu", ["hidden"], ["active"]),
        node("MatMul", ["active", "second.weight"], ["mixed"]),
        node("Add", ["mixed", "hidden"], ["features"]),  # an output that goes on
        node("LayerNormalization", ["features", "norm.weight"], ["normed"], axis=-1),
        node("Reshape", ["normed", "shape"], ["heads"]),
        node("Softmax", ["heads"], ["shares"], axis=-1),  # a reshape between two kept nodes
        node("Reshape", ["shares", "flat"], ["joined"]),
        node("MatMul", ["joined", "second.weight"], ["third"]),  # the same weights again
        node("ReduceL2", ["third", "last"], ["norm"], keepdims=1),
        node("Clip", ["norm", "least"], ["bounded"]),
        node("Div", ["third", "bounded"], ["direction"]),
        node("Gemm", ["direction", "classes.weight"], ["logits"]),
        node("Softmax", ["logits"], ["posterior"], axis=-1),
    ]
    weights = {
        "branch.frontend.basis": matrix(0),
        "floor": np.array(1e-10, np.float32),
        "first.weight": gain * matrix(1),
        "second.weight": matrix(2),
        "norm.weight": np.ones(N, np.float32),
        "shape": np.array([-1, 8, N // 8]),
        "flat": np.array([-1, N]),
        "last": np.array([-1]),
        "least": np.array(least, np.float32),
        "classes.weight": matrix(3, N, 4),
    }
    return graph(nodes, weights, {"wave": (FLOAT, ["batch", N])}, {"features": ["batch", N], "posterior": ["batch", 4]})


def edited(graph: bytes, op: str, *, inputs: Sequence[str] | None = None, kind: str | None = None) -> bytes:
    """The graph with the first node of an operator changed."""
    model = onnx.load_from_string(graph)
    (first, *_) = [each for each in model.graph.node if each.op_type == op]
    first.op_type = kind or op
    if inputs is not None:
        del first.input[:]
        first.input.extend(inputs)
    return bytes(model.SerializeToString())
