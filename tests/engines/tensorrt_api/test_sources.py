"""What is found in a source without any bindings: uses behind every spelling, and what hides from the check."""

import pytest

from tests.engines.tensorrt_api.sources import (
    Use,
    missing,
    overrides_nothing,
    silenced,
    touches_the_bindings,
    unchecked,
    uses,
)

NAMES = {
    "trt": {"Builder": True, "Builder.reset": False, "Flag": True, "Flag.TF32": False, "ILogger.log": False},
    "cudart": {"cudaFree": False},
}


@pytest.mark.parametrize(
    ("text", "module", "name"),
    [
        ("trt.Builder(1)", "trt", "Builder"),
        ("f(self._trt.Flag.TF32)", "trt", "Flag.TF32"),
        ("libraries.trt.Flag", "trt", "Flag"),
        ("open_libraries().trt.Flag", "trt", "Flag"),
        ("tensorrt.Builder", "trt", "Builder"),
        ("x: trt.Builder", "trt", "Builder"),
        ("cudart.cudaFree(1)", "cudart", "cudaFree"),
        ("self.libraries.cudart.cudaFree", "cudart", "cudaFree"),
    ],
)
def test_a_use_is_found_behind_every_spelling(text: str, module: str, name: str) -> None:
    assert Use(line=2, module=module, name=name) in list(uses(f"\n{text}"))


@pytest.mark.parametrize("text", ["engines.tensorrt.build", "trt", "self.trt = trt", "builder.trt_version"])
def test_what_is_no_use_is_not_found(text: str) -> None:
    assert list(uses(text)) == []


def test_what_the_modules_lack_is_missing() -> None:
    text = "trt.Builder.reset\ntrt.Bilder\ntrt.Flag.TF23\ncudart.cudaFre(1)\ntrt.Flag.TF32.name\ncudart.Builder"
    assert missing(text, NAMES) == [
        "2: trt.Bilder",
        "3: trt.Flag.TF23",
        "4: cudart.cudaFre",
        "6: cudart.Builder",
    ]


def test_a_method_that_nothing_calls_is_found() -> None:
    ours = "class Log(trt.ILogger):\n def log(self): ...\n def lg(self): ...\n def _own(self): ...\n"
    text = ours + "class Other:\n def x(self): ...\n"
    assert overrides_nothing(text, NAMES) == ["3: trt.ILogger.lg"]


def test_an_attribute_of_a_value_without_a_class_is_found() -> None:
    text = "def f():\n    thing.run(other.size)\n"
    assert unchecked(text, {(2, 4, 2, 9)}) == ["2: thing.run"]
    assert unchecked(text, {(2, 14, 2, 19)}) == ["2: other.size"]
    assert unchecked(text, {(2, 4, 2, 13), (1, 4, 1, 9)}) == []


def test_comments_that_hide_errors_are_found() -> None:
    allowed = "    class Log(trt.ILogger):  # type: ignore[misc]  # has type Any without stubs"
    assert silenced(f"x = 1\n{allowed}\n") == []
    assert silenced(f"{allowed}\n  x()  # type: ignore[misc]\n") == ["2: x()  # type: ignore[misc]"]
    assert silenced("class Log(trt.ILogger):  # type: ignore") == ["1: class Log(trt.ILogger):  # type: ignore"]


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("import tensorrt as trt", True),
        ("def f():\n    from cuda.bindings import runtime as cudart", True),
        ("if TYPE_CHECKING:\n    import tensorrt", True),
        ("from engines.tensorrt import run", False),
        ("from .tensorrt import run", False),
        ("import engines.tensorrt.run", False),
    ],
)
def test_files_that_import_the_modules_are_told_from_others(text: str, touches: bool) -> None:
    assert touches_the_bindings(text) is touches
