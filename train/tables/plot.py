"""Ours against the published figures as a picture, drawn without a display."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from train.plots import DPI
from train.tables.report import Outcome
from train.tables.rows import PAPERS, TableRow

PUBLISHED, OURS, TRIAL = "black", "tab:blue", "tab:orange"
ROW_IN, MARGIN_IN = 0.27, 1.5  # inches


def draw(paper: str, outcomes: Sequence[Outcome], path: Path) -> None:
    """A line for each row that has a figure, published or ours; trials and results are told apart.

    Args:
        paper: Name of the recogniser.
        outcomes: Of its rows; several of one row stand on its line.
        path: The PNG to write, as a whole or not at all.
    """
    measured = [outcome for outcome in outcomes if outcome.accuracy is not None]
    keys = {outcome.row for outcome in measured}
    rows = [row for row in PAPERS[paper] if row.published is not None or row.key in keys]
    places = _places(rows)
    height = MARGIN_IN + ROW_IN * (max(places) + 1)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    for row, place in zip(rows, places, strict=True):
        _line(axes, row, [outcome for outcome in measured if outcome.row == row.key], place)
    axes.set_yticks(places, [row.name for row in rows], fontsize=8)
    axes.set_ylim(max(places) + 0.7, -1.2)
    axes.set_xlim(-4, 104)
    axes.set_xlabel("accuracy, per cent")
    axes.grid(axis="x", alpha=0.3)
    for table in dict.fromkeys(row.table for row in rows):
        first = next(place for row, place in zip(rows, places, strict=True) if row.table == table)
        axes.text(0.6, first - 0.55, table, fontsize=9, fontweight="bold", va="bottom")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{paper}: ours against the published figures", fontsize=10)
    FigureCanvasAgg(figure)
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial, dpi=DPI, bbox_inches="tight", pad_inches=0.1)
    partial.replace(path)


def _places(rows: Sequence[TableRow]) -> list[float]:
    # A free line before each table holds its name.
    places: list[float] = []
    for k, row in enumerate(rows):
        gap = 0.0 if k == 0 else 2.0 if row.table != rows[k - 1].table else 1.0
        places.append((places[-1] if places else 0.0) + gap)
    return places


def _line(axes: Axes, row: TableRow, outcomes: Sequence[Outcome], place: float) -> None:
    ours = [outcome.accuracy for outcome in outcomes if outcome.accuracy is not None]
    points = [*ours, *([row.published] if row.published is not None else [])]
    axes.plot([min(points), max(points)], [place, place], color="lightgrey", linewidth=2, zorder=1)
    if row.published is not None:
        right = axes.get_yaxis_transform()  # figures stand in a column beside the axes
        axes.text(1.01, place, f"{row.published:g}", transform=right, fontsize=8, va="center")
        axes.plot(row.published, place, "|", color=PUBLISHED, markersize=12, markeredgewidth=2, zorder=2)
    for outcome, accuracy in zip(outcomes, ours, strict=True):
        colour, mark = (TRIAL, "D") if outcome.trial else (OURS, "o")
        face = "white" if outcome.trial else colour
        axes.plot(accuracy, place, mark, color=colour, markerfacecolor=face, markersize=6, zorder=3)
        # On the side away from the published figure.
        side = 1 if row.published is not None and accuracy > row.published else -1
        axes.annotate(
            f"{accuracy:.1f}", (accuracy, place), (7 * side, 0), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center", fontsize=7, color=colour,
        )  # fmt: skip


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=PUBLISHED, marker="|", linestyle="", markersize=12, markeredgewidth=2, label="published"),
        Line2D([], [], color=OURS, marker="o", linestyle="", label="ours"),
        Line2D([], [], color=TRIAL, marker="D", linestyle="", markerfacecolor="white", label="ours, a trial"),
    ]
