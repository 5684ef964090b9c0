"""mypy's view of `cuda.bindings.runtime`, by looking at the module: what it says of itself is enough."""

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

HEAD = "import enum\nfrom typing import Any\n"


def stubs(module: ModuleType) -> str:
    """Every function with its parameters and the number of its values, every enumeration, structure and number."""
    enums = {name for name, value in vars(module).items() if _is_enum(value)}
    return HEAD + "".join(
        f"{line}\n"
        for name, value in vars(module).items()
        if name.isidentifier()
        for line in _lines(name, value, enums)
    )


def _lines(name: str, value: Any, enums: set[str]) -> Iterator[str]:
    if name.startswith("_"):
        return
    if name in enums:
        yield f"class {name}(enum.IntEnum):"
        yield from (f"    {member} = {int(number)}" for member, number in value.__members__.items())
        yield "    ..."
    elif isinstance(value, type):
        yield f"class {name}:"
        yield "    def __init__(self, *args: Any) -> None: ..."
        yield "    def __int__(self) -> int: ..."
        yield from (f"    {attribute}: Any" for attribute in dir(value) if not attribute.startswith("_"))
    elif isinstance(value, int):
        yield f"{name}: int"
    elif type(value).__name__ == "cython_function_or_method":
        parameters = ", ".join(_parameter(one, enums) for one in inspect.signature(value).parameters.values())
        yield f"def {name}({parameters}) -> tuple[{values(value.__doc__ or '')}]: ..."


def _is_enum(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, int) and hasattr(value, "__members__")


def _parameter(parameter: inspect.Parameter, enums: set[str]) -> str:
    kind = parameter.annotation if parameter.annotation in enums else "Any"
    return f"{parameter.name}: {kind}" + ("" if parameter.default is parameter.empty else " = ...")


def values(doc: str) -> str:
    """The types of what a function returns, a status and its values, by the Returns section of its documentation."""
    _, found, section = doc.partition("Returns\n-------\n")
    if not found:
        return "Any, ..."
    section = re.split(r"\n\n[A-Z][A-Za-z ]*\n---", section)[0]
    named = [line.split(" : ") for line in section.splitlines() if line and not line.startswith(" ")]
    return ", ".join("cudaError_t" if parts == ["cudaError_t"] else "Any" for parts in named)
