"""The kinds of events that the protocol's page names are those that the code publishes, found in its syntax."""

import ast
import itertools
import re
from collections.abc import Iterator

from tests.test_protocol_page import ROOT, section, table

EVENTS = ("Event", "SourceEvent", "PersonEvent", "TrackEvent")
KIND = re.compile(r"[a-z]+(_[a-z]+)*")


def kinds_in(tree: ast.AST) -> Iterator[str]:
    """Kinds that a module gives to events: as `kind=`, or, where it passes them on, beside the text that goes along."""
    passed_on = False
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Name) and call.func.id in EVENTS):
            continue
        for kind in (keyword.value for keyword in call.keywords if keyword.arg == "kind"):
            match kind:
                case ast.Constant(value=str(text)):
                    yield text
                case _:
                    passed_on = True
    if passed_on:
        yield from _beside_texts(tree)
        yield from _chosen(tree)


def _beside_texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        beside = node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        for one, after in itertools.pairwise(beside):
            match one:
                case ast.Constant(value=str(text)) if KIND.fullmatch(text) and _is_text(after):
                    yield text


def _is_text(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str(text)):
            return " " in text
        case ast.JoinedStr():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "text"
    return False


def _chosen(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):  # kind = "one" if ... else "other"
        match node:
            case ast.Assign(
                targets=[ast.Name(id="kind")], value=ast.IfExp(body=ast.Constant(a), orelse=ast.Constant(b))
            ):
                yield from (str(a), str(b))


def published_kinds() -> set[str]:
    found: set[str] = set()
    for path in sorted([*(ROOT / "stream").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]):
        found.update(kinds_in(ast.parse(path.read_text())))
    # The one place that tells a source's closing notes apart from where they are made.
    return found | set(_beside_texts(ast.parse((ROOT / "stream" / "sources" / "container.py").read_text())))


def test_the_search_finds_kinds_however_they_are_given() -> None:
    source = """
def one(self): return SourceEvent(t_ns=0, kind="plain", text="it is")
def two(self, kind, text): return SourceEvent(t_ns=0, kind=kind, text=text)
def three(self): self.two("an_argument", f"of {self}"); self.two("not", 3)
def four(self): return [(0, "in_a_tuple", text), ("no kind", "but a text")]
def five(self):
    kind = "chosen" if self else "or_else"
"""
    assert set(kinds_in(ast.parse(source))) == {"plain", "an_argument", "in_a_tuple", "chosen", "or_else"}


def test_the_events_of_the_page_are_those_of_the_code() -> None:
    assert set(table(section("### `event`"), "kind", "happens when")) == published_kinds()
