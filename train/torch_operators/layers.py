"""ONNX's layers as torch's own: convolutions, pools, normalisations, linear layers, padding and resizing."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.torch_operators.node import Build, Function, Node

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _pads(node: Node, n_axes: int) -> tuple[list[int], list[int]]:
    """Padding by axis that the layer itself does, and what F.pad must do before where the two ends differ."""
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refused("its pads written out", node.attributes["auto_pad"])
    pads = node.attributes.get("pads", [0] * 2 * n_axes)
    before, after = pads[:n_axes], pads[n_axes:]
    if before == after:
        return before, []
    return [0] * n_axes, [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]


def _conv(node: Node) -> Function:
    weight = node.constant(1)
    n_axes = weight.ndim - 2 if weight is not None else len(node.attributes.get("kernel_shape", ()))
    if n_axes not in _CONVOLUTIONS:
        raise node.refused("1, 2 or 3 axes", n_axes)
    convolve: Callable[..., Tensor] = _CONVOLUTIONS[n_axes]
    inside, outside = _pads(node, n_axes)
    stride = node.attributes.get("strides", [1] * n_axes)
    dilation = node.attributes.get("dilations", [1] * n_axes)
    groups = node.attributes.get("group", 1)
    if outside:
        return lambda x, w, b=None: convolve(F.pad(x, outside), w, b, stride, inside, dilation, groups)
    return lambda x, w, b=None: convolve(x, w, b, stride, inside, dilation, groups)


def _max_pool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    inside, outside = _pads(node, len(kernel))
    ceil = bool(node.attributes.get("ceil_mode", 0))
    if outside and ceil:  # torch would let a window begin in what was padded
        raise node.refused("ceil_mode or pads that differ at the two ends", "both")
    pool: Callable[..., Tensor] = _MAX_POOLS[len(kernel)]
    stride = node.attributes.get("strides", [1] * len(kernel))
    dilation = node.attributes.get("dilations", [1] * len(kernel))
    if outside:
        return lambda x: pool(F.pad(x, outside, value=-torch.inf), kernel, stride, inside, dilation, False)
    return lambda x: pool(x, kernel, stride, inside, dilation, ceil)


def _average_pool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    inside, outside = _pads(node, len(kernel))
    counts_pads, ceil = bool(node.attributes.get("count_include_pad", 0)), bool(node.attributes.get("ceil_mode", 0))
    if set(node.attributes.get("dilations", [1])) != {1}:
        raise node.refused("dilations of 1", node.attributes["dilations"])
    if outside and (ceil or not counts_pads):
        raise node.refused("pads alike at the two ends, or counted and without ceil_mode", node.attributes)
    pool = _AVERAGE_POOLS[len(kernel)]
    stride = node.attributes.get("strides", [1] * len(kernel))
    if outside:
        return lambda x: pool(F.pad(x, outside), kernel, stride, inside)
    return lambda x: pool(x, kernel, stride, inside, ceil, counts_pads)


def _global_average_pool(_: Node) -> Function:
    return lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _layer_norm(node: Node) -> Function:
    axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    return lambda x, scale, bias=None: F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _batch_norm(node: Node) -> Function:
    epsilon = node.attributes.get("epsilon", 1e-5)
    if node.attributes.get("training_mode", 0):
        raise node.refused("training_mode 0", 1)
    return lambda x, scale, bias, mean, variance: F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def _gemm(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    turn_a, turn_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)
    bias = node.constant(2)
    if (alpha, beta, turn_a, turn_b) == (1.0, 1.0, 0, 1) and (
        node.n_inputs < 3 or (bias is not None and bias.ndim < 2)
    ):
        return F.linear

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = alpha * ((a.T if turn_a else a) @ (b.T if turn_b else b))
        return product if c is None else product + beta * c

    return run


def _pad(node: Node) -> Function:
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}.get(
        node.attributes.get("mode", "constant")
    )
    if mode is None:
        raise node.refused("mode constant, edge or reflect", node.attributes["mode"])
    pads, filler = node.required(1), node.constant(2)
    if node.n_inputs > 3:
        raise node.refused("pads for every axis", "axes")
    n_axes = len(pads) // 2
    turned = [pads[k + end] for k in reversed(range(n_axes)) for end in (0, n_axes)]
    while turned and mode != "constant" and turned[-2:] == [0, 0]:  # torch repeats edges of the last axes alone
        del turned[-2:]
    if not turned:
        return lambda x, *_: x
    value = 0.0 if filler is None else filler.item()
    return lambda x, *_: F.pad(x, turned, mode, value if mode == "constant" else None)


def _resize(node: Node) -> Function:
    """Linear between pixel centres or corners, or the nearest as torch has it: what F.interpolate does."""
    kind = node.attributes.get("mode", "nearest")
    places = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    linear = kind == "linear" and places in ("half_pixel", "pytorch_half_pixel", "align_corners")
    if not linear and (kind, places, rounding) != ("nearest", "asymmetric", "floor"):
        raise node.refused("linear half_pixel or align_corners, or nearest asymmetric floor", (kind, places, rounding))
    if node.attributes.get("antialias", 0) or "axes" in node.attributes:
        raise node.refused("neither antialias nor axes", sorted(node.attributes))
    corners = places == "align_corners" if linear else None

    def run(x: Tensor, _: Any = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        mode = _LINEAR[x.ndim] if linear else "nearest"
        if sizes is not None:
            return F.interpolate(x, [int(size) for size in sizes.tolist()[2:]], mode=mode, align_corners=corners)
        assert scales is not None
        return F.interpolate(x, scale_factor=scales.tolist()[2:], mode=mode, align_corners=corners)

    return run


LAYERS: dict[str, Build] = {
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "Conv": _conv, "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool, "LayerNormalization": _layer_norm, "MaxPool": _max_pool, "Pad": _pad,
    "Resize": _resize,
}  # fmt: skip
