"""`emocast engine bench`: how fast each backend runs each graph of a bundle here, and how far it is from torch."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import isinf
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import onnxruntime as ort
from rich.console import Console

from engines.bundle import Bundle, load
from engines.engine import Engine, EngineError
from engines.onnx_runtime import OnnxEngine
from engines.parity import difference
from engines.samples import Samples
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore
from engines.tensorrt.run import TensorRTEngine
from tools.engine.footprint import Footprint, Open, footprint
from tools.engine.report import AtBatch, Report, Row, totals
from tools.engine.table import print_table
from tools.engine.timing import Clock, once, timed
from tools.measure.bench import machine

REFERENCES = ("torch", "onnx")  # the first of them that is here is what the others are held against
BUDGET_S = 8.0
FED_S = 2.0  # that making the feeds of one graph may take
Weigh = Callable[[str, Open, Path, Mapping[str, np.ndarray]], Footprint]


def default_backends(threads: int) -> dict[str, Open]:
    """What opens a graph, by backend: `torch` where it is installed with onnx, ONNX Runtime, TensorRT on a GPU."""
    found: dict[str, Open] = {}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnx"):
        from train.torch_graph import TorchGraph

        found["torch"] = partial(TorchGraph, threads=threads)
    found["onnx"] = partial(OnnxEngine, threads=threads)
    if "CUDAExecutionProvider" in ort.get_available_providers():
        found["onnx-cuda"] = partial(OnnxEngine, device="cuda")
    try:
        probe()
    except EngineError:
        return found
    return found | {"tensorrt": newest_plan}


def newest_plan(graph: Path) -> Engine:
    """The graph's plan for this GPU. Raises EngineError where none was built and accepted."""
    gpu, version = probe()
    store, digest = PlanStore(), hashlib.sha256(graph.read_bytes()).hexdigest()
    record = store.newest(digest, gpu, version)
    if record is None or not record.accepted:
        raise EngineError("no plan was built and accepted; run: emocast engine build")
    return TensorRTEngine(store.plan(record))


def bench(
    bundle: str,
    *,
    batches: tuple[int, ...] = (1, 4, 16),
    rounds: int = 15,
    threads: int = 1,
    as_json: bool,
    picture: Path | None,
    backends: Mapping[str, Open] | None = None,
    budget_s: float = BUDGET_S,
    clock: Clock = perf_counter,
    weigh: Weigh = footprint,
) -> int:
    """Measure each graph on each backend, in turns, and print a table or one JSON object.

    Args:
        bundle: A shipped bundle's name, or a bundle folder.
        batches: Throughput is measured at these; latency at 1, which is always measured.
        rounds: Turns of each backend, at least, within the budget.
        threads: Threads inside an operator, of every backend that computes on the CPU.
        as_json: Print the report as JSON.
        picture: Also draw it to this PNG.
        backends: What opens a graph, by name; None is what is here.
        budget_s: Seconds that the timing of one graph may take: a batch that would take longer is left out, and a graph
            whose first calls take longer is timed by them.
        clock: Seconds, from anywhere.
        weigh: Measures load time and memory.

    Returns:
        0, or 1 if some graph ran on no backend.

    Raises:
        BundleError: If the bundle is not valid.
        EngineError: If a batch is not positive, or a picture is asked for without matplotlib.
    """
    if min(batches, default=0) < 1 or rounds < 1:
        raise EngineError(f"expected batches and rounds of 1 or more, got {batches} and {rounds}")
    if picture is not None and not importlib.util.find_spec("matplotlib"):
        raise EngineError("expected matplotlib for a picture, it is not installed; pip install 'emocast[train]'")
    opened = load(bundle)
    openers = dict(default_backends(threads) if backends is None else backends)
    reference = next((name for name in REFERENCES if name in openers), None)
    sizes = tuple(sorted({1, *batches}))
    measuring = _Measuring(reference=reference, sizes=sizes, rounds=rounds, budget_s=budget_s, clock=clock, weigh=weigh)
    rows = []
    with Samples(opened) as samples, Console(stderr=True).status("") as status:
        for stage in opened.manifest.stages:
            status.update(f"{stage}: {', '.join(openers)}")
            rows += measuring.graph(opened, stage, openers, samples)
    report = Report(
        bundle=opened.manifest.name,
        sha256=opened.sha256,
        machine=machine(),
        versions={name: _version(name) for name in ("onnxruntime", "torch", "numpy")},
        threads=threads,
        rounds=rounds,
        budget_s=budget_s,
        reference=reference,
        batches=sizes,
        rows=rows,
        totals=totals(rows, reference),
        notes=measuring.notes,
    )
    _show(report, as_json, picture)
    graphs = {row.graph for row in rows}
    return 0 if graphs == {row.graph for row in rows if row.at} else 1


