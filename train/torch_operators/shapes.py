"""Operators that move values and compute none."""

import torch
from torch import Tensor

from train.torch_operators.node import Build, Function, Node


def _reshape(node: Node) -> Function:
    keeps_zero = bool(node.attributes.get("allowzero", 0))
    fixed = node.integers(1)
    if fixed is not None and (keeps_zero or 0 not in fixed):
        return lambda x, _: x.reshape(fixed)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = [int(size) for size in shape.tolist()]
        return x.reshape([x.shape[k] if size == 0 and not keeps_zero else size for k, size in enumerate(sizes)])

    return run


def _transpose(node: Node) -> Function:
    order = node.attributes.get("perm")
    return (lambda x: x.permute(order)) if order else (lambda x: x.permute(*range(x.ndim - 1, -1, -1)))


def _squeeze(node: Node) -> Function:
    if node.n_inputs == 1 and "axes" not in node.attributes:
        return lambda x: x.squeeze()
    axes = tuple(node.required(1, "axes"))
    return lambda x, *_: x.squeeze(axes)


def _unsqueeze(node: Node) -> Function:
    axes = node.required(1, "axes")
    if len(axes) == 1:
        (axis,) = axes
        return lambda x, *_: x.unsqueeze(axis)

    def run(x: Tensor, *_: Tensor) -> Tensor:
        for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _flatten(node: Node) -> Function:
    axis = node.attributes.get("axis", 1)
    return lambda x: x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


def _concat(node: Node) -> Function:
    axis = node.attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


def _slice(node: Node) -> Function:
    starts, ends = node.required(1), node.required(2)
    axes = node.required(3) if node.n_inputs > 3 else list(range(len(starts)))
    steps = node.required(4) if node.n_inputs > 4 else [1] * len(starts)
    parts = [(axis, slice(*part)) for axis, *part in zip(axes, starts, ends, steps, strict=True)]
    if min(axes) >= 0 and min(steps) > 0:
        index = [slice(None)] * (max(axes) + 1)
        for axis, part in parts:
            index[axis] = part
        fixed = tuple(index)
        return lambda x, *_: x[fixed]

    def run(x: Tensor, *_: Tensor) -> Tensor:  # torch knows no negative step
        for axis, part in parts:
            x = x.index_select(axis, torch.tensor(range(*part.indices(x.shape[axis])), dtype=torch.int64))
        return x

    return run


def _split(node: Node) -> Function:
    axis, n = node.attributes.get("axis", 0), node.n_outputs
    sizes = node.required(1, "split") if node.n_inputs > 1 or "split" in node.attributes else None
    if sizes is not None:
        return lambda x, *_: x.split(sizes, axis)
    return lambda x: x.split(-(-x.shape[axis] // n), axis)  # the last part may be the smallest


def _expand(node: Node) -> Function:
    fixed = node.integers(1)
    return lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, fixed or shape.tolist()))


def _gather(node: Node) -> Function:
    axis, known = node.attributes.get("axis", 0), node.constant(1)
    if known is not None and known.ndim == 0:
        place = int(known)
        return lambda x, _: x.select(axis, place)

    def run(x: Tensor, places: Tensor) -> Tensor:
        there = axis % x.ndim
        flat = torch.where(places < 0, places + x.shape[there], places).reshape(-1)
        return x.index_select(there, flat).reshape(*x.shape[:there], *places.shape, *x.shape[there + 1 :])

    return run


def _shape(node: Node) -> Function:
    part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return lambda x: torch.tensor(x.shape[part], dtype=torch.int64)


SHAPES: dict[str, Build] = {
    "Concat": _concat, "Expand": _expand, "Flatten": _flatten, "Gather": _gather, "Identity": lambda _: lambda x: x,
    "Reshape": _reshape, "Shape": _shape, "Slice": _slice, "Split": _split, "Squeeze": _squeeze,
    "Transpose": _transpose, "Unsqueeze": _unsqueeze,
}  # fmt: skip
