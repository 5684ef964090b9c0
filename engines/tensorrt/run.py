"""The `tensorrt` backend: one compiled graph on a GPU, with everything allocated and recorded before the first call."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.engine import EngineError, TensorSpec, check_feeds
from engines.tensorrt.cuda import Graph, Pair, Stream
from engines.tensorrt.library import failed, logger

if TYPE_CHECKING:
    import tensorrt as trt

BATCH = "batch"


class TensorRTEngine:
    """Runs a plan. Any thread may call `run`; calls wait for each other. Outputs belong to the caller.

    For each batch size of its profiles it holds an execution context, a stream, pinned and device buffers, and a CUDA
    graph of the copies and kernels. A batch is padded to the next size; what exceeds the largest runs in parts.

    Args:
        plan: As the builder made it, for this version of TensorRT and this GPU.
        capture: Whether to record CUDA graphs; where one cannot be recorded, its batch size runs without.

    Attributes:
        batches: Sizes of its profiles, ascending.
        n_captured: How many of them run as a CUDA graph.
        not_captured: Why the others do not; empty where all do.

    Raises:
        EngineError: If the plan does not load here, memory is short, or a shape is not fixed by the batch.
    """

    backend = "tensorrt"

    def __init__(self, plan: bytes, *, capture: bool = True) -> None:
        import tensorrt as trt

        self._lock = threading.Lock()
        self._life = ExitStack()  # closes in reverse: graphs, contexts, buffers and streams, then the engine
        runtime = trt.Runtime(logger())
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise failed("the plan does not load (another version, another GPU, or damaged); build it again")
        self._engine: trt.ICudaEngine | None = engine
        try:
            names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
            modes = {name: engine.get_tensor_mode(name) for name in names}
            self.inputs = tuple(_spec(engine, name) for name in names if modes[name] == trt.TensorIOMode.INPUT)
            self.outputs = tuple(_spec(engine, name) for name in names if modes[name] == trt.TensorIOMode.OUTPUT)
            sizes = [
                int(engine.get_tensor_profile_shape(self.inputs[0].name, k)[1][0])
                for k in range(engine.num_optimization_profiles)
            ]
            profiles = sorted((size, k) for k, size in enumerate(sizes))
            self._slots = {size: self._slot(engine, k, size, capture) for size, k in profiles}
        except BaseException:
            self.close()
            raise
        self.batches = tuple(self._slots)
        self.n_captured = sum(slot.graph is not None for slot in self._slots.values())
        reasons = {slot.not_captured for slot in self._slots.values() if slot.not_captured}
        self.not_captured = "; ".join(sorted(reasons))

    def _slot(self, engine: "trt.ICudaEngine", profile: int, size: int, capture: bool) -> "_Slot":
        slot = _Slot(engine, profile, size, self.inputs, self.outputs)
        self._life.callback(slot.close)
        slot.open(capture=capture)
        return slot

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            if self._engine is None:
                raise EngineError("expected an open engine, this one was closed")
            check_feeds(self.inputs, feeds)
            n = len(feeds[self.inputs[0].name])
            largest = self.batches[-1]
            parts = [
                self._part({name: array[at : at + largest] for name, array in feeds.items()})
                for at in range(0, max(n, 1), largest)
            ]
        if len(parts) == 1:
            return parts[0]
        return {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in self.outputs}

    def _part(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        n = len(feeds[self.inputs[0].name])
        return self._slots[next(size for size in self.batches if size >= n)].run(feeds, n)

    def close(self) -> None:
        with self._lock:
            self._life.close()
            self._slots = {}
            self._engine = None


class _Slot:
    """One batch size: its context and buffers belong to nobody else, since a CUDA graph freezes their addresses."""

    def __init__(
        self,
        engine: "trt.ICudaEngine",
        profile: int,
        size: int,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self._engine, self._profile, self._size = engine, profile, size
        self._inputs, self._outputs = inputs, outputs
        self._life = ExitStack()
        self._pairs: dict[str, Pair] = {}
        self.graph: Graph | None = None
        self.not_captured = ""

    def open(self, *, capture: bool) -> None:
        """Allocate, run once, and record. What was allocated goes with `close`, also after a failure."""
        self._stream = Stream()
        self._life.callback(self._stream.close)
        context = self._engine.create_execution_context()
        if context is None:
            raise failed(f"no execution context for batch {self._size}; is the GPU's memory full?")
        self._context: trt.IExecutionContext | None = context
        self._life.callback(self._forget_context)
        if not context.set_optimization_profile_async(self._profile, self._stream.handle):
            raise failed(f"the profile of batch {self._size} was refused")
        self._stream.wait()
        self._bind(context)
        self._begin()
        self._stream.wait()  # kernels load at the first run, which cannot be recorded
        if capture:
            self._capture()

    def _bind(self, context: "trt.IExecutionContext") -> None:
        for spec in self._inputs:
            if not context.set_input_shape(spec.name, (self._size, *_fixed(spec))):
                raise failed(f"{spec} was refused at batch {self._size}; build the plan again")
        if missing := context.infer_shapes():
            raise failed(f"the shapes of {', '.join(missing)} are not known at batch {self._size}")
        for spec in (*self._inputs, *self._outputs):
            shape = tuple(context.get_tensor_shape(spec.name))
            if min(shape, default=0) < 0:
                raise failed(f"the shape of {spec.name} depends on values, {shape} at batch {self._size}")
            pair = Pair(shape, np.dtype(spec.dtype))
            self._life.callback(pair.close)
            self._pairs[spec.name] = pair
            if not context.set_tensor_address(spec.name, pair.device):
                raise failed(f"the address of {spec.name} was refused")

    def _begin(self) -> None:
        for spec in self._inputs:
            pair = self._pairs[spec.name]
            self._stream.copy(pair.device, pair.pinned, pair.n_bytes, to_device=True)
        if self._context is None or not self._context.execute_async_v3(self._stream.handle):
            raise failed(f"batch {self._size} could not be started")
        for spec in self._outputs:
            pair = self._pairs[spec.name]
            self._stream.copy(pair.pinned, pair.device, pair.n_bytes, to_device=False)

    def _capture(self) -> None:
        try:
            self.graph = self._stream.capture(self._begin)
        except EngineError as error:
            self.not_captured = f"no CUDA graph at batch {self._size}: {error}"
            return
        self._life.callback(self.graph.close)

    def run(self, feeds: Mapping[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
        """Outputs of `n` items, at most as many as the batch. The rest of the batch keeps what it held before."""
        for spec in self._inputs:
            self._pairs[spec.name].host[:n] = feeds[spec.name]
        begin: Callable[[], None] = self._begin if self.graph is None else self.graph.launch
        try:
            begin()
        finally:  # also after a failure: what was begun writes to these buffers
            self._stream.wait()
        return {spec.name: self._pairs[spec.name].host[:n].copy() for spec in self._outputs}

    def _forget_context(self) -> None:
        self._context = None

    def close(self) -> None:
        self._life.close()  # graph, buffers, context, stream: the reverse of how they were made


def _spec(engine: "trt.ICudaEngine", name: str) -> TensorSpec:
    import tensorrt as trt

    shape = tuple(int(size) for size in engine.get_tensor_shape(name))
    free: tuple[int | str, ...] = tuple(BATCH if k == 0 else size for k, size in enumerate(shape))
    if not shape or min(shape[1:], default=0) < 0:
        raise EngineError(f"expected a free batch axis alone, {name} is {shape}; export the bundle again")
    dtype: Any = trt.nptype(engine.get_tensor_dtype(name))
    return TensorSpec(name=name, dtype=np.dtype(dtype).name, shape=free)


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(int(size) for size in spec.shape[1:])
