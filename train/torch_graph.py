"""The `torch` backend: a graph run node by node in torch's own operators, eagerly.

The reference that the other backends are held against and timed with: a bundle has no torch module any more, but its
graph is the same network with the same weights. Nothing at hand does this for our graphs: onnx2torch 1.5.15 and
onnx2pytorch 0.6.0 both load torchvision, which has no build beside our torch. With that replaced by a stand-in, on 17
graphs of opset 20, the first knows neither Cast, Reshape and Shape of version 19 nor ReduceMean and Split of 18 and
takes 3 small heads; the second runs 14 and fails on the Split into equal parts in three audio encoders.

It stands in fairly for the module that was exported: the default bundle's encoders took 0.91 to 0.99 of the module's
time in the same rounds, as batch normalisation is folded, its head 6 us more, which checks and conversions cost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from engines.engine import EngineError, TensorSpec, check_feeds
from train.torch_operators import function_of
from train.torch_operators.node import Function, Node

_DTYPES = {1: "float32", 2: "uint8", 7: "int64"}  # by the number in ONNX's TensorProto.DataType
OPSETS = range(13, 24)  # before 13 axes were attributes and softmax flattened


class _Step(NamedTuple):
    function: Function
    inputs: tuple[int, ...]  # slots of the values; slot 0 is an input left out
    outputs: tuple[int, ...]
    done: tuple[int, ...]  # slots that nobody reads afterwards
    name: str


class TorchGraph:
    """One graph in eager torch on the CPU, under inference mode; outputs are fresh arrays.

    What is constant is computed when it is loaded; values are let go after the last node that reads them, as a torch
    module's are. A graph in 8 bits is computed in float32 between its steps: right, but no measure of torch's speed.

    Args:
        path: The ONNX file.
        threads: Threads inside an operator. torch has one number for the whole process: `run` sets it where it differs
            and leaves it so.

    Raises:
        EngineError: If the file is no ONNX graph, has a tensor type without a name here, or an operator that is not
            known.
    """

    backend = "torch"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        model = _load(path)
        known = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(_spec(value, path) for value in model.graph.input if value.name not in known)
        self.outputs = tuple(_spec(value, path) for value in model.graph.output)
        self._threads = threads
        self._slots: dict[str, int] = {"": 0}
        self._values: list[Any] = [None]
        for spec in self.inputs:
            self._add(spec.name, None)
        for tensor in model.graph.initializer:
            self._add(tensor.name, _tensor(tensor))
        self._steps: list[_Step] | None = []
        with torch.inference_mode():
            for proto in model.graph.node:
                self._steps += self._step(proto, path)
        if lost := [spec.name for spec in self.outputs if spec.name not in self._slots]:
            raise EngineError(f"expected an ONNX graph at {path}, no node makes its output {lost[0]}")
        kept = [self._slots[spec.name] for spec in self.outputs]
        self._steps = _with_last_uses(self._steps, {*kept, *(k for k, v in enumerate(self._values) if v is not None)})
        self._inputs = [(spec.name, self._slots[spec.name]) for spec in self.inputs]
        self._outputs = [(spec.name, slot) for spec, slot in zip(self.outputs, kept, strict=True)]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._steps is None:
            raise EngineError("expected an open engine, this one was closed")
        check_feeds(self.inputs, feeds)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        values = self._values.copy()
        for name, slot in self._inputs:
            values[slot] = torch.from_numpy(np.require(feeds[name], requirements=("C", "W")))
        name = "nothing"
        try:
            with torch.inference_mode():
                for function, inputs, outputs, done, name in self._steps:  # noqa: B007
                    made = function(*[values[slot] for slot in inputs])
                    if len(outputs) == 1:
                        values[outputs[0]] = made
                    else:
                        for slot, one in zip(outputs, made, strict=True):
                            values[slot] = one
                    for slot in done:
                        values[slot] = None
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise EngineError(f"torch failed to run {name}: {_first_line(error)}") from error
        return {name: values[slot].numpy().copy() for name, slot in self._outputs}

    def close(self) -> None:
        self._steps, self._values = None, []

    def _add(self, name: str, value: torch.Tensor | None) -> int:
        self._slots[name] = len(self._values)
        self._values.append(value)
        return self._slots[name]

    def _step(self, proto: Any, path: Path) -> list[_Step]:
        """The step of a node, or none where all that it reads is known: its outputs are then known too."""
        if missing := [name for name in proto.input if name not in self._slots]:
            raise EngineError(f"expected an ONNX graph at {path}, {proto.op_type} reads {missing[0]}, which none makes")
        inputs = tuple(self._slots[name] for name in proto.input)
        node = _node(proto, [self._values[slot] for slot in inputs])
        function = function_of(node)
        known = all(slot == 0 or self._values[slot] is not None for slot in inputs)
        made = function(*[self._values[slot] for slot in inputs]) if known else None
        several = made if isinstance(made, tuple) else (made,) * node.n_outputs
        outputs = tuple(self._add(name, value) for name, value in zip(proto.output, several, strict=False) if name)
        name = f"{node.kind} ({node.name})"
        return [] if known else [_Step(function, inputs, outputs, (), name)]


def _with_last_uses(steps: Sequence[_Step], kept: set[int]) -> list[_Step]:
    found: list[_Step] = []
    seen = {0, *kept}
    for step in reversed(steps):
        slots = {*step.inputs, *step.outputs} - seen
        seen |= slots
        found.append(step._replace(done=tuple(slots)))
    return found[::-1]


def _load(path: Path) -> Any:
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own exceptions, and the file's
        raise EngineError(f"expected an ONNX graph at {path}, onnx says: {_first_line(error)}") from error
    if not model.graph.output:
        raise EngineError(f"expected an ONNX graph at {path}, it has no output")
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("") not in OPSETS:
        raise EngineError(
            f"expected an ONNX graph at {path} of opset {OPSETS[0]} to {OPSETS[-1]}, got {versions.get('')}"
        )
    return model


def _node(proto: Any, values: Sequence[torch.Tensor | None]) -> Node:
    from onnx import helper

    attributes = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    constants = tuple(values)
    if proto.op_type == "Constant":  # `value`, or a number or a list of them
        ((kind, value),) = attributes.items()
        constants = (_tensor(value) if kind == "value" else torch.tensor(value),)
    return Node(
        kind=f"{proto.domain}.{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type,
        name=proto.name or next(iter(proto.output), ""),
        attributes=attributes,
        constants=constants,
        n_inputs=len(proto.input),
        n_outputs=sum(map(bool, proto.output)),
    )


def _tensor(tensor: Any) -> torch.Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(tensor).copy())  # its own memory: the file's is let go


def _spec(value: Any, path: Path) -> TensorSpec:
    from onnx import TensorProto

    kind = value.type.tensor_type.elem_type
    if kind not in _DTYPES:
        name = TensorProto.DataType.Name(kind).lower()
        raise EngineError(
            f"expected tensors of {', '.join(_DTYPES.values())} in {path}, {value.name} is tensor({name})"
        )
    shape = tuple(axis.dim_param or int(axis.dim_value) for axis in value.type.tensor_type.shape.dim)
    return TensorSpec(name=value.name, dtype=_DTYPES[kind], shape=shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
