"""Settings by name, as a command line gives them: `narrow=8` into the frozen dataclasses of a recogniser."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def override(config: T, settings: Mapping[str, str], *, hidden: tuple[str, ...] = ()) -> T:
    """A configuration with some of its values replaced by texts, each read as the type that its field has.

    Args:
        config: A dataclass.
        settings: Name and text. `vgg.attention` is a value of the configuration within a configuration, or of each
            where there is a tuple of them; `weights.audio` is an entry of a mapping. A tuple's values have commas
            between them; `none` is None where a field may be that.
        hidden: Fields that cannot be set.

    Raises:
        ValueError: If there is no such field, or its text is none of the values it can have.
    """
    changes: dict[str, Any] = {}
    inner: dict[str, dict[str, str]] = {}
    known = kinds(config, hidden)
    for name, text in settings.items():
        first, _, rest = name.partition(".")
        if first not in known or bool(rest) != _has_parts(config, first, known):
            raise ValueError(f"expected a setting of {', '.join(names(config, hidden))}, got {name!r}")
        if rest:
            inner.setdefault(first, {})[rest] = text
        else:
            changes[first] = convert(name, text, known[first])
    for first, below in inner.items():
        there = getattr(config, first)
        if isinstance(there, Mapping):
            key_kind, value_kind = get_args(known[first])
            given = {
                convert(first, k, key_kind): convert(f"{first}.{k}", text, value_kind) for k, text in below.items()
            }
            changes[first] = {**there, **given}
        elif isinstance(there, tuple):
            changes[first] = tuple(override(one, below) for one in there)
        else:
            changes[first] = override(there, below)
    return replace(config, **changes) if changes else config  # type: ignore[type-var]


def names(config: Any, hidden: tuple[str, ...] = ()) -> list[str]:
    """Names of all settings of a configuration, those within a configuration dotted."""
    found = []
    known = kinds(config, hidden)
    for name, kind in known.items():
        value = getattr(config, name)
        if isinstance(value, Mapping):
            keys = get_args(get_args(kind)[0]) or ("NAME",)
            found += [f"{name}.{key}" for key in keys]
        elif _has_parts(config, name, known):
            found += [f"{name}.{below}" for below in names(value[0] if isinstance(value, tuple) else value)]
        else:
            found.append(name)
    return found


def kinds(config: Any, hidden: tuple[str, ...] = ()) -> dict[str, Any]:
    """The types of a configuration's own fields that can be set."""
    hints = get_type_hints(type(config))
    return {f.name: hints[f.name] for f in fields(config) if f.init and f.name not in hidden}


def _has_parts(config: Any, name: str, known: Mapping[str, Any]) -> bool:
    value, inner = getattr(config, name), get_args(known[name])
    of_parts = isinstance(value, tuple) and bool(value) and bool(inner) and is_dataclass(inner[0])
    return is_dataclass(value) or isinstance(value, Mapping) or of_parts


def convert(name: str, text: str, kind: Any) -> Any:
    """A text as a value of a type: int, float, bool, str, Path, Literal, tuples of these, or None.

    Raises:
        ValueError: If it is none.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in inner and text.lower() == "none":
            return None
        rest = [one for one in inner if one is not type(None)]
        if len(rest) == 1:
            return convert(name, text, rest[0])
    if origin is Literal:
        return _literal(name, text, inner)
    if origin is tuple:
        return _tuple(name, text, inner)
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (int, float, str, Path):
        try:
            return kind(text)
        except ValueError:
            pass
    raise ValueError(f"{name}: expected {getattr(kind, '__name__', kind)}, got {text!r}")


def _literal(name: str, text: str, allowed: tuple[Any, ...]) -> Any:
    for value in allowed:
        if str(value) == text:
            return value
    raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {text!r}")


def _tuple(name: str, text: str, inner: tuple[Any, ...]) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if inner[-1:] == (Ellipsis,):
        return tuple(convert(name, part, inner[0]) for part in parts)
    if len(parts) != len(inner):
        raise ValueError(f"{name}: expected {len(inner)} values with commas between, got {text!r}")
    return tuple(convert(name, part, kind) for part, kind in zip(parts, inner, strict=True))
