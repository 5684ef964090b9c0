"""What TensorRT would not take is named, node by node, before anything is built."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from engines.bundle import load, shipped
from engines.operators import OPERATORS, unsupported
from tests.half_network import FLOAT, graph, network, node

ONE = {"x": (FLOAT, ["batch", 2, 8, 8])}
WEIGHTS = {
    "axes": np.array([1]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "k": np.array([2]),
    "eight": np.ones(8, np.float32),
}
POOL: dict[str, Any] = {"kernel_shape": [2, 2], "dilations": [1, 1]}
RESIZE: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


def lines(*nodes: Any, opset: int = 20, inputs: Any = ONE, weights: Any = None) -> list[str]:
    used = {name for each in nodes for name in each.input}
    given = {name: value for name, value in {**WEIGHTS, **(weights or {})}.items() if name in used}
    return unsupported(graph(nodes, given, inputs, {"y": None}, opset=opset))


def test_graphs_of_ours_are_taken() -> None:
    assert unsupported(network()) == []
    for name in (name for name in shipped() if not name.endswith("-int8")):
        bundle = load(name)
        for stage in bundle.manifest.stages:
            assert unsupported(bundle.stage(stage).read_bytes()) == []


def test_the_list_holds_for_all_versions_that_are_accepted() -> None:
    assert {"Conv", "Gelu", "LayerNormalization", "Einsum", "HardSwish"} <= OPERATORS
    assert not {"Attention", "RMSNormalization", "RotaryEmbedding", "NonZero", "DFT", "Unique"} & OPERATORS


@pytest.mark.parametrize(
    ("operator", "line"),
    [
        (node("MaxPool", ["x"], ["y"], **POOL), ""),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 1]), "dilations [2, 1], pools take 1 alone"),
        (node("MaxPool", ["x"], ["y", "at"], **POOL), "it may have one output"),
        (node("Resize", ["x", "", "scales"], ["y"], **RESIZE), ""),
        (node("Resize", ["x", "", "scales"], ["y"], mode="cubic"), "mode cubic, taken are nearest, linear"),
        (
            node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1),
            "antialias 1, taken are 0",
        ),
        (
            node("Resize", ["x", "", "scales"], ["y"], coordinate_transformation_mode="half_pixel_symmetric"),
            "coordinate_transformation_mode half_pixel_symmetric, taken are half_pixel, pytorch_half_pixel, "
            "tf_half_pixel_for_nn, asymmetric, align_corners",
        ),
        (node("LayerNormalization", ["x", "eight"], ["y", "mean"]), "it may have one output"),
        (node("TopK", ["x", "k"], ["y", "at"], sorted=0), "sorted must be 1"),
        (node("Unique", ["x"], ["y"]), "the operator is not taken"),
        (node("NonZero", ["x"], ["y"]), "the operator is not taken"),
    ],
)
def test_an_operator_or_its_attributes(operator: Any, line: str) -> None:
    found = lines(operator)
    assert found == ([f"{operator.op_type} that gives y: {line}"] if line else [])


def test_axes_are_constants() -> None:
    inputs = {**ONE, "given": (TensorProto.INT64, [1])}
    assert lines(node("ReduceSum", ["x", "axes"], ["y"])) == []
    assert lines(node("ReduceSum", ["x", "given"], ["y"]), inputs=inputs) == [
        "ReduceSum that gives y: its input given must be a constant"
    ]
    assert lines(node("Unsqueeze", ["x", "given"], ["y"]), inputs=inputs) == [
        "Unsqueeze that gives y: its input given must be a constant"
    ]
    axes = node("Constant", [], ["inner"], value_ints=[1])
    assert lines(axes, node("ReduceSum", ["x", "inner"], ["y"])) == []


def test_uint8_is_cast_at_once_and_doubles_are_not_taken() -> None:
    crop = {"x": (TensorProto.UINT8, ["batch", 4])}
    cast = node("Cast", ["x"], ["y"], to=FLOAT)
    assert lines(cast, inputs=crop) == []
    moved = [node("Transpose", ["x"], ["t"]), node("Cast", ["t"], ["y"], to=FLOAT)]
    assert lines(*moved, inputs=crop) == [
        "Transpose that gives t: it takes no uint8, which x is; cast it first",
    ]
    assert lines(cast, inputs={"x": (TensorProto.DOUBLE, ["batch", 4])}) == [
        "Cast that gives y: x is double, which is not taken"
    ]


def test_quantisation_is_by_int8() -> None:
    point: dict[str, Any] = {"scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8)}
    found = lines(
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]), node("Cast", ["q"], ["y"], to=FLOAT), weights=point
    )
    assert found == ["QuantizeLinear that gives q: it takes int8 about 0, zero is uint8"]
    point["zero"] = np.array(0, np.int8)
    assert lines(node("QuantizeLinear", ["x", "scale", "zero"], ["y"]), weights=point) == []


def test_an_opset_beyond_the_parsers() -> None:
    assert lines(node("Relu", ["x"], ["y"]), opset=25) == ["opset 25, TensorRT takes 9 to 24"]


def test_every_node_has_its_line() -> None:
    found = lines(node("Det", ["x"], ["a"]), node("Relu", ["a"], ["b"]), node("Unique", ["b"], ["y"]))
    assert found == ["Det that gives a: the operator is not taken", "Unique that gives y: the operator is not taken"]