def _show(report: Report, as_json: bool, picture: Path | None) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        print_table(report)
    if picture is not None:
        from tools.engine.picture import draw_bench

        draw_bench(report, picture)


@dataclass(frozen=True, kw_only=True)
class _Measuring:
    reference: str | None
    sizes: Sequence[int]
    rounds: int
    budget_s: float
    clock: Clock
    weigh: Weigh
    notes: list[str] = field(default_factory=list)

    def graph(self, bundle: Bundle, stage: str, openers: Mapping[str, Open], samples: Samples) -> list[Row]:
        """A row for each backend."""
        rows = {name: Row(graph=stage, backend=name) for name in openers}
        path = bundle.stage(stage)
        engines: dict[str, Engine] = {}
        began = self.clock()
        feeds = samples.feeds(stage, 1)
        fed_s = self.clock() - began
        with ExitStack() as stack:
            for name, opener in openers.items():
                try:
                    engines[name] = stack.enter_context(closing(opener(path)))
                except Exception as error:  # whatever a library raises, it is told in its row
                    self._failed(rows[name], error)
                    continue
                try:
                    rows[name].footprint = self.weigh(name, opener, path, feeds)
                except EngineError as error:
                    self.notes.append(f"{stage} on {name}: memory and load time not measured: {error}")
            self._batches(stage, engines, partial(fed, samples, stage, feeds, fed_s), rows)
        return list(rows.values())

    def _batches(
        self,
        stage: str,
        engines: dict[str, Engine],
        feeds: Callable[[int], Mapping[str, np.ndarray]],
        rows: Mapping[str, Row],
    ) -> None:
        left_s = self.budget_s
        for k, n in enumerate(self.sizes):
            call_s = sum(row.at[1].timing.mean_ms for row in rows.values() if row.at) / 1e3
            if n > 1 and 2 * n * call_s > left_s:  # once to warm up, once timed
                self.notes.append(
                    f"{stage} at batch {n} left out: a call on each backend takes about {n * call_s:.1f} s, and "
                    f"{max(0.0, left_s):.1f} s of its {self.budget_s:g} s are left"
                )
                continue
            share_s = self.budget_s / 2 if n == 1 and len(self.sizes) > 1 else left_s / (len(self.sizes) - k)
            given = feeds(n)
            began = self.clock()
            self._at(n, engines, given, rows, share_s)
            left_s -= self.clock() - began

    def _at(
        self,
        n: int,
        engines: dict[str, Engine],
        feeds: Mapping[str, np.ndarray],
        rows: Mapping[str, Row],
        budget_s: float,
    ) -> None:
        outputs, first_s = {}, {}
        for name in list(engines):
            began = self.clock()
            try:
                outputs[name] = engines[name].run(feeds)
            except Exception as error:  # as above
                self._failed(rows[name], error)
                del engines[name]
            first_s[name] = self.clock() - began
        if not engines:
            return
        calls = {name: partial(engine.run, feeds) for name, engine in engines.items()}
        reference = self.reference if self.reference in engines else None
        if sum(first_s[name] for name in calls) > self.budget_s:
            found = once({name: first_s[name] for name in calls}, reference=reference)
            self.notes.append(
                f"{next(iter(rows.values())).graph}: timed by first calls, which took its {self.budget_s:g} s"
            )
        else:
            found = timed(calls, first_s, reference=reference, rounds=self.rounds, budget_s=budget_s, clock=self.clock)
        for name, timing in found.items():
            apart = None
            if reference is not None:
                apart = max(difference(outputs[name][key], value) for key, value in outputs[reference].items())
                if isinf(apart):  # which JSON has no number for
                    self.notes.append(f"{rows[name].graph} on {name}: outputs of another shape, or not finite")
            rows[name].at[n] = AtBatch(timing=timing, items_per_s=n / timing.mean_ms * 1e3, difference=apart)

    def _failed(self, row: Row, error: Exception) -> None:
        row.error = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self.notes.append(f"{row.graph} on {row.backend} failed: {row.error}")


def fed(samples: Samples, stage: str, one: Mapping[str, np.ndarray], one_s: float, n: int) -> Mapping[str, np.ndarray]:
    """Feeds of n items: all different, or `one` repeated where other graphs would take long to make them."""
    if n * one_s > FED_S:
        return {name: np.repeat(array, n, axis=0) for name, array in one.items()}
    return samples.feeds(stage, n)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
