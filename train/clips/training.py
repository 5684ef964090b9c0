"""Training of any task on the folds of a corpus, each in a folder of its own, and the protocol's figure over them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lightning.fabric import Fabric

from train.clips import run_folder
from train.clips.evaluation import Summary, summarise
from train.clips.fold import Extras, FoldRun
from train.clips.learner import Clips
from train.corpora.clips import ClipCorpus, Fold
from train.loop import LoopConfig
from train.plots import draw_confusion
from train.tasks.task import Task


def train_clips(
    task: Task,
    corpus: ClipCorpus,
    store: Clips,
    out: Path,
    *,
    loop: LoopConfig,
    fabric: Fabric,
    folds: Sequence[str] | None = None,
    extras: Extras | None = None,
) -> Summary:
    """Train and measure a task on folds of a corpus; every rank calls it, with a folder that all machines share.

    A fold that is complete with the same configuration is not repeated, one that was interrupted goes on.

    Args:
        task: The recogniser.
        corpus: As it was prepared.
        store: Its prepared clips.
        out: The run's folder: one folder a fold, and `result.json` and `confusion.png` of all of them.
        loop: How to train; its seed is that of everything random.
        fabric: Launched.
        folds: Names of the folds; None is all of the protocol's.
        extras: What else it can be told.

    Returns:
        The protocol's figures. Each fold's folder has `run.json`, `metrics.jsonl`, `weights.pt`, `result.json`,
        `curves.png`, `confusion.png` and `bundle`.

    Raises:
        ValueError: If a fold is not in the corpus or has nothing to test on, the labels are not the task's, weights are
            to be chosen without clips held out for that, or a folder holds a run of another configuration.
    """
    extras = extras or Extras()
    chosen = _chosen(corpus, folds)
    _check(task, corpus, chosen, loop, extras)
    results = []
    for fold in chosen:
        run = FoldRun(task, corpus, store, fold, out / fold.name, loop, fabric, extras)
        results.append(run.result())
        fabric.barrier()
    summary = summarise(results)
    if fabric.is_global_zero:
        title = f"{task.name}, {corpus.name}: accuracy {summary.mean['accuracy']:.1%} over {len(results)} fold(s)"
        draw_confusion(summary.confusion, corpus.labels, out / "confusion.png", title=title)
        notes = {"task": task.name, "corpus": corpus.name, "protocol": corpus.protocol, "seed": loop.seed}
        run_folder.write(out / "result.json", notes | {"left_out": extras.left_out, **asdict(summary)})
    return summary


def _chosen(corpus: ClipCorpus, folds: Sequence[str] | None) -> list[Fold]:
    known = {fold.name: fold for fold in corpus.folds}
    if folds is not None and (not folds or set(folds) - set(known)):
        raise ValueError(f"expected folds of {', '.join(known)}, got {', '.join(folds) or 'none'}")
    return [known[name] for name in (known if folds is None else dict.fromkeys(folds))]


def _check(task: Task, corpus: ClipCorpus, folds: Sequence[Fold], loop: LoopConfig, extras: Extras) -> None:
    if tuple(task.labels) != tuple(corpus.labels):
        raise ValueError(f"expected the labels of {corpus.name}, {corpus.labels}, got those of the task, {task.labels}")
    if empty := [fold.name for fold in folds if not fold.train or not fold.test]:
        raise ValueError(f"expected clips to train and to test on, got none in {', '.join(empty)} of {corpus.name}")
    if not 0 <= extras.valid_share < 1:
        raise ValueError(f"valid_share: expected 0 or more and less than 1, got {extras.valid_share}")
    if loop.watch is not None and extras.valid_share == 0:
        raise ValueError(
            f"expected a valid_share, clips to watch {loop.watch} on, got 0: chosen by it on the test clips, weights "
            "would have a figure that no new clip gives them"
        )
