"""`emocast tables`: the tables of the five papers, ours beside the published figures."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.errors import DONE, MISUSE
from tools.recognisers.corpus_folders import folders, train_module
from tools.recognisers.train_options import TableOptions


def tables(
    paper: str | None,
    data: Sequence[str],
    *,
    list_: bool = False,
    rows: str | None = None,
    options: TableOptions = TableOptions(),
) -> int:
    """Run the rows of a paper's tables, or list them. Returns the exit code: 2 where a row that was tried failed.

    Args:
        paper: Name of its recogniser; None lists all papers, or runs all whose own corpora were given.
        data: NAME=DIR of each corpus.
        list_: List rows with their published figures and run nothing.
        rows: Part of the name of a row, or a pattern with * and ?.
        options: How to run them.

    Raises:
        ValueError: If the train extra is missing, a name is unknown or a number out of its range, a corpus is not in
            its layout, or no row can be run with what was given.
    """
    all_rows, sources = train_module("train.tables.rows"), train_module("train.tables.sources")
    if list_ or (paper is None and not data):
        return _list(all_rows, paper, rows)
    papers = [paper] if paper is not None else _with(all_rows, rows)
    all_rows.chosen(papers[0])  # refuses an unknown paper before its corpora are asked for
    known = tuple(dict.fromkeys(name for one in papers for name in sources.corpora(one)))
    found = dict(folders(data, option="--data", mark="=", known=known))
    made = sources.Settings(
        epochs=options.epochs,
        folds=options.fold or None,
        seed=options.seed,
        values=options.named("set"),
        weights={name: Path(path).expanduser() for name, path in options.named("weights").items()},
        leave_out=_names(options.leave_out),
        cache=options.cache,
        precision=options.precision,
        accelerator=options.accelerator,
        threads=options.threads,
        workers=options.workers,
    )
    folder = options.out if options.out is not None else Path("runs") / "tables"
    return _run(papers, found, folder, made, rows, alone=paper is not None)


def _run(
    papers: Sequence[str], data: Mapping[str, Path], out: Path, settings: Any, rows: str | None, *, alone: bool
) -> int:
    sources, module = train_module("train.tables.sources"), train_module("train.tables.run")
    failed = False
    for one in papers:
        # Of all papers, each takes what its figures are of.
        own = (*sources.own_corpora(one), sources.PICTURES) if not alone else tuple(data)
        fitting = {name: folder for name, folder in data.items() if name in own and name in sources.corpora(one)}
        if not fitting and not alone:
            continue
        outcomes = module.run_tables(
            one, fitting, out, settings, pattern=rows, say=lambda line: print(line, flush=True)
        )
        failed |= any(outcome.problem for outcome in outcomes)
        print(f"tables: {out / one}.md", flush=True)
    return MISUSE if failed else DONE


def _with(module: ModuleType, pattern: str | None) -> list[str]:
    """Papers with a row of this pattern."""
    matches = module.matches
    found = [
        one for one, rows in module.PAPERS.items() if pattern is None or any(matches(row, pattern) for row in rows)
    ]
    if not found:
        raise ValueError(f"--rows: expected a pattern of rows, none matches {pattern!r}; see emocast tables --list")
    return found


def _list(module: ModuleType, paper: str | None, pattern: str | None) -> int:
    if paper is not None:
        found = module.chosen(paper, pattern)
    else:
        found = [row for one in module.PAPERS for row in module.PAPERS[one]]
        found = [row for row in found if pattern is None or module.matches(row, pattern)]
    lines = [(row.paper, row.key, _figure(row.published), _how(module, row)) for row in found]
    widths = [max(len(line[k]) for line in [("paper", "row", "published", ""), *lines]) for k in range(3)]
    for line in [("paper", "row", "published", "ours"), *lines]:
        print(f"{line[0]:{widths[0]}}  {line[1]:{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]}".rstrip())
    published = [row for row in found if row.published is not None]
    run = [row for row in published if row.plan is not None]
    print(f"{len(found)} rows, {len(published)} with a published figure; {len(run)} of these can be run here")
    return DONE


def _figure(published: float | None) -> str:
    return "–" if published is None else f"{published:g} %"


def _how(module: ModuleType, row: Any) -> str:
    if row.plan is None:
        return f"not run: {row.reason}"
    if isinstance(row.plan, module.FacePlan):
        return "one training on pictures"
    n = len(row.plan.members)
    return "one training" if n == 1 else f"{n} trainings, fused"


def _names(path: Path | None) -> Collection[str]:
    names: Collection[str] = () if path is None else train_module("train.preparation.leave_out").read_names(path)
    return names
