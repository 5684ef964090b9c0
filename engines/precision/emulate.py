"""What a half-precision graph computes, on a machine that has no half-precision arithmetic.

ONNX Runtime's CPU has none. It refuses most operators in bfloat16. It runs float16 graphs in float32 from end to end,
at every optimisation level: the casts that it adds around nodes cancel with each other and with the graph's own, so
that only weights stay rounded (1.32: a chain of sums and products in float16 came out as in float32, bit by bit). To
check such a graph by it shows nothing. Here every rounding is a pair of casts, which it leaves alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.parity import difference
from engines.precision.convert import Converted
from engines.precision.graph import MOVES, library, loaded, replace_nodes, types_of
from engines.precision.run import outputs


def emulated(graph: Any) -> bytes:
    """A float32 graph that rounds wherever a half-precision graph does.

    Each operator takes halves, computes in float32 and rounds what it gives, as a tensor core does that accumulates in
    float32. Operators that only move values round nothing.

    Args:
        graph: As `convert` made it: bytes or an `onnx.ModelProto`.
    """
    onnx = library()
    model = loaded(graph)
    types = types_of(model)
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes.append(node)
        rounds = [name for name in node.output if types.get(name) in halves and node.op_type not in MOVES]
        if node.op_type == "Cast" and types[node.input[0]] in halves:
            nodes[-1] = onnx.helper.make_node("Identity", node.input, node.output)
        for name in rounds:
            exact = f"{name}/exact"
            node.output[list(node.output).index(name)] = exact
            if node.op_type == "Cast":
                nodes.pop()
                exact = node.input[0]
            nodes.append(onnx.helper.make_node("Cast", [exact], [f"{name}/half"], to=types[name]))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
    replace_nodes(model, nodes)
    for weight in model.graph.initializer:
        if weight.data_type in halves:
            values = onnx.numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    return bytes(model.SerializeToString())


def check(original: bytes, converted: Converted, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The largest difference of each output from the float32 graph, by `engines.parity.difference`.

    Args:
        original: The float32 graph.
        converted: Made from it.
        feeds: Real inputs.

    Raises:
        EngineError: If either cannot be run.
    """
    rounded = emulated(converted.model)
    found: dict[str, float] = {}
    for feed in feeds:
        got = outputs(rounded, feed)
        for name, expected in outputs(original, feed).items():
            found[name] = max(found.get(name, 0.0), difference(got[name], expected))
    return found
