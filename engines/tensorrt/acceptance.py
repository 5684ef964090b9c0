"""A plan serves only after it reproduced its ONNX graph on this GPU, on real inputs, at every batch size."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

from engines.engine import Engine
from engines.parity import difference
from engines.tensorrt.run import TensorRTEngine

N_TIMED = 20
Rows = Mapping[str, np.ndarray]


def sizes_to_try(batches: tuple[int, ...]) -> tuple[int, ...]:
    """Batches that fill each size, that are padded to it, and that exceed the largest."""
    padded = {size - 1 for size in batches if size - 1 > max((b for b in batches if b < size), default=0)}
    return tuple(sorted({*batches, *padded, batches[-1] + 1}))


def differences(engine: TensorRTEngine, reference: Engine, items: Rows) -> dict[str, float]:
    """The largest difference of each output, over batches of every kind.

    Args:
        engine: The plan.
        reference: The ONNX graph; it gets the items one by one, so that a batch cannot hide what a batch does.
        items: Inputs, (n, ...) each; n is one more than the largest batch.

    Raises:
        EngineError: If either cannot run them.
    """
    n = engine.batches[-1] + 1
    alone = [reference.run({name: array[k : k + 1] for name, array in items.items()}) for k in range(n)]
    expected = {spec.name: np.concatenate([one[spec.name] for one in alone]) for spec in engine.outputs}
    found = dict.fromkeys(expected, 0.0)
    for size in sizes_to_try(engine.batches):
        got = engine.run({name: array[:size] for name, array in items.items()})
        for name in found:
            found[name] = max(found[name], difference(got[name], expected[name][:size]))
    return found


def batch_ms(
    engine: TensorRTEngine, items: Rows, *, now_s: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median milliseconds of a call, copies included, by batch size."""
    found = {}
    for size in engine.batches:
        feeds = {name: array[:size] for name, array in items.items()}
        took = []
        for _ in range(N_TIMED):
            began = now_s()
            engine.run(feeds)
            took.append(now_s() - began)
        found[str(size)] = round(median(took) * 1e3, 4)
    return found
