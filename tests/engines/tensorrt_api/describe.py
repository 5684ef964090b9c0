"""Run where the bindings can be imported: writes stubs for mypy, and every name that the modules have.

Usage: python -m tests.engines.tensorrt_api.describe FOLDER
"""

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engines.tensorrt_api import cuda_stubs, tensorrt_stubs


def describe(folder: Path) -> None:
    """Write stubs of `tensorrt` and `cuda`, and `names.json` into a folder."""
    import tensorrt_bindings
    from cuda.bindings import runtime
    from pybind11_stubgen import main as write_stubs

    raw = folder / "raw"
    write_stubs(
        ["tensorrt_bindings.tensorrt", "--ignore-all-errors", "--print-invalid-expressions-as-is", "-o", str(raw)]
    )
    text = tensorrt_stubs.readable((raw / "tensorrt_bindings" / "tensorrt.pyi").read_text())
    _write(folder / "stubs" / "tensorrt" / "__init__.pyi", text + tensorrt_stubs.written_in_python(tensorrt_bindings))
    _write(folder / "stubs" / "cuda" / "__init__.pyi", "")
    _write(folder / "stubs" / "cuda" / "bindings" / "__init__.pyi", "")
    _write(folder / "stubs" / "cuda" / "bindings" / "runtime.pyi", cuda_stubs.stubs(runtime))
    names = {"trt": dict(_names(tensorrt_bindings)), "cudart": dict(_names(runtime))}
    _write(folder / "names.json", json.dumps(names))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _names(owner: Any, before: str = "", *, depth: int = 3) -> Iterator[tuple[str, bool]]:
    # The dotted name of each attribute, and whether it has names of its own here: an instance's are mypy's matter.
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        inner = isinstance(value, type) and depth > 1
        yield f"{before}{name}", inner
        if inner:
            yield from _names(value, f"{before}{name}.", depth=depth - 1)


if __name__ == "__main__":
    describe(Path(sys.argv[1]))
