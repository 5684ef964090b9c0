"""A CUDA runtime without a GPU, under the real one's names: memory is the machine's own, streams are lists of work.

What is begun on a stream happens when the stream is waited for, so that whoever forgets to wait sees old values. All
that is made is counted until it is given back. `fail` makes calls fail, also in another process through the variable
FAKE_GPU_FAILURES, a JSON object of name to (which call, status).
"""

import ctypes
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


cudaStreamNonBlocking = 1
SUCCESS = cudaError_t.cudaSuccess
Work = Callable[[], None]

_lock = threading.RLock()
_memory: dict[int, tuple[str, Any]] = {}  # address to its kind and what holds it
_streams: dict[int, "Stream"] = {}
_graphs: dict[int, list[Work]] = {}
_made: Counter[str] = Counter()
_failures: dict[str, tuple[int, int]] = {}
_calls: Counter[str] = Counter()
_last_error = [SUCCESS]
_next = [1 << 12]
n_devices = 1


class Stream:
    def __init__(self) -> None:
        self.work: list[Work] = []
        self.recording: list[Work] | None = None
        self.broken = False

    def add(self, work: Work) -> None:
        (self.work if self.recording is None else self.recording).append(work)


class Properties:
    name = b"Fake GPU\0\0"
    major, minor, totalGlobalMem = 9, 0, 8 << 30


def fail(name: str, *, nth: int = 1, status: cudaError_t = cudaError_t.cudaErrorInvalidValue) -> None:
    """The nth call of a name from now on fails; 0 is every one."""
    _failures[name] = (nth + _calls[name] if nth else 0, int(status))


def reset() -> None:
    """As new: no failures asked for, nothing made."""
    for kept in (_memory, _streams, _graphs, _made, _failures, _calls):
        kept.clear()
    _last_error[0] = SUCCESS
    _failures.update(
        {name: tuple(what) for name, what in json.loads(os.environ.get("FAKE_GPU_FAILURES", "{}")).items()}
    )


def left() -> dict[str, int]:
    """What was made and not given back, by kind; empty when all was."""
    return {kind: n for kind, n in _made.items() if n}


def stream_of(handle: int) -> Stream:
    return _streams[handle]


def fails(name: str) -> bool:
    """Whether this call of a name is one that shall fail; counts it."""
    with _lock:
        _calls[name] += 1
        nth, _ = _failures.get(name, (-1, 0))
        return nth in (0, _calls[name])


def _status(name: str) -> cudaError_t:
    if not fails(name):
        return SUCCESS
    _last_error[0] = cudaError_t(_failures[name][1])
    return _last_error[0]


def _handle() -> int:
    with _lock:
        _next[0] += 256
        return _next[0]


def cudaGetErrorString(error: cudaError_t) -> tuple[cudaError_t, bytes]:
    return SUCCESS, f"fake text of {error.name}".encode()


def cudaGetDeviceCount() -> tuple[Any, ...]:
    status = _status("cudaGetDeviceCount")
    return (status, None) if status else (SUCCESS, n_devices)


def cudaSetDevice(device: int) -> tuple[cudaError_t]:
    assert device == 0
    return (_status("cudaSetDevice"),)


def cudaGetDeviceProperties(device: int) -> tuple[Any, ...]:
    return SUCCESS, Properties()


def cudaDriverGetVersion() -> tuple[Any, ...]:
    return SUCCESS, 13000


def cudaMemGetInfo() -> tuple[Any, ...]:
    used = sum(len(block) for kind, block in _memory.values() if kind == "device memory")
    return SUCCESS, Properties.totalGlobalMem - used, Properties.totalGlobalMem


def cudaGetLastError() -> tuple[cudaError_t]:
    error, _last_error[0] = _last_error[0], SUCCESS
    return (error,)


def last_error() -> cudaError_t:
    """What `cudaGetLastError` would say, without clearing it."""
    return _last_error[0]


