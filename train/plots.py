"""A run as pictures: its curves, and which label was taken for which. Drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

DPI = 120


def draw_curves(
    lines: Sequence[Mapping[str, float]], path: Path, *, title: str, measured_on: str, best_epoch: int | None = None
) -> None:
    """Loss, and accuracy and UAR of the evaluations, by epoch.

    Args:
        lines: Of `metrics.jsonl`, one an epoch: `epoch`, `loss`, and where it was evaluated `accuracy`, `uar`, `nll`.
        path: The PNG to write.
        title: Above the picture.
        measured_on: What was evaluated, for the legend.
        best_epoch: Marked as the one whose weights were kept.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    epochs = [line["epoch"] for line in lines]
    left.plot(epochs, [line["loss"] for line in lines], marker=".", color="tab:red", label="loss in training")
    if any("nll" in line for line in lines):
        left.plot(*_points(lines, "nll"), marker="o", markersize=4, color="tab:orange", label=f"nll, {measured_on}")
    left.set_ylabel("loss")
    left.set_ylim(bottom=0 if min((line["loss"] for line in lines), default=0) >= 0 else None)
    # UAR is dashed: where people show each label as often, the two are one line
    for name, colour, style, size in (("accuracy", "tab:blue", "-", 6), ("uar", "tab:green", "--", 3)):
        right.plot(
            *_points(lines, name), style, marker="o", markersize=size, color=colour, label=f"{name}, {measured_on}"
        )
    right.set_ylim(0, 1.02)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (left, right):
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linestyle="--", linewidth=1, label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower left" if axes is left else "lower right")
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def draw_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path, *, title: str) -> None:
    """Rows are true labels, columns predicted ones; each cell has its count and its share of the row.

    Args:
        confusion: (L, L) counts.
        labels: L names.
        path: The PNG to write.
        title: Above the picture.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = max(4.2, 1.6 + 0.72 * len(labels))
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _cells(axes, counts, shares)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(picture, ax=axes, fraction=0.046, format=PercentFormatter(1.0), label="share of the true label")
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.ndindex(*counts.shape):
        text = f"{shares[row, column]:.0%}\n{counts[row, column]}"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _points(lines: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    there = [line for line in lines if name in line]
    return [line["epoch"] for line in there], [line[name] for line in there]


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # tight: the layout alone lets long names of labels push the axis's own out of the picture
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.1)
