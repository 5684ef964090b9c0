"""Which nodes of a graph compute in half precision, and why each of the others does not."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engines.precision.graph import MOVES, library

FRONT_ENDS = {"frontend", "lfcc"}  # modules whose matrices are fixed transforms, by the names that train/ gives them
LAYERS = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}  # what tensor cores are for
POINTWISE = {
    "Add", "AveragePool", "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish",
    "Mul", "PRelu", "Resize", "Selu", "Sub", "Sum", "Tanh",
}  # fmt: skip
_KEPT = {
    "normalisation": (
        "BatchNormalization", "Div", "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization",
        "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "ReduceL1", "ReduceL2",
    ),
    "softmax": (
        "LogSoftmax", "Sigmoid", "Softmax", "Softplus",
    ),
    "function": (
        "Cos", "Exp", "Log", "Pow", "Reciprocal", "Sin", "Sqrt",
    ),
    "sum": (
        "CumSum", "GlobalAveragePool", "GlobalLpPool", "LpPool", "Mean", "ReduceLogSum", "ReduceLogSumExp",
        "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    ),
}  # fmt: skip
REASONS = {op: reason for reason, ops in _KEPT.items() for op in ops}
N_SUMMED = 64  # an average over more than this is a sum over many
N_SMALL = 8192  # weights; a matrix of fewer saves little in half and would add casts (judged, not measured)
ANY_TYPE = {"Constant", "Shape", "Size"}  # compute nothing: whatever the type of what they read
ALWAYS_FLOAT = {("Resize", 2), ("Upsample", 1)}  # inputs whose type is float32 whatever the node computes in


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where each node that touches a float32 tensor computes.

    Attributes:
        half: Indices of the nodes that compute in half.
        kept: By reason, indices of those that stay in float32: `front end` (before the first learned layer),
            `normalisation`, `softmax`, `function` (exp and the like), `sum` (over many), `range` (it touches a tensor
            or weight that a half does not hold), `small` (a matrix too small to gain), `neighbours` (between kept
            nodes, where a cast would cost and gain nothing), `other` (not known to be safe).
    """

    half: frozenset[int]
    kept: Mapping[str, tuple[int, ...]]


def floats_in(node: Any, types: Mapping[str, int]) -> list[str]:
    """Names of the float32 tensors that a node computes with, in and out."""
    if node.op_type in ANY_TYPE:
        return []
    read = [name for place, name in enumerate(node.input) if (node.op_type, place) not in ALWAYS_FLOAT]
    return [name for name in (*read, *node.output) if name and types[name] == library().TensorProto.FLOAT]


def plan(model: Any, types: Mapping[str, int], outside: Collection[str]) -> Plan:
    """Decide for each node.

    Args:
        model: With its float constants among the initialisers.
        types: Of its tensors.
        outside: Names of tensors and weights that a half does not hold.
    """
    nodes = list(model.graph.node)
    reasons = {k: _reason(node, outside, model) for k, node in enumerate(nodes) if floats_in(node, types)}
    for k in _front_end(model):
        if k in reasons:
            reasons[k] = "front end"
    makers = {name: k for k, node in enumerate(nodes) for name in node.output}
    flows = [(makers[name], k) for k, node in enumerate(nodes) for name in node.input if name in makers]
    flows = [(a, b) for a, b in flows if a in reasons and b in reasons]
    _join_neighbours(nodes, reasons, flows)
    kept: dict[str, tuple[int, ...]] = {}
    for k, reason in reasons.items():
        if reason:
            kept[reason] = (*kept.get(reason, ()), k)
    return Plan(half=frozenset(k for k, reason in reasons.items() if not reason), kept=kept)


def _reason(node: Any, outside: Collection[str], model: Any) -> str:
    # Why a node stays in float32 by itself; "" where it need not.
    if node.domain not in ("", "ai.onnx") or node.op_type not in LAYERS | POINTWISE | MOVES | REASONS.keys():
        return "other"
    if node.op_type in REASONS:
        return REASONS[node.op_type]
    if any(name in outside for name in (*node.input, *node.output)):
        return "range"
    if node.op_type == "AveragePool":
        (window,) = (list(a.ints) for a in node.attribute if a.name == "kernel_shape")
        return "sum" if _product(window) > N_SUMMED else ""
    if node.op_type in ("Gemm", "MatMul"):
        weights = [w for w in model.graph.initializer if w.name in node.input[:2]]
        return "small" if weights and _product(weights[0].dims) < N_SMALL else ""
    return ""


def _front_end(model: Any) -> Iterator[int]:
    # Nodes that no learned layer comes before. What is computed from constants alone counts as a constant.
    constants = {w.name: bool(FRONT_ENDS & set(w.name.split("."))) for w in model.graph.initializer}  # is it fixed?
    learned: set[str] = set()
    for k, node in enumerate(model.graph.node):
        given = [name for name in node.input if name]
        weights = [constants[name] for name in given if name in constants]
        if given and len(weights) == len(given):
            constants.update(dict.fromkeys(node.output, any(weights)))
        layer = node.op_type in LAYERS and 0 < len(weights) < len(given) and not any(weights)
        if layer or (learned & set(given) and node.op_type not in ANY_TYPE):
            learned.update(node.output)
        else:
            yield k


def _join_neighbours(nodes: list[Any], reasons: dict[int, str], flows: list[tuple[int, int]]) -> None:
    # Arithmetic is in half where a half comes in; moves are in half where any node around their group is.
    before: dict[int, list[int]] = {}
    for a, b in flows:
        before.setdefault(b, []).append(a)
    halves: set[int] = set()  # gives a half, if moves were in half wherever one comes in
    for k in reasons:
        if not reasons[k] and (nodes[k].op_type in LAYERS or halves & set(before.get(k, ()))):
            halves.add(k)
    moves = {k for k in reasons if not reasons[k] and nodes[k].op_type in MOVES}
    for k in reasons:
        if not reasons[k] and k not in moves and k not in halves:
            reasons[k] = "neighbours"
    around: dict[int, set[int]] = {k: set() for k in moves}
    for a, b in flows:
        for one, other in ((a, b), (b, a)):
            if one in moves:
                around[one].add(other)
    while moves:
        group, edge = set[int](), {min(moves)}
        while edge:  # grow over moves that touch
            group |= edge
            edge = {other for k in edge for other in around[k] if other in around} - group
        moves -= group
        if all(reasons[other] for k in group for other in around[k] if other not in group):
            reasons.update(dict.fromkeys(group, "neighbours"))


def _product(sizes: Any) -> int:
    result = 1
    for size in sizes:
        result *= int(size)
    return result
