"""Our figures beside the published ones: what rows came to, kept in `<paper>.json` and written as `<paper>.md`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from train.clips import run_folder
from train.tables.rows import PAPERS, TableRow

DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a row came to on a corpus.

    Attributes:
        row: Its key.
        corpus: Name of the corpus, empty where there was none.
        accuracy: Mean over the folds, in per cent; None where the row has no result.
        deviation: Of a fold from it, in per cent; None of one fold.
        uar: Mean over the folds, in per cent.
        n: Clips or pictures tested on, of all folds together.
        folds: Their names.
        protocol: Of the corpus.
        seeds: Of the models that the row takes.
        epochs: Of the longest training.
        minutes: Of the trainings that the row takes, whether other rows take them too or not.
        machine: On which they ran.
        runs: Folders of these trainings.
        trial: What makes it a trial and no result; empty where it is none.
        notes: What else differs from the paper.
        problem: Why there is no result.
    """

    row: str
    corpus: str
    accuracy: float | None = None
    deviation: float | None = None
    uar: float | None = None
    n: int = 0
    folds: tuple[str, ...] = ()
    protocol: str = ""
    seeds: tuple[int, ...] = ()
    epochs: int = 0
    minutes: float = 0.0
    machine: str = ""
    runs: tuple[str, ...] = ()
    trial: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def rank(self) -> int:
        """A result is worth more than a trial, and this more than a problem."""
        return 0 if self.accuracy is None else 1 if self.trial else 2


def read(paper: str, out: Path) -> list[Outcome]:
    """What is known of a paper's rows from earlier calls.

    Raises:
        ValueError: If the file is damaged.
    """
    path = out / f"{paper}.json"
    if not path.is_file():
        return []
    try:
        return msgspec.convert(run_folder.read(path)["outcomes"], list[Outcome])
    except (KeyError, msgspec.ValidationError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to go on: runs are kept") from error


def keep(outcomes: Sequence[Outcome], new: Outcome) -> list[Outcome]:
    """With a new one, in place of that of the same row and corpus unless this is worth more."""
    same = [old for old in outcomes if (old.row, old.corpus) == (new.row, new.corpus)]
    if any(old.rank > new.rank for old in same):
        return list(outcomes)
    return [*(old for old in outcomes if old not in same), new]


def write(paper: str, outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write both files, each as a whole or not at all. Returns that for people."""
    out.mkdir(parents=True, exist_ok=True)
    run_folder.write(out / f"{paper}.json", {"paper": paper, "outcomes": [asdict(outcome) for outcome in outcomes]})
    path = out / f"{paper}.md"
    partial = path.with_suffix(".partial.md")
    partial.write_text(markdown(paper, outcomes))
    partial.replace(path)
    return path


def markdown(paper: str, outcomes: Sequence[Outcome]) -> str:
    """Table by table, all rows of a paper with their published figures, and ours where there are any."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.row, []).append(outcome)
    parts = [f"# {paper}: ours beside the published figures\n", _legend(paper)]
    for table in dict.fromkeys(row.table for row in PAPERS[paper]):
        rows = [row for row in PAPERS[paper] if row.table == table]
        lines = [
            "| row | published | ours | ± | UAR | n | folds | epochs | seed | minutes | state |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *(line for row in rows for line in _lines(row, found.get(row.key, []))),
        ]
        parts.append(f"## {table}\n\n" + "\n".join(lines) + "\n")
    measured = [outcome for outcome in outcomes if outcome.accuracy is not None]
    return "\n".join([*parts, _circumstances(measured)]) if measured else "\n".join(parts)


def per_cent(value: float | None) -> str:
    """A published figure, with its own decimals."""
    return DASH if value is None else f"{value:g}"


def _legend(paper: str) -> str:
    picture = f"\n![Ours against the published figures]({paper}.png)\n"
    return (
        "Accuracy in per cent. `±` is the deviation of a fold (of the sample); `minutes` are those of all trainings a "
        "row takes, also of those that it shares with others. A **trial** was trained for less, or on less, than the "
        f"recipe: it says that the row runs, not how good it is.\n{picture}"
    )


def _lines(row: TableRow, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        state = row.reason or "not run yet"
        return [f"| {row.name} | {per_cent(row.published)} |{f' {DASH} |' * 8} {state} |"]
    return [_line(row, outcome) for outcome in outcomes]


def _line(row: TableRow, outcome: Outcome) -> str:
    published = per_cent(row.published)
    if outcome.accuracy is None:
        problem = " ".join(outcome.problem.split()).replace("|", "\\|")
        return f"| {row.name} | {published} |{f' {DASH} |' * 8} no result: {problem} |"
    state = f"**trial**: {outcome.trial}" if outcome.trial else "result"
    state = "; ".join([state, *outcome.notes])
    seeds = ", ".join(map(str, outcome.seeds))
    pieces = [
        row.name,
        published,
        f"{outcome.accuracy:.2f}",
        DASH if outcome.deviation is None else f"{outcome.deviation:.2f}",
        DASH if outcome.uar is None else f"{outcome.uar:.2f}",
        str(outcome.n),
        str(len(outcome.folds)),
        str(outcome.epochs),
        seeds,
        f"{outcome.minutes:.1f}",
        f"{outcome.corpus}; {state}",
    ]
    return f"| {' | '.join(piece.replace('|', chr(92) + '|') for piece in pieces)} |"


def _circumstances(outcomes: Sequence[Outcome]) -> str:
    protocols = dict.fromkeys((o.corpus, o.protocol, ", ".join(o.folds)) for o in outcomes)
    machines = dict.fromkeys(outcome.machine for outcome in outcomes)
    of_run: dict[str, list[str]] = {}
    for outcome in outcomes:
        for run in outcome.runs:
            of_run.setdefault(run, []).append(outcome.row)
    lines = ["## Corpora and protocols\n"]
    lines += [f"- {corpus}: {protocol}; tested on {folds}" for corpus, protocol, folds in protocols]
    lines += ["\n## Hardware\n", *(f"- {machine}" for machine in machines)]
    lines += ["\n## Runs\n", *(f"- `{run}`: {'; '.join(rows)}" for run, rows in of_run.items())]
    return "\n".join(lines) + "\n"
