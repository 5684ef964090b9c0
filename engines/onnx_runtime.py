"""The `onnx` backend: ONNX Runtime on the CPU of any machine, or on a GPU by its own CUDA provider."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine import EngineError, TensorSpec, check_feeds

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32 keeps 11 bits of a product, which is no float32; and the exhaustive search for an algorithm, ONNX Runtime's
# default, runs anew at each new batch size, in the middle of a stream.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


class OnnxEngine:
    """One graph in one ONNX Runtime session; `run` copies nothing on purpose, its outputs are fresh arrays.

    OpenVINO 2026.4 is no backend: it ran the float32 graphs in 1.0 to 1.1 times the time, with bfloat16 inside in 0.6,
    where `default-int8` takes 0.3 (face) to 0.45 (voice) in ONNX Runtime, and 1.1 to 1.2 times that in OpenVINO.
    Inputs and outputs are not bound ahead: bound ones took 0.97 to 1.00 of an encoder's time, and belong to nobody.
    Checking feeds is 2 of the 14 microseconds that the smallest graph takes.

    Args:
        path: The ONNX file.
        threads: Threads inside an operator. One is the default: the line scores small batches beside a decoder and
            a detector. On two cores a second thread took 0.65 of the time while the other core was idle, 1.1 to 1.8
            of it while that was busy (`python -m tools.measure.onnx_options`).
        device: `cpu`, or `cuda` for ONNX Runtime's CUDA provider.

    Raises:
        EngineError: If the file is not a graph that ONNX Runtime loads, has a tensor type without a name here, or
            the device is unknown or is not what would run it.
    """

    backend = "onnx"

    def __init__(self, path: Path, *, threads: int = 1, device: str = "cpu") -> None:
        import onnxruntime as ort

        check_device(device, ort.get_available_providers())
        if device == "cuda":
            with redirect_stdout(sys.stderr):  # it prints what it does not find
                ort.preload_dlls()  # the CUDA and cuDNN libraries that pip installed
        providers = [_PROVIDERS[device] if device == "cpu" else (_PROVIDERS[device], _CUDA_OPTIONS)]
        options = session_options(threads=threads)
        try:
            # Without `enable_fallback=0` a failing provider is replaced by the CPU, at creation or in a later run.
            session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            raise EngineError(f"expected an ONNX graph at {path}, ONNX Runtime says: {_first_line(error)}") from error
        # A provider whose libraries do not load is left out without an error, and the CPU runs the graph.
        check_device(device, session.get_providers()[:1])
        self.device = device
        self._session: Any = session
        self.inputs = tuple(_spec(node, path) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, path) for node in session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError("expected an open engine, this one was closed")
        check_feeds(self.inputs, feeds)
        try:
            values = self._session.run(self._output_names, dict(feeds))
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed to run the graph: {_first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        self._session = None


def check_device(device: str, providers: Sequence[str]) -> None:
    """Hold a device against the providers that ONNX Runtime has, or that a session runs on.

    Raises:
        EngineError: If the device is unknown, or its provider is none of these.
    """
    if device not in _PROVIDERS:
        raise EngineError(f"expected a device of {', '.join(_PROVIDERS)}, got {device!r}")
    if _PROVIDERS[device] not in providers:
        raise EngineError(
            f"expected {_PROVIDERS[device]} for device {device!r}, ONNX Runtime has {', '.join(providers)}; needs an "
            "NVIDIA GPU with its driver, and: pip uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )


def session_options(*, threads: int, spinning: bool = False) -> Any:
    """ONNX Runtime's `SessionOptions` as every session here has them.

    On the default bundle's encoders at batch 1 (`python -m tools.measure.onnx_options`): without all graph
    optimisations 1.3 to 1.6 times as long, with branches side by side 1.8 to 2.0 times. Arena, memory pattern, packed
    weights and denormals as zero made 0.99 to 1.01 and are left as ONNX Runtime has them. A graph loads in 8 ms, half
    of it optimisation, so none is kept optimised. Threads that spin took up to 2.3 times as long beside a busy core.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # A spinning pool takes the core that decoding and detection need between two hops.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def _spec(node: Any, path: Path) -> TensorSpec:
    if node.type not in _DTYPES:
        raise EngineError(f"expected tensors of {', '.join(_DTYPES)} in {path}, {node.name} is {node.type}")
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=tuple(node.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
