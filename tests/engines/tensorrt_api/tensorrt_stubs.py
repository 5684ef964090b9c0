"""mypy's view of TensorRT: what pybind11-stubgen wrote of the bindings, made readable."""

import ast
import inspect
import re
from types import ModuleType

# Of types that the bindings print in C++: the class of that name, with or without its leading I, where there is one.
_CPP_NAME = re.compile(r"\bnv(?:infer1|onnxparser)::(?:v_\d+_\d+::)?(\w+)")
_DEFAULT_REPR = re.compile(r"= <[^>]*>")
_NO_DEFAULT = re.compile(r": (\w+) = None")
_DIMS = re.compile(r"(?<=: )Dims(?=,|$)")
_BOOL = re.compile(r"(-> |: |\[)bool\b")
_SIGNATURE = re.compile(r"( *def \w+)\((.*)\)( -> .*)?:( \.\.\.)?$")

ADDED = {  # what C gives and no signature tells
    "IHostMemory": "def __buffer__(self, flags: int, /) -> memoryview",
    "Dims": "def __iter__(self) -> collections.abc.Iterator[int]",
}


def readable(text: str) -> str:
    """Stubs of `tensorrt_bindings.tensorrt` as mypy takes them; what cannot be expressed becomes Any."""
    classes = set(re.findall(r"^class (\w+)", text, re.MULTILINE))
    lines = [_readable_line(line, classes) for line in text.splitlines()]
    start = 1 + max(k for k, line in enumerate(lines) if line.startswith(("import ", "from __future__")))
    lines.insert(start, "import builtins")
    for owner, method in ADDED.items():
        lines.insert(lines.index(f"class {owner}:") + 1, f"    {method}: ...")
    return "\n".join(lines) + "\n"


def _readable_line(line: str, classes: set[str]) -> str:
    def python_name(found: re.Match[str]) -> str:
        name = found[1]
        return next((known for known in (name, name.removeprefix("I")) if known in classes), "typing.Any")

    line = _CPP_NAME.sub(python_name, line)
    # What TensorRT hands to our own methods is an int, and we hand it no more than that.
    line = line.replace("typing.SupportsInt", "int").replace("typing.SupportsFloat", "float")
    line = _BOOL.sub(r"\1builtins.bool", line)  # the module has a `bool` of its own
    signature = _SIGNATURE.match(line)
    if signature is None:
        return line
    head, parameters, result, body = signature.groups(default="")
    parameters = _NO_DEFAULT.sub(r": \1 | None = None", _DEFAULT_REPR.sub("= ...", parameters))
    parameters = _DIMS.sub("Dims | collections.abc.Sequence[int]", parameters)  # the bindings convert
    line = f"{head}({parameters}){result}:{body}"
    if not _parses(f"{line.strip()} ..."):  # a keyword as a name, or a default before none: plugins and scale layers
        owner = "self, " if parameters.startswith("self") else ""
        line = f"{head}({owner}*args: typing.Any, **kwargs: typing.Any) -> typing.Any:{body}"
    return line


def _parses(statement: str) -> bool:
    try:
        ast.parse(statement)
    except SyntaxError:
        return False
    return True


def written_in_python(module: ModuleType) -> str:
    """Stubs of what `tensorrt_bindings/__init__.py` adds."""
    lines = ["__version__: str"]
    for name, value in vars(module).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            parameters = ", ".join(map(_untyped, inspect.signature(value).parameters.values()))
            lines.append(f"def {name}({parameters}) -> typing.Any: ...")
    return "\n".join(lines) + "\n"


def _untyped(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}: typing.Any" + ("" if parameter.default is parameter.empty else " = ...")
