"""TensorRT itself: whether it is here, which version, and what it said last."""

import threading
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

from engines.engine import EngineError
from engines.tensorrt.cuda import INSTALL, Gpu, gpu

if TYPE_CHECKING:
    import tensorrt as trt

ACCEPTED = "10.13 to 10.16 or 11"
N_LINES = 3  # of the log, in an error


class TensorRTError(EngineError):
    """TensorRT is missing, or could not do what was asked; the text carries what it said last."""


def probe() -> tuple[Gpu, str]:
    """The GPU and TensorRT's version.

    CUDA is asked first: without a driver TensorRT makes objects that crash the process when they are used.

    Raises:
        EngineError: If the GPU, its driver, or a TensorRT of an accepted version is missing; the text says how to get
            it.
    """
    found = gpu()
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TensorRTError(f"expected TensorRT, it does not load ({first}); run: {INSTALL}") from error
    if not accepts(trt.__version__):
        raise TensorRTError(f"expected TensorRT {ACCEPTED}, {trt.__version__} is installed; run: {INSTALL}")
    return found, trt.__version__


def accepts(version: str) -> bool:
    """Whether the backend was written for a version of TensorRT."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return major == 11 or (major == 10 and 13 <= minor <= 16)


class Log:
    """TensorRT's last lines of warning or worse. Any thread may write."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=50)
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Keep a line."""
        with self._lock:
            self._lines.append(" ".join(line.split()))

    def last(self) -> str:
        """The newest lines, oldest first, and forget them; empty where nothing was said."""
        with self._lock:
            lines = list(self._lines)[-N_LINES:]
            self._lines.clear()
        return "; ".join(lines)


log = Log()


def failed(what: str) -> TensorRTError:
    """The error for a call of TensorRT that returned False or None, with what TensorRT said."""
    said = log.last()
    return TensorRTError(f"TensorRT: {what}: {said}" if said else f"TensorRT: {what}, and it did not say why")


def logger() -> "trt.ILogger":
    """The one logger of this process; TensorRT's objects use it for as long as they live."""
    import tensorrt as trt

    return _logger(trt)


@cache
def _logger(module: Any) -> "trt.ILogger":
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if severity in (
                trt.ILogger.Severity.INTERNAL_ERROR,
                trt.ILogger.Severity.ERROR,
                trt.ILogger.Severity.WARNING,
            ):
                log.write(msg)

    return Logger()
