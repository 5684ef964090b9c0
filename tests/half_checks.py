"""What must hold of every graph that was converted to half precision, looked up in the graph itself."""

from collections import Counter
from typing import Any

import onnx
from onnx import TensorProto

from engines.operators import unsupported
from engines.precision.graph import types_of

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FLOAT32_ONLY = {
    "BatchNormalization", "Cos", "Div", "Exp", "InstanceNormalization", "LayerNormalization", "Log", "Pow", "ReduceL2",
    "ReduceMean", "ReduceSum", "Sigmoid", "Sin", "Softmax", "Sqrt",
}  # fmt: skip


def faults(graph: bytes, original: bytes) -> list[str]:
    """One line for each thing that is wrong with a converted graph; none where all holds."""
    model, before = onnx.load_from_string(graph), onnx.load_from_string(original)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        return [f"not valid: {error}"]
    found = unsupported(model)
    if ports(model) != ports(before):
        found.append(f"inputs and outputs are {ports(model)}, were {ports(before)}")
    types = types_of(model)
    for node in model.graph.node:
        if node.op_type in FLOAT32_ONLY and any(types.get(name) in HALVES for name in (*node.input, *node.output)):
            found.append(f"{node.op_type} {node.output[0]} computes in half")
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    made = {name for node in casts for name in node.output if types[node.input[0]] in (*HALVES, TensorProto.FLOAT)}
    found += [f"{node.input[0]} is cast from a cast" for node in casts if node.input[0] in made]
    pairs = Counter((node.input[0], node.attribute[0].i) for node in casts)
    found += [f"{name} is cast twice" for (name, _), n in pairs.items() if n > 1]
    used = Counter(name for node in model.graph.node for name in node.input)
    found += [f"weight {weight.name} is not used" for weight in model.graph.initializer if weight.name not in used]
    return found


def ports(model: Any) -> list[tuple[str, int, tuple[int | str, ...]]]:
    """Name, element type and shape of each input and output."""
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
        )
        for value in (*model.graph.input, *model.graph.output)
    ]


def computes_in(graph: bytes) -> dict[str, int]:
    """Element type of each tensor that a node gives."""
    model = onnx.load_from_string(graph)
    types = types_of(model)
    return {name: types[name] for node in model.graph.node for name in node.output}
