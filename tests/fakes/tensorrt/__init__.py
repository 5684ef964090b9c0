"""A TensorRT without a GPU, under the real one's names: a plan carries its ONNX graph, and ONNX Runtime runs it.

It keeps the rules that the real one has: profiles, shapes that must be set, addresses, plans of one version. `fail`
of the fake CUDA runtime beside it makes its calls fail, too.
"""

import ctypes
import json
import os
import weakref
from collections import Counter
from enum import IntEnum
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from cuda.bindings import runtime as _gpu

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "11.4.0.106")
MAGIC = b"FAKEPLAN"
alive: Counter[str] = Counter()  # runtimes, engines and contexts that somebody still holds


class _Counted:
    def __init__(self) -> None:
        kind = type(self).__name__
        alive[kind] += 1
        weakref.finalize(self, _gone, kind)


def _gone(kind: str) -> None:
    alive[kind] -= 1


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: "ILogger.Severity", msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 0


class BuilderFlag(IntEnum):
    TF32 = 7


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


_NUMPY = {
    DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32, DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8, DataType.INT64: np.int64,
}  # fmt: skip
_OF_ONNX = {1: DataType.FLOAT, 10: DataType.HALF, 6: DataType.INT32, 7: DataType.INT64, 2: DataType.UINT8}


def nptype(dtype: DataType) -> Any:
    if dtype not in _NUMPY:
        raise TypeError(f"could not resolve TensorRT datatype {dtype} to an equivalent numpy datatype")
    return _NUMPY[dtype]


class _Tensor:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.dtype = _OF_ONNX[value.type.tensor_type.elem_type]
        dims = value.type.tensor_type.shape.dim
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


class _Network:
    def __init__(self) -> None:
        self.graph = b""
        self.inputs: list[_Tensor] = []
        self.outputs: list[_Tensor] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (min, opt, max)


class _TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"."


class _Config:
    def __init__(self) -> None:
        self.profiles: list[_Profile] = []
        self.flags_on = {BuilderFlag.TF32}
        self.workspace = 1 << 40
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self.timing: _TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags_on.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        if not _gpu.fails("set_memory_pool_limit"):
            self.workspace = pool_size

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self.workspace

    def add_optimization_profile(self, profile: _Profile) -> int:
        if _gpu.fails("add_optimization_profile"):
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _TimingCache:
        return _TimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content.strip(b"."):
            return False  # of somebody else
        self.timing = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self.timing


class _ParserError:
    def __init__(self, operator: str, text: str) -> None:
        self._operator, self._text = operator, text

    def node_operator(self) -> str:
        return self._operator

    def node_name(self) -> str:
        return "node_1"

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._errors = network, list[_ParserError]()

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        if _gpu.fails("parse"):
            self._errors.append(_ParserError("NonZero", "no importer\nfor it"))
            return False
        made = onnx.load_from_string(model)
        weights = {tensor.name for tensor in made.graph.initializer}
        self._network.graph = model
        self._network.inputs = [_Tensor(v) for v in made.graph.input if v.name not in weights]
        self._network.outputs = [_Tensor(v) for v in made.graph.output]
        return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> _Network | None:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return None if _gpu.fails("create_network") else _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        assert BuilderFlag.TF32 not in config.flags_on
        if _gpu.fails("crash"):
            os.abort()
        if monitor := config.progress_monitor:
            monitor.phase_start("Building Engine", "", 2)
            for step in range(2):
                assert monitor.step_complete("Building Engine", step)
            monitor.phase_finish("Building Engine")
        if _gpu.fails("build_serialized_network"):
            self._logger.log(ILogger.Severity.ERROR, "no implementation for node_1\nwithin the workspace")
            return None
        for profile in config.profiles:
            assert set(profile.shapes) == {tensor.name for tensor in network.inputs}
        header = {
            "version": __version__,
            "tensors": [[t.name, int(t.dtype), t.shape, t in network.inputs] for t in network.inputs + network.outputs],
            "profiles": [profile.shapes for profile in config.profiles],
            "wrong": _gpu.fails("wrong"),
        }
        packed = json.dumps(header).encode()
        return MAGIC + len(packed).to_bytes(4, "little") + packed + network.graph


class Runtime(_Counted):
    def __init__(self, logger: ILogger) -> None:
        super().__init__()
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        if _gpu.fails("deserialize_cuda_engine") or not serialized_engine.startswith(MAGIC):
            self.logger.log(ILogger.Severity.ERROR, "magic tag does not match")
            return None
        start = len(MAGIC) + 4
        size = int.from_bytes(serialized_engine[len(MAGIC) : start], "little")
        header = json.loads(serialized_engine[start : start + size])
        if header["version"] != __version__:
            self.logger.log(ILogger.Severity.ERROR, f"the engine plan file is of version {header['version']}")
            return None
        return ICudaEngine(self, header, serialized_engine[start + size :])


class ICudaEngine(_Counted):
    def __init__(self, runtime: Runtime, header: dict[str, Any], graph: bytes) -> None:
        super().__init__()
        self.runtime, self.profiles, self.wrong = runtime, header["profiles"], header["wrong"]
        self.tensors = {name: (DataType(kind), tuple(shape), used) for name, kind, shape, used in header["tensors"]}
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    num_io_tensors = property(lambda self: len(self.tensors))
    num_optimization_profiles = property(lambda self: len(self.profiles))

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self.tensors[name][2] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name][0]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.profiles[profile_index][name]]

    def create_execution_context(self) -> "IExecutionContext | None":
        if _gpu.fails("create_execution_context"):
            self.runtime.logger.log(ILogger.Severity.ERROR, "out of memory")
            return None
        return IExecutionContext(self)


class IExecutionContext(_Counted):
    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__()
        self.engine = engine
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if _gpu.fails("set_optimization_profile_async"):
            return False
        self.profile = profile_index
        return profile_index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        if _gpu.fails("set_input_shape") or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            self.engine.runtime.logger.log(ILogger.Severity.ERROR, f"{shape} is not in the profile")
            return False
        self.shapes[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        if _gpu.fails("infer_shapes"):
            return ["crop"]
        return [n for n, (_, _, used) in self.engine.tensors.items() if used and n not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        batch = next(iter(self.shapes.values()))[0]
        shape = self.engine.tensors[name][1]
        return (-1,) if _gpu.fails("get_tensor_shape") else tuple(batch if d < 0 else d for d in shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return not _gpu.fails("set_tensor_address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = _gpu.stream_of(stream_handle)
        if _gpu.fails("execute_async_v3") or (stream.recording is not None and _gpu.fails("captured execute")):
            self.engine.runtime.logger.log(ILogger.Severity.ERROR, "enqueue failed")
            return False
        assert set(self.addresses) == set(self.engine.tensors)
        stream.add(self._compute)
        return True

    def _compute(self) -> None:
        def view(name: str) -> np.ndarray:
            shape, dtype = self.get_tensor_shape(name), np.dtype(nptype(self.engine.tensors[name][0]))
            size = int(np.prod(shape)) * dtype.itemsize
            block = (ctypes.c_uint8 * size).from_address(self.addresses[name])
            return np.frombuffer(block, np.uint8).view(dtype).reshape(shape)

        names = [node.name for node in self.engine.session.get_outputs()]
        feeds = {node.name: view(node.name) for node in self.engine.session.get_inputs()}
        for name, values in zip(names, self.engine.session.run(names, feeds), strict=True):
            view(name)[...] = values + 1 if self.engine.wrong else values
