"""What an engine is: it runs one graph, declares its tensors, and checks them at each call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class EngineError(RuntimeError):
    """An engine that cannot do what was asked; the text says what was expected, what came and what to do."""


class InputError(EngineError):
    """Inputs that a graph does not take: the caller's mistake, on any backend."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: numpy's name of its element type, `uint8` or `float32`.
        shape: Its dimensions; a string names one that is free, `batch` for example.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


class Engine(Protocol):
    """Runs one graph. One thread at a time may call `run`; outputs belong to the caller."""

    @property
    def backend(self) -> str:
        """Name of what runs it."""
        ...

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises EngineError if a feed is missing, unknown, or of another dtype or shape."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it cannot run afterwards. Closing twice is harmless."""
        ...


def check_feeds(specs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> None:
    """Hold feeds against the declared inputs; dimensions of one name must agree between them.

    Raises:
        InputError: If a feed is missing, unknown, or of another dtype or shape.
    """
    expected = {spec.name for spec in specs}
    if expected != set(feeds):
        raise InputError(f"expected inputs {sorted(expected)}, got {sorted(feeds)}")
    sizes: dict[str, int] = {}
    for spec in specs:
        array = feeds[spec.name]
        fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
        for dimension, size in zip(spec.shape, array.shape, strict=False):
            wanted = sizes.setdefault(dimension, size) if isinstance(dimension, str) else dimension
            fits = fits and size == wanted
        if not fits:
            raise InputError(f"expected input {spec}, got {array.dtype} {array.shape}")
