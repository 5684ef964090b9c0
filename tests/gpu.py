"""A GPU that is none: the fakes of TensorRT and CUDA under their real names, here and in processes started here."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKES = Path(__file__).parent / "fakes"
NAMES = ("tensorrt", "cuda")


class FakeGpu:
    """The two fakes, and what they count.

    Attributes:
        cuda: The fake of `cuda.bindings.runtime`.
        trt: The fake of `tensorrt`.
    """

    def __init__(self) -> None:
        self.cuda: Any = importlib.import_module("cuda.bindings.runtime")
        self.trt: Any = importlib.import_module("tensorrt")
        assert Path(self.cuda.__file__).is_relative_to(FAKES)
        assert Path(self.trt.__file__).is_relative_to(FAKES)

    def fail(self, name: str, *, nth: int = 1, status: str = "cudaErrorInvalidValue") -> None:
        """The nth call of a name from now on fails; 0 is every one."""
        self.cuda.fail(name, nth=nth, status=self.cuda.cudaError_t[status])

    def left(self) -> dict[str, int]:
        """What was made and neither given back nor let go of."""
        return {**self.cuda.left(), **{kind: n for kind, n in self.trt.alive.items() if n}}


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """The fakes in place of whatever is installed, for as long as the block runs."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.delenv("FAKE_GPU_FAILURES", raising=False)
    real = _taken_out()
    try:
        yield FakeGpu()
    finally:
        _taken_out()
        sys.modules.update(real)


def _taken_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.split(".")[0] in NAMES]
    return {name: sys.modules.pop(name) for name in names}
