"""Which backend runs a bundle: what was asked for, or a refusal that lists what is here."""

from pathlib import Path

from engines.engine import Engine, EngineError
from engines.onnx_runtime import OnnxEngine

BACKENDS = ("auto", "onnx", "tensorrt")


def choose(backend: str) -> tuple[str, str]:
    """The backend to use and why, for `auto` or one by name.

    Raises:
        EngineError: If the name is unknown or that backend is not available.
    """
    if backend not in BACKENDS:
        raise EngineError(f"expected an engine of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "tensorrt":
        raise EngineError("engine 'tensorrt' is not available in this version; available: onnx")
    why = "asked for" if backend == "onnx" else "auto: the TensorRT backend is not part of this version"
    return "onnx", why


def open_engine(backend: str, graph: Path, *, threads: int = 1) -> Engine:
    """An engine for one graph on a backend that `choose` returned.

    Raises:
        EngineError: If the graph cannot be loaded.
    """
    if backend == "onnx":
        return OnnxEngine(graph, threads=threads)
    raise EngineError(f"expected a chosen backend, got {backend!r}; available: onnx")
