"""ONNX operators as torch's own: each takes a node and gives the function that a call of the graph runs.

What a node fixes (attributes, constant axes, shapes and scalars) is resolved when the graph is loaded, so that a call
costs one Python function and one operator of torch. Functions take the node's inputs in order, constants among them.
"""

from engines.engine import EngineError
from train.torch_operators.layers import LAYERS
from train.torch_operators.node import Function, Node
from train.torch_operators.numbers import NUMBERS, PLAIN
from train.torch_operators.shapes import SHAPES

_BUILD = {**SHAPES, **NUMBERS, **LAYERS}
KNOWN = frozenset({*PLAIN, *_BUILD})


def function_of(node: Node) -> Function:
    """The function that computes a node.

    Raises:
        EngineError: If its operator, or this form of it, is not known.
    """
    if node.n_outputs > 1 and node.kind != "Split":
        raise node.refused("one output", node.n_outputs)
    if node.kind in PLAIN:
        return PLAIN[node.kind]
    if node.kind in _BUILD:
        return _BUILD[node.kind](node)
    raise EngineError(f"expected an operator that torch's graph knows, got {node.kind} ({node.name})")