def cudaStreamCreateWithFlags(flags: int) -> tuple[Any, ...]:
    if status := _status("cudaStreamCreateWithFlags"):
        return status, None
    assert flags == cudaStreamNonBlocking
    handle = _handle()
    _streams[handle] = Stream()
    _made["stream"] += 1
    return SUCCESS, handle


def cudaStreamDestroy(stream: int) -> tuple[cudaError_t]:
    del _streams[stream]
    _made["stream"] -= 1
    return (SUCCESS,)


def cudaStreamSynchronize(stream: int) -> tuple[cudaError_t]:
    made = _streams[stream]
    if made.recording is not None:
        made.broken = True
        return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
    work, made.work = made.work, []
    for one in work:
        one()
    return (_status("cudaStreamSynchronize"),)


def cudaStreamBeginCapture(stream: int, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
    if status := _status("cudaStreamBeginCapture"):
        return (status,)
    assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert not _streams[stream].work, "work was left on the stream when the capture began"
    _streams[stream].recording = []
    return (SUCCESS,)


def cudaStreamEndCapture(stream: int) -> tuple[Any, ...]:
    made = _streams[stream]
    work, made.recording = made.recording, None
    status = _status("cudaStreamEndCapture")
    if made.broken or status:
        made.broken = False
        _last_error[0] = status or cudaError_t.cudaErrorStreamCaptureInvalidated
        return _last_error[0], None
    assert work is not None
    graph = _handle()
    _graphs[graph] = work
    _made["graph"] += 1
    return SUCCESS, graph


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[Any, ...]:
    if status := _status("cudaGraphInstantiate"):
        return status, None
    ready = _handle()
    _graphs[ready] = list(_graphs[graph])
    _made["ready graph"] += 1
    return SUCCESS, ready


def cudaGraphDestroy(graph: int) -> tuple[cudaError_t]:
    del _graphs[graph]
    _made["graph"] -= 1
    return (SUCCESS,)


def cudaGraphUpload(ready: int, stream: int) -> tuple[cudaError_t]:
    assert ready in _graphs
    assert stream in _streams
    return (_status("cudaGraphUpload"),)


def cudaGraphLaunch(ready: int, stream: int) -> tuple[cudaError_t]:
    if status := _status("cudaGraphLaunch"):
        return (status,)
    _streams[stream].work.extend(_graphs[ready])
    return (SUCCESS,)


def cudaGraphExecDestroy(ready: int) -> tuple[cudaError_t]:
    del _graphs[ready]
    _made["ready graph"] -= 1
    return (SUCCESS,)


def _allocate(name: str, kind: str, size: int) -> tuple[Any, ...]:
    if status := _status(name):
        return status, None
    block = ctypes.create_string_buffer(b"\xaa" * size, size)  # not zeros: what was not written is seen
    address = ctypes.addressof(block)
    _memory[address] = (kind, block)
    _made[kind] += 1
    return SUCCESS, address


def cudaMallocHost(size: int) -> tuple[Any, ...]:
    return _allocate("cudaMallocHost", "pinned memory", size)


def cudaMalloc(size: int) -> tuple[Any, ...]:
    return _allocate("cudaMalloc", "device memory", size)


def _free(kind: str, address: int) -> tuple[cudaError_t]:
    held, _ = _memory.pop(address)
    assert held == kind
    _made[kind] -= 1
    return (SUCCESS,)


def cudaFreeHost(address: int) -> tuple[cudaError_t]:
    return _free("pinned memory", address)


def cudaFree(address: int) -> tuple[cudaError_t]:
    return _free("device memory", address)


def cudaMemcpyAsync(target: int, source: int, size: int, kind: int, stream: int) -> tuple[cudaError_t]:
    if status := _status("cudaMemcpyAsync"):
        return (status,)
    kinds = ("device memory", "pinned memory")
    expected = kinds if kind == cudaMemcpyKind.cudaMemcpyHostToDevice else kinds[::-1]
    assert (_memory[target][0], _memory[source][0]) == expected
    _streams[stream].add(lambda: ctypes.memmove(target, source, size) and None)
    return (SUCCESS,)


reset()
