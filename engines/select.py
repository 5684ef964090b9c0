"""Which backend runs a bundle: what was asked for, or a refusal that says what is missing."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from engines.bundle import Bundle
from engines.engine import Engine, EngineError
from engines.fallback import Fallback
from engines.onnx_runtime import OnnxEngine
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import Progress, compiled
from engines.tensorrt.cuda import Gpu
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore, Record
from engines.tensorrt.run import TensorRTEngine

BACKENDS = ("auto", "onnx", "tensorrt")
_log = logging.getLogger("emocast")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What runs a bundle, and why: `asked for`, or what `auto` found. `records` are its plans, by stage."""

    backend: str
    why: str
    records: Mapping[str, Record]


class Engines:
    """The engines of one or more sessions: chosen once for each bundle, opened once for each graph, and shared.

    Used with `with`, or closed. One thread at a time opens; any thread may run what was opened.

    Args:
        backend: `auto`, `onnx` or `tensorrt`.
        threads: Threads inside an operator, on a CPU.
        device: `cpu` or `cuda`: where ONNX Runtime runs.
        store: Plans; None is the one in the user's cache.
        progress: Told of plans that are built because `tensorrt` was asked for.

    Raises:
        EngineError: If the name is unknown.
    """

    def __init__(
        self,
        backend: str = "auto",
        *,
        threads: int = 1,
        device: str = "cpu",
        store: PlanStore | None = None,
        progress: Progress | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise EngineError(f"expected an engine of {', '.join(BACKENDS)}, got {backend!r}")
        self._backend, self._threads, self._device = backend, threads, device
        self._store, self._progress = store or PlanStore(), progress
        self._choices: dict[str, Choice] = {}
        self._opened: dict[tuple[str, str], Engine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def choose(self, bundle: Bundle) -> Choice:
        """What runs a bundle. `tensorrt` builds what was never built; `auto` builds nothing.

        Raises:
            EngineError: If the backend that was asked for by name cannot run it.
        """
        if bundle.sha256 not in self._choices:
            self._choices[bundle.sha256] = self._choose(bundle)
        return self._choices[bundle.sha256]

    def _choose(self, bundle: Bundle) -> Choice:
        if self._backend == "onnx":
            return Choice(backend="onnx", why="asked for", records={})
        try:
            gpu, version = probe()
        except EngineError as error:
            if self._backend == "tensorrt":
                raise EngineError(f"engine 'tensorrt' is not available: {error}; available: onnx") from error
            _log.info("engine onnx: %s", error)
            return Choice(backend="onnx", why=f"auto: {error}", records={})
        try:
            records = {stage: self._record(bundle, stage, gpu, version) for stage in bundle.manifest.stages}
        except EngineError as error:
            if self._backend == "tensorrt":
                raise
            _log.warning("engine onnx, though there is a GPU: %s", error)
            return Choice(backend="onnx", why=f"auto: {error}", records={})
        why = "asked for" if self._backend == "tensorrt" else "auto: every graph has an accepted plan"
        return Choice(backend="tensorrt", why=why, records=records)

    def _record(self, bundle: Bundle, stage: str, gpu: Gpu, version: str) -> Record:
        graph = hashlib.sha256(bundle.stage(stage).read_bytes()).hexdigest()
        record = self._store.newest(graph, gpu, version)
        if record is None and self._backend == "tensorrt":
            options = BuildOptions()
            record = compiled(bundle, stage, options, self._store, gpu=gpu, tensorrt=version, progress=self._progress)
        if record is None:
            raise EngineError(
                f"no plan of {bundle.manifest.name}'s {stage} is built for {gpu.name} and TensorRT {version}; run: "
                f"emocast engine build {_named(bundle)}"
            )
        if not record.accepted:
            raise EngineError(
                f"the plan of {bundle.manifest.name}'s {stage} was not accepted: it {record.why}; run: "
                f"emocast engine verify {_named(bundle)}"
            )
        return record

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """The engine of a graph; it stays open until `close` of this object, also when its user closes it.

        Raises:
            EngineError: If the graph cannot be loaded.
        """
        key = (bundle.sha256, stage)
        if key not in self._opened:
            self._opened[key] = self._open(bundle, stage)
        return _Shared(self._opened[key])

    def _open(self, bundle: Bundle, stage: str) -> Engine:
        def onnx() -> Engine:
            return OnnxEngine(bundle.stage(stage), threads=self._threads, device=self._device)

        choice = self.choose(bundle)
        if choice.backend == "onnx":
            return onnx()
        try:
            engine = TensorRTEngine(self._store.plan(choice.records[stage]))
        except EngineError as error:
            if self._backend == "tensorrt":
                return self._rebuilt(bundle, stage, choice.records[stage])
            why = f"auto: the plan of {stage} does not load ({error}); run: emocast engine build {_named(bundle)}"
            _log.warning("engine onnx, though there is a GPU: %s", why)
            self._choices[bundle.sha256] = Choice(backend="onnx", why=why, records={})
            return onnx()
        if engine.not_captured:
            _log.warning("%s: %s", stage, engine.not_captured)
        return engine if self._backend == "tensorrt" else Fallback(engine, onnx, name=stage)

    def _rebuilt(self, bundle: Bundle, stage: str, record: Record) -> Engine:
        gpu, version = probe()
        made = compiled(
            bundle, stage, record.key.options, self._store, gpu=gpu, tensorrt=version, progress=self._progress
        )
        if not made.accepted:
            raise EngineError(f"the plan of {stage} was not accepted: it {made.why}")
        return TensorRTEngine(self._store.plan(made))

    def state(self, bundle: Bundle) -> tuple[str, str]:
        """What runs a bundle now, and why; changes when a graph's engine fails and another takes over."""
        choice = self.choose(bundle)
        for (owner, _), engine in self._opened.items():
            if owner == bundle.sha256 and isinstance(engine, Fallback) and engine.why:
                return engine.backend, engine.why
        return choice.backend, choice.why

    def close(self) -> None:
        """Close every engine. Closing twice is harmless."""
        for engine in self._opened.values():
            engine.close()
        self._opened.clear()


class _Shared:
    """An engine for one of its users: closed for them alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._open = engine, True
        self.inputs, self.outputs = engine.inputs, engine.outputs

    @property
    def backend(self) -> str:
        return self._engine.backend

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not self._open:
            raise EngineError("expected an open engine, this one was closed")
        return self._engine.run(feeds)

    def close(self) -> None:
        self._open = False


def _named(bundle: Bundle) -> str:
    return bundle.manifest.name if bundle.shipped else str(bundle.folder)
