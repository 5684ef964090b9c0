"""What an engine costs before it answers: its load time and resident memory, each measured in a process of its own."""

import gc
import importlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engines.engine import Engine, EngineError

Open = Callable[[Path], Engine]
LIBRARIES = {  # imported before anything is measured
    "torch": ("torch", "onnx"),
    "onnx": ("onnxruntime",),
    "onnx-cuda": ("onnxruntime",),
    "tensorrt": ("tensorrt", "cuda.bindings.runtime"),
}
RUNS, TIMEOUT_S = 3, 120.0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Of one graph on one backend.

    Attributes:
        load_ms: To open it, its file in the system's cache and its library imported.
        memory_mb: By how much resident memory of the host grew as it was opened and run; None where the system does
            not say.
        library_mb: By how much the library's import alone had grown it before.
    """

    load_ms: float
    memory_mb: float | None
    library_mb: float | None


def footprint(backend: str, opener: Open, path: Path, feeds: Mapping[str, np.ndarray]) -> Footprint:
    """Open and run a graph in a fresh process.

    Raises:
        EngineError: If the process fails, or what opens the engine cannot be handed to it (it must be picklable).
    """
    try:
        job = pickle.dumps((LIBRARIES.get(backend, ()), pickle.dumps((opener, path, dict(feeds)))))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EngineError(f"expected an opener that another process can unpickle, got {opener!r}: {error}") from error
    # `-P`: a folder named `tools` where the command is run is not ours
    command = [sys.executable, "-P", "-m", "tools.engine.footprint"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(command, input=job, capture_output=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"expected the graph loaded and run within {TIMEOUT_S:g} s, it took longer") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise EngineError(f"the process that loads the graph failed: {last[0]}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _measure(job: bytes) -> Footprint:
    bare = _resident_mb()
    libraries, packed = pickle.loads(job)
    for library in libraries:
        try:
            importlib.import_module(library)
        except (ImportError, OSError):  # the engine itself says what is missing
            continue
    opener, path, feeds = pickle.loads(packed)
    path.read_bytes()
    gc.collect()
    before = _resident_mb()
    began = time.perf_counter()
    engine = opener(path)
    load_ms = (time.perf_counter() - began) * 1e3
    for _ in range(RUNS):
        began = time.perf_counter()
        engine.run(feeds)
        if time.perf_counter() - began > 1:
            break
    gc.collect()
    after = _resident_mb()
    engine.close()
    if bare is None or before is None or after is None:
        return Footprint(load_ms=load_ms, memory_mb=None, library_mb=None)
    return Footprint(load_ms=load_ms, memory_mb=after - before, library_mb=before - bare)


def _resident_mb() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    found = _measure(sys.stdin.buffer.read())
    print(json.dumps(asdict(found)))
