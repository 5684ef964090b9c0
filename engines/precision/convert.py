"""The same graph in half precision, as strongly typed TensorRT takes it: the type of a tensor says what computes it.

Inputs and outputs keep their types. A tensor is cast once, where it crosses between float32 and half, and the cast is
shared. Weights of nodes that compute in half are stored in half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from engines.engine import EngineError
from engines.precision.graph import (
    cast_first,
    first_line,
    gather_constants,
    library,
    loaded,
    replace_nodes,
    types_of,
)
from engines.precision.ranges import outside_float16
from engines.precision.rules import ALWAYS_FLOAT, ANY_TYPE, Plan, floats_in, plan

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BF16_OPSET, BF16_IR = 22, 10  # the first whose convolutions and pools are typed for bfloat16


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A graph in a precision.

    Attributes:
        model: Its bytes.
        precision: `fp32`, `fp16` or `bf16`.
        n_half: Nodes that compute in half.
        kept: By reason (`engines.precision.rules.Plan`; `asked` in `fp32`), the first outputs of the nodes that compute
            in float32.
    """

    model: bytes
    precision: Precision
    n_half: int
    kept: Mapping[str, tuple[str, ...]]

    @property
    def n_kept(self) -> int:
        """Nodes that compute in float32."""
        return sum(map(len, self.kept.values()))


def convert(graph: Any, precision: Precision, feeds: Sequence[Mapping[str, np.ndarray]]) -> Converted:
    """Express a precision in a float32 graph.

    Args:
        graph: Bytes of it, or an `onnx.ModelProto`, which is not changed.
        precision: `fp32` changes nothing but this, as the others do: uint8 is cast before it is transposed, which
            TensorRT does not do to it.
        feeds: Real inputs; with `fp16`, what leaves its range on them stays in float32.

    Returns:
        The graph, with the same inputs and outputs.

    Raises:
        EngineError: If `onnx` is not installed, the graph is quantised or cannot be typed or run, its opset cannot be
            raised to what bfloat16 needs, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")
    model = loaded(graph)
    changed = cast_first(model)
    if precision == "fp32":
        types = types_of(model)
        names = tuple(node.output[0] for node in model.graph.node if floats_in(node, types))
        same = isinstance(graph, bytes) and not changed
        return Converted(
            model=graph if same else model.SerializeToString(), precision=precision, n_half=0, kept={"asked": names}
        )
    if any(node.op_type in ("DequantizeLinear", "QuantizeLinear") for node in model.graph.node):
        raise EngineError(f"expected a float32 graph to convert to {precision}, got a quantised one; take its original")
    if precision == "bf16":
        model = _raised(model)
    gather_constants(model)
    types = types_of(model)
    decided = plan(model, types, outside_float16(model, types, feeds) if precision == "fp16" else ())
    kept = {reason: tuple(model.graph.node[k].output[0] for k in indices) for reason, indices in decided.kept.items()}
    _rewrite(model, types, decided, precision)
    return Converted(model=model.SerializeToString(), precision=precision, n_half=len(decided.half), kept=kept)


def _raised(model: Any) -> Any:
    onnx = library()
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", 0) >= BF16_OPSET:
        return model
    try:
        raised = onnx.version_converter.convert_version(model, BF16_OPSET)
    except Exception as error:  # onnx's own, which share no public base
        raise EngineError(
            f"expected a graph whose opset {opsets.get('')} can be raised to {BF16_OPSET}, which bfloat16 needs, "
            f"onnx says: {first_line(error)}; export it with opset {BF16_OPSET} or take fp16"
        ) from error
    raised.ir_version = max(raised.ir_version, BF16_IR)
    return raised


class _Types:
    """Each float tensor in the types that are asked for; makes a cast or a second weight where one is missing."""

    def __init__(self, model: Any, types: Mapping[str, int], precision: Precision) -> None:
        onnx = library()
        self.float32 = onnx.TensorProto.FLOAT
        self.half = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
        self.nodes: list[Any] = []
        self.weights: list[Any] = []  # in half
        self._suffix = {self.float32: "fp32", self.half: precision}
        self._constants = {w.name: w for w in model.graph.initializer}
        self._taken = set(types)
        self._made: dict[tuple[str, int], str] = {}

    def named(self, name: str, kind: int) -> str:
        """Name of the tensor in a type."""
        if (name, kind) not in self._made:
            if kind == self.float32 and (name in self._constants or (name, self.half) not in self._made):
                self._made[name, kind] = name  # as it came
            elif name in self._constants:
                self._made[name, kind] = self._weight(name)
            else:
                source = self.named(name, self.float32 if kind == self.half else self.half)
                self._made[name, kind] = self._free(name, kind)
                self.cast(source, self._made[name, kind], kind)
        return self._made[name, kind]

    def cast(self, source: str, result: str, kind: int) -> None:
        """Append a cast."""
        self.nodes.append(library().helper.make_node("Cast", [source], [result], name=result, to=kind))

    def comes_in_half(self, name: str, *, is_output: bool) -> str:
        """Note that a node gives the tensor in half; returns the name that the node is to give."""
        self._made[name, self.half] = self._free(name, self.half) if is_output else name
        if is_output:
            self._made[name, self.float32] = name
        return self._made[name, self.half]

    def _weight(self, name: str) -> str:
        onnx = library()
        kind = onnx.helper.tensor_dtype_to_np_dtype(self.half)
        values = onnx.numpy_helper.to_array(self._constants[name]).astype(kind)
        free = self._free(name, self.half)
        self.weights.append(onnx.numpy_helper.from_array(values, free))
        return free

    def _free(self, name: str, kind: int) -> str:
        free = f"{name}_{self._suffix[kind]}"
        while free in self._taken:
            free += "_"
        self._taken.add(free)
        return free


def _rewrite(model: Any, types: Mapping[str, int], decided: Plan, precision: Precision) -> None:
    made = _Types(model, types, precision)
    outputs = {output.name for output in model.graph.output}
    for k, node in enumerate(model.graph.node):
        kind = made.half if k in decided.half else made.float32
        for place, name in enumerate(node.input):
            if name and types[name] == made.float32 and node.op_type not in ANY_TYPE:
                always = (node.op_type, place) in ALWAYS_FLOAT
                node.input[place] = made.named(name, made.float32 if always else kind)
        made.nodes.append(node)
        if kind != made.half:
            continue
        for place, name in enumerate(node.output):
            if name and types[name] == made.float32:
                node.output[place] = made.comes_in_half(name, is_output=name in outputs)
                if name in outputs:
                    made.cast(node.output[place], name, made.float32)
    replace_nodes(model, made.nodes)
    used = {name for node in made.nodes for name in node.input} | outputs
    weights = [type(w).FromString(w.SerializeToString()) for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*weights, *made.weights])
