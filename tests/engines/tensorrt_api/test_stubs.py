"""Stubs are made readable without losing what they say."""

import enum
import types

import pytest

from tests.engines.tensorrt_api import cuda_stubs
from tests.engines.tensorrt_api.tensorrt_stubs import readable, written_in_python

HEAD = "import typing\n"
TAIL = "class Dims:\n    pass\nclass IHostMemory:\n    pass\nclass ParserError:\n    pass\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("def f(self, n: typing.SupportsInt = 0) -> bool:", "def f(self, n: int = 0) -> builtins.bool:"),
        ("def f(self, mode: Mode = <Mode.FAST: 1>) -> None:", "def f(self, mode: Mode = ...) -> None:"),
        ("def f(self, path: str = None) -> str:", "def f(self, path: str | None = None) -> str:"),
        ("def f(self, i: int) -> nvonnxparser::IParserError:", "def f(self, i: int) -> ParserError:"),
        ("def f(self, x: nvinfer1::v_1_0::IGone) -> int:", "def f(self, x: typing.Any) -> int:"),
        (
            "def f(self, a: Dims, b: Dims) -> Dims:",
            "def f(self, a: Dims | collections.abc.Sequence[int], b: Dims | collections.abc.Sequence[int]) -> Dims:",
        ),
        ("def f(self, in: int) -> int:", "def f(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:"),
        ("def f(a: int = 1, b: int) -> int:", "def f(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"),
        ("flag: bool", "flag: builtins.bool"),
        ("bool: DataType", "bool: DataType"),
    ],
)
def test_a_line_is_made_readable(written: str, expected: str) -> None:
    assert readable(f"{HEAD}{TAIL}{written}\n").splitlines()[-1] == expected


def test_shapes_can_be_walked_through_and_memory_can_be_read() -> None:
    lines = readable(HEAD + TAIL).splitlines()
    assert lines[:2] == ["import typing", "import builtins"]
    assert lines[lines.index("class Dims:") + 1] == "    def __iter__(self) -> collections.abc.Iterator[int]: ..."
    assert lines[lines.index("class IHostMemory:") + 1] == "    def __buffer__(self, flags: int, /) -> memoryview: ..."


def test_functions_in_python_are_added() -> None:
    module = types.ModuleType("tensorrt_bindings")
    exec("def nptype(trt_type, other=1): ...\ndef _own(): ...\nnumber = 1", module.__dict__)
    assert written_in_python(module).splitlines() == [
        "__version__: str",
        "def nptype(trt_type: typing.Any, other: typing.Any = ...) -> typing.Any: ...",
    ]


def test_what_a_cuda_call_returns_is_read_from_its_documentation() -> None:
    doc = (
        "f(a)\n\nReturns\n-------\ncudaError_t\n    a status\nptr : Any\n    an address\n\nSee Also\n--------\nother\n"
    )
    assert cuda_stubs.values(doc) == "cudaError_t, Any"
    assert cuda_stubs.values("f(a)\n\nReturns\n-------\ncudaError_t\n    a status\n") == "cudaError_t"
    assert cuda_stubs.values("") == "Any, ..."
    struct = "Returns\n-------\ncudaError_t\n    x\nprop : :py:obj:`~.cudaDeviceProp`\n    y\n"
    assert cuda_stubs.values(struct) == "cudaError_t, Any"


def test_enumerations_structures_and_numbers_of_cuda_are_written() -> None:
    module = types.ModuleType("runtime")
    module.kind = enum.IntEnum("kind", {"down": 1, "up": 2})  # type: ignore[attr-defined]
    module.cudaLimit = 7  # type: ignore[attr-defined]
    module.prop = type("prop", (), {"major": 1})  # type: ignore[attr-defined]
    text = cuda_stubs.stubs(module)
    assert "class kind(enum.IntEnum):\n    down = 1\n    up = 2\n" in text
    assert "cudaLimit: int\n" in text
    assert "    major: Any\n" in text
    compile(text, "runtime.pyi", "exec")
