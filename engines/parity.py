"""How far an engine departs from its reference on the same inputs, and how far it may."""

from collections.abc import Iterable, Mapping

import numpy as np

from engines.engine import Engine

# Largest difference of an output, by the precision that the graph computes in. TF32 is off in `fp32`, so that what
# remains is the order of sums; a half keeps 11 bits, bfloat16 keeps 8.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 6e-2, "int8": 2e-1}


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference, of outputs beyond 1 (which only features have) in shares of the largest.

    Infinite where shapes differ or a value is not finite.
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    if not expected.size:
        return 0.0
    return float(np.abs(got.astype(np.float64) - expected).max() / max(1.0, float(np.abs(expected).max())))


def differences(engine: Engine, reference: Engine, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The largest difference of each output over all feeds.

    Raises:
        EngineError: If either cannot run them.
    """
    found: dict[str, float] = {spec.name: 0.0 for spec in reference.outputs}
    for feed in feeds:
        got, expected = engine.run(feed), reference.run(feed)
        for name in found:
            found[name] = max(found[name], difference(got[name], expected[name]))
    return found
