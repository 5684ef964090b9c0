"""The tables of a paper: its rows' trainings, one after the other, and ours beside the published figures after each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric

from train.corpora.items import CorpusError
from train.metrics import measure
from train.real_data import pictures
from train.tables import faces as table_faces
from train.tables import plot as table_plot
from train.tables import report as table_report
from train.tables.faces import FaceRuns
from train.tables.report import Outcome, per_cent
from train.tables.rows import ClipPlan, Combine, FacePlan, TableRow, chosen, only
from train.tables.runs import Runs, Training
from train.tables.sources import PICTURES, Settings, check_given, check_values, own_corpora, source
from train.tables.tasks import FACES

# What a row may fail of without taking the others with it: a corpus, a clip, a disk, an accelerator without memory.
ROWS_OWN = (ValueError, OSError, RuntimeError)
Say = Callable[[str], None]


def run_tables(
    paper: str,
    data: Mapping[str, Path],
    out: Path,
    settings: Settings,
    *,
    pattern: str | None = None,
    say: Say = print,
) -> tuple[Outcome, ...]:
    """Run the rows of a paper's tables, and write `<paper>.md`, `.png` and `.json` after each of them.

    Runs that exist in `out` are not repeated. A row that fails is noted with its reason, and the others go on.

    Args:
        paper: One of `PAPERS`.
        data: Corpus name to folder; rows whose corpus is not there are left as they are.
        out: Folder of the report and of all runs.
        settings: How rows are run.
        pattern: Which rows, see `table_rows.chosen`; None is all of them.
        say: Told a line for each row.

    Returns:
        What the rows of this call came to.

    Raises:
        ValueError: If there is no such paper, row, corpus or setting, or no row that can be run on what was given.
    """
    rows = chosen(paper, pattern)
    check_given(paper, data, settings)
    todo = _todo(paper, rows, data)
    torch.set_num_threads(settings.threads)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)  # type: ignore[arg-type]
    fabric.launch()
    known = table_report.read(paper, out)
    sources = {name: source(paper, name, folder, out, settings, fabric) for name, folder in data.items()}
    errors = [one for one in sources.values() if isinstance(one, CorpusError)]
    if len(errors) == len(sources):
        raise errors[0]
    for name, runs in sources.items():
        if isinstance(runs, Runs):
            check_values(runs, [row for row, corpus in todo if corpus == name])
    _write(paper, known, out)
    found = []
    for row, corpus in todo:
        outcome = _outcome(paper, row, corpus, sources[corpus], settings, out)
        found.append(outcome)
        known = table_report.keep(known, outcome)
        _write(paper, known, out)
        say(_told(paper, row, outcome))
    return tuple(found)


def _todo(paper: str, rows: Sequence[TableRow], data: Mapping[str, Path]) -> list[tuple[TableRow, str]]:
    todo = [
        (row, name)
        for row in rows
        for name in data
        if row.plan is not None and isinstance(row.plan, FacePlan) == (name == PICTURES)
    ]
    if not todo:
        reasons = [f"{row.key} ({row.reason or f'wants --data {_wanted(paper, row)}=DIR'})" for row in rows]
        more = f" and {len(reasons) - 5} more" if len(reasons) > 5 else ""
        raise ValueError(f"no row of {paper} can be run with what was given: {'; '.join(reasons[:5])}{more}")
    return todo


def _wanted(paper: str, row: TableRow) -> str:
    return PICTURES if isinstance(row.plan, FacePlan) else own_corpora(paper)[0]


def _outcome(
    paper: str, row: TableRow, corpus: str, source: Runs | FaceRuns | CorpusError, settings: Settings, out: Path
) -> Outcome:
    try:
        if isinstance(source, CorpusError):
            raise source
        if isinstance(source, Runs):
            assert isinstance(row.plan, ClipPlan)
            trainings = [source.training(member) for member in row.plan.members]
            seeds = [settings.seed + member.repeat for member in row.plan.members]
            combine, protocol, usual = row.plan.combine, source.corpus.protocol, source.recipe.loop.epochs
        else:
            assert isinstance(row.plan, FacePlan)
            trainings, seeds = [source.training(row.plan.config)], [settings.seed]
            combine, protocol, usual = only, table_faces.PROTOCOL, pictures.LOOP.epochs
        outcome = _measured(row, corpus, trainings, combine)
    except ROWS_OWN as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return Outcome(row=row.key, corpus=corpus, problem=f"{kind}{error}")
    return replace(
        outcome,
        protocol=protocol,
        seeds=tuple(sorted(set(seeds))),
        runs=tuple(dict.fromkeys(str(training.folder.relative_to(out)) for training in trainings)),
        trial=_trial(source, settings, usual),
        notes=tuple(_notes(paper, corpus, trainings, settings)),
    )


def _measured(row: TableRow, corpus: str, trainings: Sequence[Training], combine: Combine) -> Outcome:
    figures = []
    for fold in trainings[0].folds:
        parts = [torch.from_numpy(training.folds[fold][0]) for training in trainings]
        figures.append(measure(combine(parts).numpy(), trainings[0].folds[fold][1]))
    accuracy = np.array([figure.accuracy for figure in figures])
    each_once = {training.folder: training for training in trainings}.values()
    return Outcome(
        row=row.key,
        corpus=corpus,
        accuracy=100 * float(accuracy.mean()),
        deviation=100 * float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
        uar=100 * float(np.mean([figure.uar for figure in figures])),
        n=sum(figure.n for figure in figures),
        folds=tuple(trainings[0].folds),
        epochs=max(training.epochs for training in trainings),
        minutes=sum(training.minutes for training in each_once),
        machine=trainings[0].machine,
    )


def _trial(source: Runs | FaceRuns | CorpusError, settings: Settings, usual: int) -> str:
    parts = []
    if settings.epochs is not None and settings.epochs != usual:
        parts.append(f"{settings.epochs} epochs, not {usual}")
    if isinstance(source, Runs) and len(source.folds) < len(source.corpus.folds):
        parts.append(f"{len(source.folds)} of {len(source.corpus.folds)} folds")
    applied = [f"{k}={text}" for k, text in settings.values.items() if isinstance(source, Runs) or k.startswith(FACES)]
    return "; ".join([*parts, *([f"with {', '.join(applied)}"] if applied else [])])


def _notes(paper: str, corpus: str, trainings: Sequence[Training], settings: Settings) -> Iterator[str]:
    yield from dict.fromkeys(training.note for training in trainings if training.note)
    if corpus not in (*own_corpora(paper), PICTURES):
        yield f"not the paper's corpus, which is {own_corpora(paper)[0]}: the figures do not compare"
    if settings.leave_out and corpus != PICTURES:
        yield f"clips left out: {len(settings.leave_out)}"


def _write(paper: str, outcomes: Sequence[Outcome], out: Path) -> None:
    table_report.write(paper, outcomes, out)
    table_plot.draw(paper, outcomes, out / f"{paper}.png")


def _told(paper: str, row: TableRow, outcome: Outcome) -> str:
    begin = f"{paper}, {row.key}, {outcome.corpus}:"
    if outcome.accuracy is None:
        return f"{begin} no result: {outcome.problem}"
    trial = f", a trial: {outcome.trial}" if outcome.trial else ""
    published = "no published number" if row.published is None else f"published {per_cent(row.published)} %"
    return f"{begin} {outcome.accuracy:.2f} % ({published}){trial}"
