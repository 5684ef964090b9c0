"""The `onnx` backend: ONNX Runtime on the CPU of any machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine import EngineError, TensorSpec, check_feeds

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxEngine:
    """One graph in one ONNX Runtime session; `run` copies nothing on purpose, its outputs are fresh arrays.

    Args:
        path: The ONNX file.
        threads: Threads inside an operator. One is the default: the line scores small batches beside a decoder and
            a detector. On two cores a second thread took 0.65 of the time while the other core was idle, 1.1 to 1.8
            of it while that was busy (`python -m tools.onnx_options`).

    Raises:
        EngineError: If the file is not a graph that ONNX Runtime loads, or has a tensor type without a name here.
    """

    backend = "onnx"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import onnxruntime as ort

        try:
            session = ort.InferenceSession(path, session_options(threads=threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            raise EngineError(f"expected an ONNX graph at {path}, ONNX Runtime says: {_first_line(error)}") from error
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


def session_options(*, threads: int, spinning: bool = False) -> Any:
    """ONNX Runtime's `SessionOptions` as every session here has them.

    All graph optimisations are worth 1.3 to 1.6 times; the arena and the memory pattern are left on, as they cost
    nothing that could be measured. Threads that spin took up to 2.3 times as long beside a busy core.
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
