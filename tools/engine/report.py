"""What `emocast engine bench` found: a row for each graph and backend, and totals. As JSON it is these names."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.engine.footprint import Footprint
from tools.engine.timing import Timing


@dataclass(frozen=True, kw_only=True)
class AtBatch:
    """One backend at one batch: its timing, items a second, and largest difference from the reference's outputs."""

    timing: Timing
    items_per_s: float
    difference: float | None


@dataclass(kw_only=True)
class Row:
    """One graph on one backend; its figures are `at` batches, and `error` says why it has none, or no more."""

    graph: str
    backend: str
    error: str | None = None
    footprint: Footprint | None = None
    at: dict[int, AtBatch] = field(default_factory=dict)

    @property
    def difference(self) -> float | None:
        """The largest from the reference at any batch."""
        found = [at.difference for at in self.at.values() if at.difference is not None]
        return max(found, default=None)


@dataclass(frozen=True, kw_only=True)
class Total:
    """Of a backend over all graphs at batch 1: the sum of their medians, and its ratio to the reference's sum."""

    p50_ms: float
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was measured; `notes` say what was left out and why."""

    bundle: str
    sha256: str
    machine: str
    versions: dict[str, str | None]
    threads: int
    rounds: int
    budget_s: float
    reference: str | None
    batches: tuple[int, ...]
    rows: list[Row]
    totals: dict[str, Total]
    notes: list[str]


def totals(rows: Sequence[Row], reference: str | None) -> dict[str, Total]:
    """Of the backends that ran every graph."""
    graphs = {row.graph for row in rows}
    sums = {}
    for name in {row.backend: None for row in rows}:
        ran = [row for row in rows if row.backend == name and row.at]
        if len(ran) == len(graphs):
            sums[name] = sum(row.at[1].timing.p50_ms for row in ran)
    base = sums.get(reference or "")
    return {name: Total(p50_ms=p50, ratio=p50 / base if base else None) for name, p50 in sums.items()}
