"""`emocast engine verify`: one command that a user with a GPU runs, and whose report can be attached to an issue.

Three parts, each run as far as the machine allows: the graphs themselves on ONNX Runtime (any machine), the CUDA code
(a GPU and its driver), and TensorRT.
"""

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.console import Console

from engines.bundle import Bundle, load
from engines.engine import Engine, EngineError, InputError
from engines.onnx_runtime import OnnxEngine
from engines.operators import unsupported
from engines.parity import TOLERANCES, difference
from engines.precision import PRECISIONS, Precision, check, convert
from engines.samples import Samples
from engines.tensorrt.acceptance import differences
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import compiled
from engines.tensorrt.cuda import Pair, Stream, free_bytes, gpu
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore
from engines.tensorrt.run import TensorRTEngine
from tools.engine.build import BuildProgress
from tools.errors import DONE, MISUSE
from tools.measure.bench import machine

N_THREADS, N_CALLS = 4, 25
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    what: str
    outcome: str
    text: str

    def __str__(self) -> str:
        return f"{self.outcome:8} {self.what}: {self.text}"


def verify(name: str, options: BuildOptions, *, out: Path | None = None) -> int:
    """Check everything that this machine allows, and print a line for each check.

    Args:
        name: A shipped bundle's name, or a bundle folder.
        options: How plans are built; the precision that is checked on the GPU.
        out: Also write the report here.

    Returns:
        0 where all was run and passed, 2 otherwise.

    Raises:
        BundleError: If the bundle is not valid.
    """
    bundle = load(name)
    lines = [
        f"emocast engine verify {bundle.manifest.name} ({bundle.sha256[:16]}), {options.precision}",
        f"{machine()}; {platform.platform()}; Python {platform.python_version()}; ONNX Runtime {ort.__version__}",
    ]
    for line in lines:
        print(line)
    outcomes = []
    for found in _checks(bundle, options):
        print(found, flush=True)
        lines.append(str(found))
        outcomes.append(found.outcome)
    summary = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in (PASSED, FAILED, NOT_RUN))
    print(summary)
    if out is not None:
        out.write_text("\n".join([*lines, summary]) + os.linesep)
    return DONE if set(outcomes) == {PASSED} else MISUSE


def _checks(bundle: Bundle, options: BuildOptions) -> Iterator[Check]:
    for stage in bundle.manifest.stages:
        for precision in PRECISIONS:
            yield _tried(f"graph {stage} in {precision}", partial(_graph, bundle, stage, precision))
    yield _tried("CUDA", _cuda)
    try:
        probe()
    except EngineError as error:
        yield Check(what="TensorRT", outcome=NOT_RUN, text=str(error))
        return
    yield Check(what="TensorRT", outcome=PASSED, text="{1} on {0.name}".format(*probe()))
    for stage in bundle.manifest.stages:
        yield from _plan(bundle, stage, options)


def _tried(what: str, work: Callable[[], str]) -> Check:
    try:
        return Check(what=what, outcome=PASSED, text=work())
    except _Unmet as error:
        return Check(what=what, outcome=NOT_RUN, text=str(error))
    except (EngineError, AssertionError) as error:
        return Check(what=what, outcome=FAILED, text=" ".join(str(error).split()))


class _Unmet(Exception):  # noqa: N818 - not an error of the check
    """What a check needs is not on this machine."""


def _graph(bundle: Bundle, stage: str, precision: Precision) -> str:
    original = bundle.stage(stage).read_bytes()
    with Samples(bundle) as samples:
        feeds = [samples.feeds(stage, 1)]
    made = convert(original, precision, feeds)
    if wrong := unsupported(made.model):
        raise EngineError(f"operators that TensorRT does not take: {'; '.join(wrong)}")
    worst = max(check(original, made, feeds).values())
    _within(worst, precision, "float32")
    return f"largest difference from float32 {worst:.1e}, {TOLERANCES[precision]:g} is allowed"


def _within(worst: float, precision: str, reference: str) -> None:
    if worst > TOLERANCES[precision]:
        raise EngineError(f"departs from {reference} by {worst:.1e}, {TOLERANCES[precision]:g} is allowed")


