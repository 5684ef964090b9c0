"""One run of a graph in memory by ONNX Runtime."""

from collections.abc import Mapping

import numpy as np

from engines.engine import EngineError
from engines.onnx_runtime import session_options
from engines.precision.graph import first_line


def outputs(graph: bytes, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a graph by name, on all cores. Raises EngineError where ONNX Runtime cannot run it."""
    import onnxruntime as ort

    try:
        session = ort.InferenceSession(graph, session_options(threads=0), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feed)), strict=True))
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        raise EngineError(f"expected a graph that ONNX Runtime runs, it says: {first_line(error)}") from error
