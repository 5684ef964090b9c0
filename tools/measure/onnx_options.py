"""What each ONNX Runtime setting costs or gains on this machine, as ratios in one run.

    python -m tools.measure.onnx_options [--model NAME|DIR] [--rounds N]

Each setting is timed at batch 1 on real inputs against the engine's own (one thread, no spinning, all graph
optimisations, arena and memory pattern on, weights packed at load), which is timed anew just before it, round after
round: a machine whose speed drifts slows both alike.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from engines.bundle import load
from engines.onnx_runtime import OnnxEngine, session_options
from engines.samples import Samples

Options = Callable[[], ort.SessionOptions]
Call = Callable[[], object]
ROUND_S = 0.02  # a round calls as often as fits, so that the clock's grain does not matter
OWN = "the engine's session"


def _own(*, threads: int = 1, spinning: bool = False, **changes: object) -> ort.SessionOptions:
    options = session_options(threads=threads, spinning=spinning)
    for name, value in changes.items():
        setattr(options, name, value)
    # Threads that spin between calls would slow what is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _with_entry(name: str) -> ort.SessionOptions:
    options = _own()
    options.add_session_config_entry(f"session.{name}", "1")
    return options


def _parallel() -> ort.SessionOptions:
    options = _own(execution_mode=ort.ExecutionMode.ORT_PARALLEL, inter_op_num_threads=2)
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


CHANGES: dict[str, Options] = {
    "2 threads": partial(_own, threads=2),
    "2 threads, spinning": partial(_own, threads=2, spinning=True),
    "2 branches at a time": _parallel,
    "no arena": partial(_own, enable_cpu_mem_arena=False),
    "no memory pattern": partial(_own, enable_mem_pattern=False),
    "no packing of weights": partial(_with_entry, "disable_prepacking"),
    "denormals as zero": partial(_with_entry, "set_denormal_as_zero"),
    "extended optimisation": partial(_own, graph_optimization_level=ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
    "basic optimisation": partial(_own, graph_optimization_level=ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
    "no optimisation": partial(_own, graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
}


def calls(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, Call]:
    """What is timed: the engine's own session first, then with each change, bound to its tensors, and as an engine."""
    given = dict(feeds)
    own, engine = _session(path, _own), OnnxEngine(path)
    changed = {name: _session(path, options) for name, options in CHANGES.items()}
    return {
        OWN: partial(own.run, None, given),
        **{name: partial(session.run, None, given) for name, session in changed.items()},
        "bound inputs and outputs": _bound(own, given),
        "through the engine, with its checks": partial(engine.run, given),
    }


def loads(path: Path, folder: Path) -> dict[str, Call]:
    """What loading is timed: as the engine does, not optimised, from a file saved optimised, and without packing."""
    saved = folder / path.name
    _session(path, partial(_own, optimized_model_filepath=str(saved)))
    return {
        OWN: partial(_session, path, _own),
        "load: no optimisation": partial(_session, path, CHANGES["no optimisation"]),
        "load: saved optimised": partial(_session, saved, CHANGES["no optimisation"]),
        "load: no packing of weights": partial(_session, path, CHANGES["no packing of weights"]),
    }


def ratios(timed: Mapping[str, Call], rounds: int) -> tuple[float, dict[str, float]]:
    """Median milliseconds of the first, and of each other the median over rounds of its time to the first's."""
    (_, own), *others = timed.items()
    n = max(1, int(ROUND_S / _seconds(own, 2)))
    base: list[float] = []
    found: dict[str, list[float]] = {name: [] for name, _ in others}
    for _ in range(rounds):
        for name, call in others:
            base.append(_seconds(own, n))
            found[name].append(_seconds(call, n) / base[-1])
    return median(base) * 1e3, {name: median(each) for name, each in found.items()}


def _seconds(call: Call, n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - began) / n


def _session(path: Path, options: Options) -> ort.InferenceSession:
    return ort.InferenceSession(path, options(), providers=["CPUExecutionProvider"])


def _bound(session: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> Call:
    # The least that binding can cost: memory of both sides stays where it is, nobody gets an array of his own.
    binding = session.io_binding()
    outputs = session.run(None, dict(feeds))
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    for node, array in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_ortvalue_output(node.name, ort.OrtValue.ortvalue_from_numpy(np.asarray(array)))
    return partial(session.run_with_iobinding, binding)


def main() -> int:
    """Measure each graph and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    bundle = load(given.model)
    columns: dict[str, dict[str, str]] = {}
    with Samples(bundle) as samples, TemporaryDirectory() as folder:
        for stage in bundle.manifest.stages:
            ms, found = ratios(calls(bundle.stage(stage), samples.feeds(stage, 1)), given.rounds)
            load_ms, loaded = ratios(loads(bundle.stage(stage), Path(folder)), given.rounds)
            own = {"ms a call": f"{ms:.3f}", "ms to load": f"{load_ms:.1f}"}
            columns[stage] = own | {name: f"{ratio:.2f}" for name, ratio in (found | loaded).items()}
    table = Table("setting", *columns, box=None, pad_edge=False)
    for name in next(iter(columns.values())):
        table.add_row(name, *(found[name] for found in columns.values()))
    Console(width=140).print(table)
    print("below the times: ratios of time to the engine's own session; above 1 is slower")
    return 0


if __name__ == "__main__":
    sys.exit(main())