def _cuda() -> str:
    try:
        found = gpu()
    except EngineError as error:
        raise _Unmet(str(error)) from error
    sent = np.arange(1000, dtype=np.float32)
    with closing(Stream()) as stream, closing(Pair(sent.shape, sent.dtype)) as pair:

        def there_and_back() -> None:
            stream.copy(pair.device, pair.pinned, pair.n_bytes, to_device=True)
            stream.copy(pair.pinned, pair.device, pair.n_bytes, to_device=False)

        with closing(stream.capture(there_and_back)) as graph:
            pair.host[...] = sent
            stream.copy(pair.device, pair.pinned, pair.n_bytes, to_device=True)
            stream.wait()
            pair.host[...] = 0
            stream.copy(pair.pinned, pair.device, pair.n_bytes, to_device=False)
            stream.wait()
            if not np.array_equal(pair.host, sent):
                raise EngineError("what came back from the device is not what was sent")
            pair.host[...] = -sent
            graph.launch()
            stream.wait()
            if not np.array_equal(pair.host, -sent):
                raise EngineError("what a recorded copy brought back is not what was sent")
    return f"{found.name}: pinned memory, copies and a CUDA graph of them"


def _plan(bundle: Bundle, stage: str, options: BuildOptions) -> Iterator[Check]:
    gpu_found, version = probe()
    store = PlanStore()
    plan = b""

    def built() -> str:
        nonlocal plan
        with BuildProgress(Console(stderr=True)) as shown:
            record = compiled(bundle, stage, options, store, gpu=gpu_found, tensorrt=version, progress=shown.told)
        if not record.accepted:
            raise EngineError(record.why)
        plan = store.plan(record)
        took = ", ".join(f"batch {size} in {ms:.2f} ms" for size, ms in record.batch_ms.items())
        return f"built in {record.built_s:.0f} s, {len(plan) / 1e6:.1f} MB; {took}"

    yield _tried(f"plan of {stage}", built)
    if not plan:
        return
    free, opened = free_bytes(), list[TensorRTEngine]()

    def loads() -> str:
        opened.append(TensorRTEngine(plan))
        return f"batch sizes {', '.join(map(str, opened[0].batches))}"

    yield _tried(f"loading {stage}", loads)
    if not opened:
        return
    with Samples(bundle) as samples:
        items = samples.feeds(stage, 2 * options.batches[-1] + 3)
    with closing(opened[0]) as engine, closing(OnnxEngine(bundle.stage(stage))) as onnx:
        yield _tried(f"parity of {stage}", lambda: _parity(engine, onnx, items, options.precision))
        yield _tried(f"CUDA graphs of {stage}", lambda: _graphs(engine))
        yield _tried(f"shapes out of profile of {stage}", lambda: _beyond(engine, items, options.precision))
        yield _tried(f"{N_THREADS} callers at once of {stage}", lambda: _at_once(engine, items))
    yield _tried(f"memory of {stage} given back", lambda: _given_back(free))


def _parity(engine: TensorRTEngine, onnx: Engine, items: dict[str, np.ndarray], precision: str) -> str:
    found = differences(engine, onnx, items)
    _within(max(found.values()), precision, "the ONNX graph")
    return ", ".join(f"{name} {worst:.1e}" for name, worst in found.items())


def _graphs(engine: TensorRTEngine) -> str:
    if engine.not_captured:
        raise EngineError(engine.not_captured)
    return f"{engine.n_captured} of {len(engine.batches)} batch sizes"


def _beyond(engine: TensorRTEngine, items: dict[str, np.ndarray], precision: str) -> str:
    n = len(next(iter(items.values())))
    whole = engine.run(items)
    alone = engine.run({name: array[n - 1 :] for name, array in items.items()})
    for name, values in whole.items():
        _within(difference(values[n - 1 :], alone[name]), precision, "the same item alone")
    wrong = {name: np.concatenate([array, array], axis=1) for name, array in items.items()}
    try:
        engine.run(wrong)
    except InputError:
        return f"a batch of {n} runs in parts; a wrong shape is refused"
    raise EngineError("a wrong shape was not refused")


def _at_once(engine: TensorRTEngine, items: dict[str, np.ndarray]) -> str:
    n = engine.batches[-1]
    feeds = [{name: array[k : k + 1 + k % n] for name, array in items.items()} for k in range(N_THREADS)]
    expected = [engine.run(feed) for feed in feeds]
    wrong: list[str] = []

    def call(k: int) -> None:
        try:
            for _ in range(N_CALLS):
                got = engine.run(feeds[k])
                wrong.extend(name for name in got if not np.array_equal(got[name], expected[k][name]))
        except EngineError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=call, args=(k,)) for k in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise EngineError(f"{len(wrong)} of {N_THREADS * N_CALLS} calls differ: {wrong[0]}")
    return f"{N_THREADS * N_CALLS} calls, each as when called alone"


def _given_back(free: int) -> str:
    left = free - free_bytes()
    if left > 32 << 20:  # what CUDA loaded of its own stays
        raise EngineError(f"{left / 2**20:.0f} MB of the device are still held")
    return f"{max(left, 0) / 2**20:.0f} MB still held"
