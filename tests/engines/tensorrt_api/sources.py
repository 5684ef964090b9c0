"""What a source file uses of the two modules, and where it hides something from the check."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MODULES = {"trt": "trt", "_trt": "trt", "tensorrt": "trt", "cudart": "cudart", "_cudart": "cudart"}
IMPORTED = ("tensorrt", "cuda")


@dataclass(frozen=True, kw_only=True)
class Use:
    """A dotted name below a module: line 3 has `BuilderFlag.TF32` of `trt`."""

    line: int
    module: str
    name: str


def uses(text: str) -> Iterator[Use]:
    """Every name that is read from a module, behind any spelling: `trt.X`, `self._trt.X.Y`, `libraries.trt.X`."""
    attributes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    yield from filter(None, map(_use, attributes))


def missing(text: str, names: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """One line for each use of what a module does not have.

    Args:
        text: The source.
        names: By module, its dotted names, and whether each has names of its own that are listed too.
    """
    return sorted({f"{use.line}: {use.module}.{use.name}" for use in uses(text) if not _is_there(use, names)})


def _is_there(use: Use, names: Mapping[str, Mapping[str, bool]]) -> bool:
    known = names[use.module]
    parts = use.name.split(".")
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[:n])
        if name not in known:
            return False
        if not known[name]:  # a value: what it has is for mypy to check
            return True
    return True


def overrides_nothing(text: str, names: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """One line for each public method of a class of ours that its base, a class of a module, would never call."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            bases = [_use(base) for base in node.bases if isinstance(base, ast.Attribute)]
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name[0] != "_"]
            found += [
                f"{method.lineno}: {base.module}.{base.name}.{method.name}"
                for base in filter(None, bases)
                for method in methods
                if f"{base.name}.{method.name}" not in names[base.module]
            ]
    return found


def unchecked(text: str, any_spans: set[tuple[int, int, int, int]]) -> list[str]:
    """One line for each attribute that is read from a value whose class mypy does not know.

    Args:
        text: The source.
        any_spans: Where mypy found an expression of type Any: its first line and column and its last.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            of = node.value
            if (of.lineno, of.col_offset, of.end_lineno, of.end_col_offset) in any_spans:
                found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def silenced(text: str) -> list[str]:
    """One line for each comment that hides errors from mypy; a subclass of what it cannot see may need one."""
    allowed = re.compile(r"\s*class \w+\(\w+\.\w+\):  # type: ignore\[misc\]")
    lines = enumerate(text.splitlines(), 1)
    return [f"{k}: {line.strip()}" for k, line in lines if "# type: ignore" in line and not allowed.match(line)]


def touches_the_bindings(text: str) -> bool:
    """Whether a source imports TensorRT or CUDA, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            targets = [node.module or ""]
        if any(target.split(".")[0] in IMPORTED for target in targets):
            return True
    return False


def _use(node: ast.Attribute) -> Use | None:
    chain = _chain(node)
    roots = [k for k, part in enumerate(chain[:-1]) if part in MODULES and (part != "tensorrt" or k == 0)]
    if not roots:
        return None
    return Use(line=node.lineno, module=MODULES[chain[roots[-1]]], name=".".join(chain[roots[-1] + 1 :]))


def _chain(node: ast.Attribute) -> list[str]:
    # `a.b.c` as its parts; what is not a name, a call for example, is an empty one.
    parts = [node.attr]
    value: ast.expr = node.value
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    parts.append(value.id if isinstance(value, ast.Name) else "")
    return parts[::-1]
