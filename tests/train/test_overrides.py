"""Settings as texts become values of the type that a field has, or one line that says what it can be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from train.clips.overrides import names, override


@dataclass(frozen=True, kw_only=True)
class Inner:
    kind: Literal["none", "se", 3] = "none"
    widths: tuple[int, ...] = (4, 8)


@dataclass(frozen=True, kw_only=True)
class Outer:
    narrow: int = 1
    rate: float = 0.5
    name: str = "x"
    file: Path = Path("a")
    flag: bool = False
    shape: tuple[int, float] = (1, 2.0)
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    parts: tuple[Inner, ...] = (Inner(), Inner(kind="se"))
    files: Mapping[Literal["face", "voice"], Path] = field(default_factory=dict)
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.narrow < 1:
            raise ValueError("narrow: expected 1 or more")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("narrow", "8", 8), ("rate", "1e-3", 1e-3), ("name", "8", "8"), ("file", "b/c", Path("b/c")),
        ("flag", "True", True), ("flag", "false", False), ("shape", "3, 4", (3, 4.0)), ("limit", "7", 7),
    ],
)  # fmt: skip
def test_texts_become_what_the_field_has(name: str, text: str, value: object) -> None:
    found = getattr(override(Outer(), {name: text}), name)
    assert (found, type(found)) == (value, type(value))


def test_none_parts_and_mappings() -> None:
    assert override(Outer(limit=3), {"limit": "none"}).limit is None
    assert override(Outer(), {"inner.kind": "3", "inner.widths": "2,3,4"}).inner == Inner(kind=3, widths=(2, 3, 4))
    assert override(Outer(), {"inner.widths": ""}).inner.widths == ()
    parts = override(Outer(), {"parts.widths": "5"}).parts
    assert parts == (Inner(widths=(5,)), Inner(kind="se", widths=(5,)))
    assert override(Outer(), {"files.voice": "v.pt"}).files == {"voice": Path("v.pt")}
    same = Outer()
    assert override(same, {}) is same


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("narow", "8", r"expected a setting of narrow, rate, .* files\.voice, got 'narow'"),
        ("hidden", "8", "expected a setting of .*, got 'hidden'"),
        ("inner", "8", "expected a setting of .*, got 'inner'"),
        ("narrow.x", "8", r"expected a setting of .*, got 'narrow\.x'"),
        ("inner.size", "8", "expected a setting of kind, widths, got 'size'"),
        ("narrow", "8.5", r"narrow: expected int, got '8\.5'"),
        ("narrow", "0", "narrow: expected 1 or more"),
        ("flag", "yes", "flag: expected bool, got 'yes'"),
        ("shape", "3", "shape: expected 2 values with commas between, got '3'"),
        ("inner.kind", "cbam", "kind: expected one of none, se, 3, got 'cbam'"),
        ("files.body", "b.pt", "files: expected one of face, voice, got 'body'"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Outer(), {name: text}, hidden=("hidden",))


def test_names() -> None:
    assert names(Outer(), hidden=("hidden", "rate", "name", "file", "flag", "shape", "limit")) == [
        "narrow", "inner.kind", "inner.widths", "parts.kind", "parts.widths", "files.face", "files.voice",
    ]  # fmt: skip
