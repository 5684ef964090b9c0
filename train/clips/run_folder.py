"""What a run's folder says of itself: what was run, by which software, on which machine, and whether it is complete."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from train.tasks.task import Task

PACKAGES = ("emocast", "torch", "lightning", "numpy", "onnx", "onnxruntime", "mediapipe", "av")


def task_description(task: Task) -> dict[str, Any]:
    """All that a task is made with, as plain values: its configuration, its own settings, and what it needs."""
    own: dict[str, Any] = {}
    if is_dataclass(task):
        own = {f.name: getattr(task, f.name) for f in fields(task) if f.init and f.name != "config"}
    described = {"type": type(task).__name__, "name": task.name, "paper": task.paper, "labels": task.labels, **own}
    return _plain({**described, "config": task.config, "needs": task.needs()})


def digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration; the order of its keys plays no part."""
    return hashlib.sha256(json.dumps(_plain(configuration), sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin(folder: Path, configuration: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Write `run.json`, or see that the run that is there is the same one.

    Args:
        folder: The run's; made where it is not there.
        configuration: What the result depends on.
        notes: What else is to be known of the run: command, versions, machine.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, plain = folder / "run.json", _plain(configuration)
    if path.is_file():
        there = read(path).get("configuration", {})
        if digest(there) != digest(plain):
            raise ValueError(f"{folder} holds a run with {differing(there, plain)}; use another folder, or delete it")
    write(path, {"hash": digest(plain), "configuration": plain, **_plain(notes)})


def differing(there: Any, asked: Any, at: str = "") -> str:
    """Which values of two configurations differ, by their dotted names; four of them, and how many more."""
    found = _differing(there, asked, at)
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return ", ".join(found[:4]) + more


def _differing(there: Any, asked: Any, at: str) -> list[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        names = {**there, **asked}
        return [
            line
            for name in names
            for line in _differing(there.get(name), asked.get(name), f"{at}.{name}" if at else str(name))
        ]
    return [] if there == asked else [f"{at} {_short(there)} and not {_short(asked)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def complete(folder: Path, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that is complete with this configuration; None where there is none yet."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    result = read(path)
    return result if result.get("hash") == digest(configuration) else None


def curve(folder: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`, one an epoch: where an epoch was repeated after a break, its last line."""
    path = folder / "metrics.jsonl"
    lines: dict[int, dict[str, float]] = {}
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:  # torn when a run was killed
            continue
        lines[line["epoch"]] = line
    return [lines[epoch] for epoch in sorted(lines)]


def machine(n_devices: int, n_machines: int) -> dict[str, Any]:
    """The hardware: processor, cores, and accelerators by name."""
    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    found = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True)}
    return {**found, "accelerators": devices, "devices_used": n_devices, "machines": n_machines}


def versions() -> dict[str, str]:
    """Of Python and the packages that a result depends on."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def read(path: Path) -> dict[str, Any]:
    """A JSON file. Raises ValueError where it is damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to go on") from error


def write(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, as a whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_plain(content), indent=1) + "\n")
    partial.replace(path)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_as_text))


def _as_text(value: Any) -> str:
    # a file counts by what is in it, wherever it lies
    if isinstance(value, Path) and value.is_file():
        return f"{value.name} {file_digest(value)}"
    return str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
