"""What each ONNX Runtime setting costs or gains on this machine, as ratios in one run.

    python -m tools.onnx_options [--model NAME]

Each setting is timed against the engine's own (one thread, no spinning, all graph optimisations, arena on), in turn,
round after round, so that a machine whose speed drifts slows both alike.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from engines.bundle import load
from engines.onnx_runtime import session_options

ROUNDS, CALLS = 15, 20
Change = Callable[[ort.SessionOptions], None]


def _set(name: str, value: object) -> Change:
    return lambda options: setattr(options, name, value)


SPINNING = "2 threads, spinning"
CHANGES: dict[str, Change] = {
    "2 threads": _set("intra_op_num_threads", 2),
    "no arena": _set("enable_cpu_mem_arena", False),
    "no memory pattern": _set("enable_mem_pattern", False),
    "basic optimisation": _set("graph_optimization_level", ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
    "no optimisation": _set("graph_optimization_level", ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
}


def ratios(path: Path, feeds: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
    """Median milliseconds of a call as the engine is, and the median ratio to it for each change."""
    sessions = {"": _session(path), SPINNING: _session(path, threads=2, spinning=True)}
    sessions |= {name: _session(path, change) for name, change in CHANGES.items()}
    took: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                session.run(None, feeds)
            took[name].append((time.perf_counter() - began) / CALLS)
    base = took.pop("")
    return median(base) * 1e3, {n: median(t / b for t, b in zip(ts, base, strict=True)) for n, ts in took.items()}


def _session(
    path: Path, change: Change | None = None, *, threads: int = 1, spinning: bool = False
) -> ort.InferenceSession:
    options = session_options(threads=threads, spinning=spinning)
    if change is not None:
        change(options)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> int:
    """Measure each graph at batch 1 and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="default")
    bundle = load(parser.parse_args().model)
    generator = np.random.default_rng(0)
    size, n = bundle.manifest.face.size_px, bundle.manifest.audio.n_samples
    inputs = {
        "frame_encoder": {"crop": generator.integers(0, 256, (1, size, size, 3), dtype=np.uint8)},
        "audio_encoder": {"waveform": (0.1 * generator.standard_normal((1, n))).astype(np.float32)},
    }
    table = Table("graph", "ms", SPINNING, *CHANGES, box=None, pad_edge=False)
    for stage, feeds in inputs.items():
        base_ms, found = ratios(bundle.stage(stage), feeds)  # type: ignore[arg-type]
        table.add_row(stage, f"{base_ms:.2f}", *(f"{ratio:.2f}" for ratio in found.values()))
    Console(width=140).print(table)
    print("ratios of time to the engine's own settings; above 1 is slower")
    return 0


if __name__ == "__main__":
    sys.exit(main())
