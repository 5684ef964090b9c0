"""The CUDA runtime with checked statuses: the device, streams, pinned and device memory, and captured graphs.

Every object has one owner that closes it; closing twice is harmless.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.engine import EngineError

INSTALL = "pip install 'emocast[tensorrt]'"


class CudaError(EngineError):
    """A CUDA call that failed; the text names the call and what CUDA says."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU in use.

    Attributes:
        name: As its driver calls it.
        capability: Compute capability, `9.0` for example.
        memory_bytes: Of the device, in all.
        driver: The newest CUDA version that the driver takes, `13.0` for example.
    """

    name: str
    capability: str
    memory_bytes: int
    driver: str


def checked(result: tuple[Any, ...], call: str) -> Any:
    """The value of a CUDA call; None where it has none, a tuple where it has several.

    Raises:
        CudaError: If its status is not success.
    """
    from cuda.bindings import runtime as cudart

    status, *values = result
    if status != cudart.cudaError_t.cudaSuccess:
        _, text = cudart.cudaGetErrorString(status)
        said = text.decode() if isinstance(text, bytes) else str(text)
        raise CudaError(f"{call} failed: {getattr(status, 'name', status)} ({said})")
    return values[0] if len(values) == 1 else tuple(values) or None


def gpu() -> Gpu:
    """The first GPU that CUDA shows.

    Raises:
        CudaError: If CUDA's bindings, its driver or a GPU is missing; the text says how to get it.
    """
    try:
        from cuda.bindings import runtime as cudart
    except ImportError as error:
        raise CudaError(f"expected CUDA's Python bindings, they are not installed ({error}); run: {INSTALL}") from error
    try:
        n_devices = checked(cudart.cudaGetDeviceCount(), "cudaGetDeviceCount")
    except CudaError as error:
        raise CudaError(
            f"expected an NVIDIA driver of version 580 or newer and a GPU, got: {error}; install the driver "
            "(https://www.nvidia.com/drivers) and see that nvidia-smi lists a GPU"
        ) from error
    if n_devices < 1:
        raise CudaError("expected an NVIDIA GPU, CUDA shows none; see nvidia-smi and CUDA_VISIBLE_DEVICES")
    checked(cudart.cudaSetDevice(0), "cudaSetDevice")
    properties: cudart.cudaDeviceProp = checked(cudart.cudaGetDeviceProperties(0), "cudaGetDeviceProperties")
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    version = checked(cudart.cudaDriverGetVersion(), "cudaDriverGetVersion")
    return Gpu(
        name=name.rstrip("\0"),
        capability=f"{properties.major}.{properties.minor}",
        memory_bytes=int(properties.totalGlobalMem),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def free_bytes() -> int:
    """Memory of the device that nobody holds."""
    from cuda.bindings import runtime as cudart

    free, _ = checked(cudart.cudaMemGetInfo(), "cudaMemGetInfo")
    return int(free)


class Stream:
    """A stream of its own: work on the default stream would wait for everybody else's."""

    def __init__(self) -> None:
        from cuda.bindings import runtime as cudart

        # The device is a setting of the calling thread.
        checked(cudart.cudaSetDevice(0), "cudaSetDevice")
        flags = cudart.cudaStreamNonBlocking
        self._stream: Any = checked(cudart.cudaStreamCreateWithFlags(flags), "cudaStreamCreateWithFlags")

    @property
    def handle(self) -> int:
        """What TensorRT takes for it."""
        return int(self._stream)

    def copy(self, target: int, source: int, n_bytes: int, *, to_device: bool) -> None:
        """Begin to copy between pinned host and device memory."""
        from cuda.bindings import runtime as cudart

        kinds = cudart.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if to_device else kinds.cudaMemcpyDeviceToHost
        checked(cudart.cudaMemcpyAsync(target, source, n_bytes, kind, self._stream), "cudaMemcpyAsync")

    def wait(self) -> None:
        """Until all that was begun is done. Faults of it show here."""
        from cuda.bindings import runtime as cudart

        checked(cudart.cudaStreamSynchronize(self._stream), "cudaStreamSynchronize")

    def capture(self, work: Callable[[], None]) -> "Graph":
        """Record what `work` begins on this stream, instead of doing it.

        Raises:
            EngineError: If it cannot be recorded; the stream can be used as before.
        """
        from cuda.bindings import runtime as cudart

        try:
            return self._captured(work)
        except EngineError:
            cudart.cudaGetLastError()  # or the next call would report this failure again
            raise

    def _captured(self, work: Callable[[], None]) -> "Graph":
        from cuda.bindings import runtime as cudart

        # Of this thread alone: other threads may allocate meanwhile.
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(self._stream, mode), "cudaStreamBeginCapture")
        graph: Any = None
        try:
            try:
                work()
            finally:  # also after a failure, or the stream stays in capture mode for ever
                status, graph = cudart.cudaStreamEndCapture(self._stream)
            checked((status, graph), "cudaStreamEndCapture")
            ready = checked(cudart.cudaGraphInstantiate(graph, 0), "cudaGraphInstantiate")
        finally:
            if graph is not None and int(graph):
                cudart.cudaGraphDestroy(graph)
        captured = Graph(ready, self)
        try:
            checked(cudart.cudaGraphUpload(ready, self._stream), "cudaGraphUpload")
        except CudaError:
            captured.close()
            raise
        return captured

    def close(self) -> None:
        from cuda.bindings import runtime as cudart

        if self._stream is not None:
            stream, self._stream = self._stream, None
            cudart.cudaStreamDestroy(stream)


class Graph:
    """Recorded work that one call begins again, on the same addresses."""

    def __init__(self, ready: Any, stream: Stream) -> None:
        self._ready, self._stream = ready, stream

    def launch(self) -> None:
        """Begin it on the stream that it was recorded on."""
        from cuda.bindings import runtime as cudart

        checked(cudart.cudaGraphLaunch(self._ready, self._stream._stream), "cudaGraphLaunch")

    def close(self) -> None:
        from cuda.bindings import runtime as cudart

        if self._ready is not None:
            ready, self._ready = self._ready, None
            cudart.cudaGraphExecDestroy(ready)


class Pair:
    """An array in pinned host memory, and as much memory on the device; copies between them run beside the CPU.

    Attributes:
        host: (…) of the dtype and shape asked for, in pinned memory; not to be used once closed.
        device: Address on the device.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        from cuda.bindings import runtime as cudart

        self.n_bytes = int(np.prod(shape)) * dtype.itemsize
        self._pinned: Any = checked(cudart.cudaMallocHost(self.n_bytes), "cudaMallocHost")
        try:
            self.device = int(checked(cudart.cudaMalloc(self.n_bytes), "cudaMalloc"))
        except CudaError:
            cudart.cudaFreeHost(self._pinned)
            raise
        # As bytes first: ctypes has no float16.
        pointer = ctypes.cast(int(self._pinned), ctypes.POINTER(ctypes.c_uint8))
        self.host = np.ctypeslib.as_array(pointer, (self.n_bytes,)).view(dtype).reshape(shape)
        self.host[...] = 0

    @property
    def pinned(self) -> int:
        """Address of `host`."""
        return int(self._pinned)

    def close(self) -> None:
        from cuda.bindings import runtime as cudart

        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            cudart.cudaFree(self.device)
            cudart.cudaFreeHost(pinned)
