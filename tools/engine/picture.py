"""The report of `emocast engine bench` as a picture, drawn without a display."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tools.engine.report import Report

DPI = 120
COLOURS = ("tab:orange", "tab:blue", "tab:green", "tab:purple", "tab:red", "tab:brown", "tab:olive", "tab:cyan")


def draw_bench(report: Report, path: Path) -> None:
    """Median latency of each graph at batch 1 as bars, and below, a panel for each graph, throughput by batch.

    Args:
        report: Of one run.
        path: The PNG to write.
    """
    graphs = list(dict.fromkeys(row.graph for row in report.rows))
    colours = dict(zip(dict.fromkeys(row.backend for row in report.rows), COLOURS, strict=False))
    figure = Figure(figsize=figure_size(len(graphs)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.1, 1))[:, 0]
    _latency(upper.subplots(), report, graphs, colours)
    panels = lower.subplots(1, len(graphs), squeeze=False)[0]
    for axes, graph in zip(panels, graphs, strict=True):
        _throughput(axes, report, graph, colours)
    panels[0].set_ylabel("items/s")
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    figure.suptitle(f"{report.bundle} ({report.sha256[:12]}), {report.machine}, {threads}", fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, format="png")


def figure_size(n_graphs: int) -> tuple[float, float]:
    """Width and height in inches."""
    return max(8.0, 2.3 * n_graphs), 7.0


def _latency(axes: Axes, report: Report, graphs: list[str], colours: dict[str, str]) -> None:
    width = 0.8 / len(colours)
    for k, (backend, colour) in enumerate(colours.items()):
        rows = [row for row in report.rows if row.backend == backend and 1 in row.at]
        places = [graphs.index(row.graph) + (k - (len(colours) - 1) / 2) * width for row in rows]
        bars = axes.bar(places, [row.at[1].timing.p50_ms for row in rows], 0.92 * width, color=colour, label=backend)
        axes.bar_label(bars, [_short(row.at[1].timing.p50_ms) for row in rows], padding=1, fontsize=8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(y=0.15)
    axes.set_xticks(range(len(graphs)), graphs)
    axes.set_xlim(-0.5, len(graphs) - 0.5)
    axes.set_ylabel("ms, median at batch 1")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, ncols=len(colours), loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


def _throughput(axes: Axes, report: Report, graph: str, colours: dict[str, str]) -> None:
    for row in report.rows:
        if row.graph == graph and row.at:
            batches = [report.batches.index(n) for n in row.at]
            axes.plot(batches, [at.items_per_s for at in row.at.values()], marker="o", color=colours[row.backend])
    axes.set_xticks(range(len(report.batches)), list(map(str, report.batches)))
    axes.set_xlim(-0.3, len(report.batches) - 0.7)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}" if rate < 1e4 else f"{rate / 1e3:g}k"))
    axes.set_title(graph, fontsize=9)
    axes.set_xlabel("batch")
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _short(value: float) -> str:
    return (
        f"{value:.3f}"
        if value < 0.1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )
