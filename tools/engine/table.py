"""The report of `emocast engine bench` as a table of 100 columns."""

import sys

from rich.console import Console
from rich.table import Table

from tools.engine.report import Report, Row
from tools.engine.timing import ENOUGH_CALLS

WIDTH = 100


def print_table(report: Report) -> None:
    """Print a row for each graph and backend, the totals, and what must be known to read them."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    console.print(f"{report.bundle} ({report.sha256[:16]}), {report.machine}, {_threads(report)}")
    versions = ", ".join(f"{name} {found or 'not installed'}" for name, found in report.versions.items())
    console.print(f"{versions}; at least {report.rounds} rounds of all in turn\n")
    reference = report.reference or "-"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("graph", "backend"):
        table.add_column(f"\n{header}", no_wrap=True)
    headers = ["p50\nms", "p99\nms", f"time ÷\n{reference}", *(f"items/s\nby {n}" for n in report.batches)]
    for header in (*headers, "load\nms", "memory\nMB", f"apart from\n{reference}"):
        table.add_column(header, justify="right", no_wrap=True)
    for k, row in enumerate(report.rows):
        first = k == 0 or report.rows[k - 1].graph != row.graph
        table.add_row(row.graph if first else "", row.backend, *_cells(row, report))
    for k, (name, total) in enumerate(report.totals.items()):
        ratio = "" if total.ratio is None else f"{total.ratio:.2f}"
        table.add_row("all graphs" if k == 0 else "", name, _short(total.p50_ms), "", ratio)
    console.print(table)
    console.print()
    for note in _notes(report):
        console.print(note, soft_wrap=True)


def _cells(row: Row, report: Report) -> list[str]:
    if 1 not in row.at:
        return ["failed"]
    timing, weight = row.at[1].timing, row.footprint
    few = f" ({timing.n_calls})" if timing.n_calls < ENOUGH_CALLS else ""
    return [
        _short(timing.p50_ms),
        _short(timing.p99_ms) + few,
        "" if timing.ratio is None else f"{timing.ratio:.2f}",
        *(_short(row.at[n].items_per_s) if n in row.at else "-" for n in report.batches),
        "-" if weight is None else _short(weight.load_ms),
        "-" if weight is None or weight.memory_mb is None else f"{weight.memory_mb:.1f}",
        ""
        if row.difference is None or row.backend == report.reference
        else f"{row.difference:.0e}"
        if row.difference
        else "0",
    ]


def _notes(report: Report) -> list[str]:
    found = []
    for name, total in report.totals.items():
        if total.ratio is not None and name != report.reference:
            found.append(
                f"{name} takes {total.ratio:.2f} of {report.reference}'s time: {1 / total.ratio:.2f} times as fast"
            )
    if any(row.at and row.at[1].timing.n_calls < ENOUGH_CALLS for row in report.rows):
        found.append(f"(n): p99 of n calls, fewer than {ENOUGH_CALLS}")
    libraries = {row.backend: row.footprint.library_mb for row in report.rows if row.footprint}
    known = [f"{name} {size:.0f}" for name, size in libraries.items() if size is not None]
    if known:
        found.append(f"memory: of the graph alone; the libraries take {', '.join(known)} MB once")
    return found + report.notes


def _threads(report: Report) -> str:
    return f"{report.threads} thread{'s' if report.threads > 1 else ''}"


def _short(value: float) -> str:
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )
