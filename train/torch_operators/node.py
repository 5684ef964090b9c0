"""A node of an ONNX graph, and what it becomes: a function of its inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engines.engine import EngineError

Function = Callable[..., Any]  # (*inputs) -> Tensor, or a tuple of them where the node has several outputs
Build = Callable[["Node"], Function]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of a graph.

    Attributes:
        kind: Its operator.
        name: Its own name or that of its first output, for messages.
        attributes: By name; a missing one has ONNX's default.
        constants: Of its inputs those known when the graph is loaded, None for the others and for those left out.
        n_inputs: How many it has, those left out between others counted.
        n_outputs: How many it has.
    """

    kind: str
    name: str
    attributes: Mapping[str, Any]
    constants: Sequence[Tensor | None]
    n_inputs: int
    n_outputs: int

    def constant(self, position: int) -> Tensor | None:
        return self.constants[position] if position < len(self.constants) else None

    def integers(self, position: int, attribute: str = "") -> list[int] | None:
        """Axes, sizes or pads: an input of a known value, or the attribute that older versions have it in."""
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        known = self.constant(position)
        return None if known is None else [int(value) for value in known.reshape(-1).tolist()]

    def required(self, position: int, attribute: str = "") -> list[int]:
        """The same where it cannot be unknown. Raises EngineError if it is."""
        found = self.integers(position, attribute)
        if found is None:
            raise self.refused(f"a constant for input {position}", "one that is computed")
        return found

    def refused(self, expected: str, got: object) -> EngineError:
        return EngineError(f"expected {self.kind} ({self.name}) with {expected}, got {got}; torch's graph has no other")
