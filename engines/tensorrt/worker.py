"""The builder's process: compiles one graph, holds the plan against it, and keeps plan and record.

    python -m engines.tensorrt.worker <request.json

Says how far it is, one JSON object a line, and last either `{"record": …}` or `{"error": …}`.
"""

import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from engines.bundle import BundleError, load
from engines.engine import EngineError
from engines.onnx_runtime import OnnxEngine
from engines.operators import unsupported
from engines.parity import TOLERANCES
from engines.precision import Precision, check, convert
from engines.samples import Samples
from engines.tensorrt.acceptance import batch_ms, differences
from engines.tensorrt.build import build
from engines.tensorrt.compile import Request
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore, Record
from engines.tensorrt.run import TensorRTEngine

N_FEEDS = 8  # real inputs that ranges are taken from and halves are checked on: each stored expression once


def work(request: Request) -> Record:
    """Build, accept, and keep.

    Raises:
        BundleError, EngineError: If the graph cannot be compiled or run.
    """
    key, began = request.key, time.monotonic()
    probe()
    store, bundle = PlanStore(Path(request.store)), load(request.bundle)
    options = key.options
    path = bundle.stage(request.stage)
    with Samples(bundle) as samples:
        items = samples.feeds(request.stage, key.batches[-1] + 1)
    _say(phase="real inputs", done=1, of=1)
    # One by one: the largest graphs would not fit in memory several items at a time.
    singles = [{name: array[k : k + 1] for name, array in items.items()} for k in range(min(N_FEEDS, key.batches[-1]))]
    graph = _in_precision(path, options.precision, singles)
    plan = build(graph, options, timing_cache=store.timing_cache, progress=lambda p, d, o: _say(phase=p, done=d, of=o))
    built_s = time.monotonic() - began
    engine, reference = TensorRTEngine(plan), OnnxEngine(path)
    try:
        found = differences(engine, reference, items)
        took = batch_ms(engine, items)
    finally:
        engine.close()
        reference.close()
    tolerance, worst = TOLERANCES[options.precision], max(found.values())
    why = f"departs from the ONNX graph by {worst:.1e}, {tolerance:g} is allowed in {options.precision}"
    record = Record(
        key=key,
        plan=store.digest(plan),
        accepted=worst <= tolerance,
        why=why,
        differences=found,
        tolerance=tolerance,
        batch_ms=took,
        built_s=round(built_s, 1),
        built=time.time(),
    )
    store.keep(record, plan)
    return record


def _in_precision(path: Path, precision: Precision, feeds: list[dict[str, np.ndarray]]) -> bytes:
    original = path.read_bytes()
    converted = convert(original, precision, feeds)
    if wrong := unsupported(converted.model):
        raise EngineError(f"expected operators that TensorRT takes in {path.name}, got: {'; '.join(wrong)}")
    worst = max(check(original, converted, feeds).values())
    if worst > TOLERANCES[precision]:
        raise EngineError(
            f"{path.name} in {precision} departs from float32 by {worst:.1e} on ONNX Runtime already, "
            f"{TOLERANCES[precision]:g} is allowed; build it with another --precision"
        )
    _say(phase=f"graph in {precision}", done=1, of=1)
    return converted.model


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def main() -> int:
    """Serve the request on standard input. Returns the exit code."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        record = work(request)
    except (BundleError, EngineError, OSError) as error:
        _say(error=" ".join(str(error).split()))
        return 2
    _say(record=msgspec.to_builtins(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
