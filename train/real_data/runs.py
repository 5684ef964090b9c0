"""Runs of the recipes on real data: measured once, summed up over seeds, beside the published figures.

A run is a folder with `result.json`. The folder of a recipe holds a folder a row, that one a folder a seed.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from train import plots
from train.metrics import measure


def chosen(stage: str | None, stages: Iterable[str]) -> list[str]:
    names = list(stages)
    if stage is not None and stage not in names:
        raise ValueError(f"expected a stage of {', '.join(names)}, got {stage!r}")
    return names if stage is None else [stage]


def open_fabric(precision: str, threads: int) -> Fabric:
    torch.set_num_threads(threads)
    fabric = Fabric(devices=1, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def figures(posteriors: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    metrics = measure(posteriors, labels)
    return {
        "n": metrics.n, "accuracy": metrics.accuracy, "uar": metrics.uar, "confusion": metrics.confusion.tolist(),
    }  # fmt: skip


def once(
    fabric: Fabric, folder: Path, settings: Mapping[str, Any], train: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The result in `folder`, measured now where it is not there."""
    path = folder / "result.json"
    plain = json.loads(json.dumps(settings))
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["settings"] != plain:
            raise ValueError(f"{folder} holds a run with other settings: {found['settings']}; use another --out")
        return found
    began = time.monotonic()
    result = {"settings": plain} | train() | {"minutes": round((time.monotonic() - began) / 60, 1)}
    if fabric.is_global_zero:
        _write(path, result)
        if (curve := folder / "metrics.jsonl").is_file():
            points = [json.loads(line) for line in curve.read_text().splitlines()]
            title = "/".join(folder.parts[-2:])
            plots.draw_curves(points, folder / "curves.png", title=title, measured_on="held out")
    fabric.barrier()
    return result


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


def summarise(
    fabric: Fabric, out: Path, published: Mapping[str, float | None], protocol: str, labels: Sequence[str],
    **more: Any,
) -> None:  # fmt: skip
    """Write `result.json`, `table.md` and pictures of all complete runs below `out`.

    Args:
        fabric: Only its first process writes.
        out: The recipe's folder.
        published: Row to accuracy in per cent, None where there is none.
        protocol: What the figures are of.
        labels: In the order of the confusion.
        more: Put into `result.json` as it is.
    """
    if not fabric.is_global_zero:
        return
    found = {name: runs(out / name) for name in published}
    rows = {name: _row(own, published[name]) for name, own in found.items() if own}
    _write(out / "result.json", {"protocol": protocol, "labels": list(labels), "rows": rows} | _circumstances() | more)
    lines = [_line(name, row) for name, row in rows.items()]
    head = ["| row | ours: accuracy | ours: UAR | published accuracy | seeds | minutes a seed |", "|---" * 6 + "|"]
    (out / "table.md").write_text("\n".join([*head, *lines]) + "\n")
    for name, row in rows.items():
        plots.draw_confusion(row["confusion"], labels, out / name / "confusion.png", title=f"{name}, all seeds")


def runs(folder: Path) -> list[dict[str, Any]]:
    """The results of a row: of its seeds, or its only one; empty where none is complete."""
    own = folder / "result.json"
    paths = [own] if own.is_file() else sorted(folder.glob("seed*/result.json"))
    return [json.loads(path.read_text()) for path in paths]


def _row(found: Sequence[Mapping[str, Any]], published: float | None) -> dict[str, Any]:
    return {
        "published_per_cent": published,
        "seeds": [run["settings"]["seed"] for run in found],
        "n": found[0]["n"],
        "accuracy": _spread([run["accuracy"] for run in found]),
        "uar": _spread([run["uar"] for run in found]),
        "confusion": np.sum([run["confusion"] for run in found], axis=0).tolist(),
        "minutes": [run["minutes"] for run in found],
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": deviation}


def _line(name: str, row: Mapping[str, Any]) -> str:
    ours = [f"{100 * row[k]['mean']:.1f}" + (f" ± {100 * row[k]['std']:.1f}" if row[k]["std"] is not None else "")
            for k in ("accuracy", "uar")]  # fmt: skip
    figure = "" if row["published_per_cent"] is None else str(row["published_per_cent"])
    minutes = f"{np.mean(row['minutes']):.1f}"
    return f"| {name} | {ours[0]} | {ours[1]} | {figure} | {', '.join(map(str, row['seeds']))} | {minutes} |"


def _circumstances() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] \
        if cpu.is_file() else []  # fmt: skip
    return {
        "machine": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "lightning", "numpy")},
    }
