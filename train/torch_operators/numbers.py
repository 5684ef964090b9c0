"""Operators on each value, reductions over axes, and steps between numbers and 8-bit integers."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.torch_operators.node import Build, Function, Node

DTYPES = {  # by the number in ONNX's TensorProto.DataType
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16,
    11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


def _cast(node: Node) -> Function:
    to = node.attributes["to"]
    if to not in DTYPES:
        raise node.refused(f"a type of {', '.join(map(str, DTYPES.values()))}", f"ONNX's number {to}")
    dtype = DTYPES[to]
    return lambda x: x.to(dtype)


def _constant(node: Node) -> Function:
    known = node.constant(0)
    if known is None:
        raise node.refused("a tensor or a number", ", ".join(node.attributes))
    return lambda: known


def _pow(node: Node) -> Function:
    known = node.constant(1)
    if known is None or known.numel() > 1 or known.ndim > 0:
        return torch.pow
    power = known.item()
    return lambda x, _: x.pow(power)


def _clip(node: Node) -> Function:
    known = [node.constant(position) for position in (1, 2)]
    if node.n_inputs == 1:
        return lambda x: x
    if any(value is None and position < node.n_inputs for position, value in enumerate(known, 1)):
        return lambda x, low=None, high=None: x.clamp(low, high)
    low, high = (None if value is None else value.item() for value in known)
    return lambda x, *_: x.clamp(low, high)


def _reduced(over: Callable[[Tensor, Any, bool], Tensor]) -> Build:
    def build(node: Node) -> Function:
        keep = bool(node.attributes.get("keepdims", 1))
        axes = node.required(1, "axes") if node.n_inputs > 1 or "axes" in node.attributes else []
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            return lambda x, *_: x
        fixed = tuple(axes)
        if not fixed:
            return lambda x, *_: over(x, tuple(range(x.ndim)), keep)
        return lambda x, *_: over(x, fixed, keep)

    return build


def _softmax(node: Node) -> Function:
    axis = node.attributes.get("axis", -1)
    return lambda x: torch.softmax(x, axis)


def _gelu(node: Node) -> Function:
    approximate = node.attributes.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


def _prelu(node: Node) -> Function:
    slope = node.constant(1)
    # ONNX broadcasts the slope from the right; torch takes one number for each channel, the second axis
    if slope is not None and slope.ndim >= 2 and slope.numel() == slope.shape[0]:
        channels, ndim = slope.reshape(-1), slope.ndim + 1
        return lambda x, slope: F.prelu(x, channels) if x.ndim == ndim else torch.where(x < 0, x * slope, x)
    return lambda x, slope: torch.where(x < 0, x * slope, x)


def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
    return values if values.ndim == 0 else values.reshape([-1 if k == axis % ndim else 1 for k in range(ndim)])


def _quantize(node: Node) -> Function:
    axis = node.attributes.get("axis", 1)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = torch.uint8 if zero is None else zero.dtype
        limits = torch.iinfo(dtype)
        steps = (x / _along(scale, axis, x.ndim)).round()
        if zero is not None:
            steps = steps + _along(zero, axis, x.ndim)
        return steps.clamp(limits.min, limits.max).to(dtype)

    return run


def _dequantize(node: Node) -> Function:
    axis = node.attributes.get("axis", 1)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        steps = x.to(scale.dtype)
        if zero is not None:
            steps = steps - _along(zero, axis, x.ndim)
        return steps * _along(scale, axis, x.ndim)

    return run


def _divided(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


PLAIN: dict[str, Function] = {
    "Abs": torch.abs, "Add": torch.add, "Cos": torch.cos, "Div": _divided, "Exp": torch.exp, "HardSwish": F.hardswish,
    "LessOrEqual": torch.le, "Log": torch.log, "MatMul": torch.matmul, "Mul": torch.mul, "Neg": torch.neg,
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sqrt": torch.sqrt,
    "Sub": torch.sub, "Tanh": torch.tanh, "Where": torch.where,
    "Max": lambda *values: reduce(torch.maximum, values),
    "Min": lambda *values: reduce(torch.minimum, values),
}  # fmt: skip
NUMBERS: dict[str, Build] = {
    "Cast": _cast, "Clip": _clip, "Constant": _constant, "DequantizeLinear": _dequantize, "Gelu": _gelu, "Pow": _pow,
    "PRelu": _prelu, "QuantizeLinear": _quantize, "Softmax": _softmax,
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
}  # fmt: skip
