"""The way of a recipe from a corpus to bundles: read, prepare, train each fold, measure, export."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn

from train import initial_weights
from train.clips.fold import Extras
from train.clips.overrides import override
from train.clips.recipes import ClipRecipe
from train.clips.run_folder import file_digest
from train.clips.training import train_clips
from train.corpora.clips import ClipCorpus
from train.corpora.items import CorpusError
from train.corpora.readers import read_clips
from train.loop import LoopConfig
from train.preparation.prepare import Store, prepare
from train.tasks.task import Task

_NOT_OF_LOOP = ("seed", "epochs")  # they have arguments of their own


def train_clip_recipe(
    recipe: ClipRecipe,
    data: Mapping[str, Path],
    out: Path,
    *,
    cache: Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    folds: Sequence[str] | None = None,
    settings: Mapping[str, str] | None = None,
    initial: Mapping[str, Path] | None = None,
    leave_out: Collection[str] = (),
    valid_share: float = 0.0,
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    threads: int = 2,
    workers: int | None = None,
) -> Path:
    """Read a corpus, prepare its clips, and train, measure and export a recogniser on each of its folds.

    Args:
        recipe: One of `CLIP_RECIPES`.
        data: One corpus: its name and folder.
        out: The run's folder, which all machines share.
        cache: For prepared clips; None is `cache` in `out`.
        seed: Of everything random.
        epochs: Instead of the recipe's own.
        folds: Names of folds; None is the whole protocol.
        settings: Of the model, the task and, as `loop.learning_rate`, the loop: names and values as texts.
        initial: Files of first weights by the part of the network they are for; an empty name is all of it.
        leave_out: Names of clips to do without.
        valid_share: Share of training clips, whole persons, to choose weights and to calibrate by.
        precision: Fabric's name for it.
        accelerator: `cpu`, `cuda`, or `auto` for the best that is there.
        devices: On each machine.
        nodes: Machines; each is to run the same command, see Fabric's guide to clusters.
        threads: Threads of torch on a CPU, and threads that load clips.
        workers: Processes that prepare clips; None is one for each core.

    Returns:
        The folder of the first fold's bundle. The protocol's figures are in `out / "result.json"`.

    Raises:
        CorpusError: If the corpus is missing or not in its layout, or clips cannot be used: all that is wrong.
        ValueError: If a setting is wrong, or `out` holds a run of another configuration.
    """
    settings, initial = dict(settings or {}), dict(initial or {})
    (name, folder) = _one_corpus(recipe, data)
    torch.set_num_threads(threads)
    n_ranks = devices * nodes
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=precision,  # type: ignore[arg-type]
        strategy="ddp" if n_ranks > 1 else "auto",
    )
    fabric.launch()
    corpus = read_clips(name, folder)
    loop = _loop(recipe, settings, seed, epochs)
    of_task = {k: text for k, text in settings.items() if not k.startswith("loop.")}
    task = recipe.task(corpus.labels, of_task)
    store = _prepared(fabric, corpus, task, cache or out / "cache", workers, leave_out)
    command = _command(recipe, name, seed, epochs, folds, settings, initial, leave_out, valid_share, precision)
    extras = Extras(
        valid_share=valid_share,
        n_threads=threads,
        left_out=tuple(sorted(leave_out)),
        initial=(lambda network: _begin(network, initial)) if initial else None,
        initial_of={part: file_digest(path) for part, path in initial.items()},
        command=command,
    )
    _tell_matched(fabric, task)
    summary = train_clips(task, store.corpus, store, out, loop=loop, fabric=fabric, folds=folds, extras=extras)
    return out / summary.folds[0] / "bundle"


def _one_corpus(recipe: ClipRecipe, data: Mapping[str, Path]) -> tuple[str, Path]:
    if len(data) != 1 or not set(data) <= set(recipe.corpora):
        raise CorpusError(
            f"expected --data NAME=DIR with one corpus of {', '.join(recipe.corpora)}, got {', '.join(data) or 'none'}"
        )
    return next(iter(data.items()))


def _loop(recipe: ClipRecipe, settings: Mapping[str, str], seed: int, epochs: int | None) -> LoopConfig:
    own = {name.removeprefix("loop."): text for name, text in settings.items() if name.startswith("loop.")}
    loop = override(recipe.loop, own, hidden=_NOT_OF_LOOP)
    return replace(loop, seed=seed, epochs=epochs or loop.epochs)


def _prepared(
    fabric: Fabric, corpus: ClipCorpus, task: Task, cache: Path, workers: int | None, leave_out: Collection[str]
) -> Store:
    if not fabric.is_global_zero:
        fabric.barrier()  # rank 0 fills the cache, the others find it full
    store = prepare(
        corpus, task.needs(), cache, workers=workers, leave_out=leave_out, progress=fabric.is_global_zero
    )  # fmt: skip
    if fabric.is_global_zero:
        fabric.barrier()
    return store


def _tell_matched(fabric: Fabric, task: Task) -> None:
    # Feature networks that stay as their files have them are read when a network is first made.
    if not hasattr(task, "matched") or not (getattr(task, "weights", ()) or getattr(task, "face_weights", ())):
        return  # no file was named, and a network made for nothing is seconds
    task.network()
    if fabric.is_global_zero:
        for report in task.matched.values() if isinstance(task.matched, Mapping) else task.matched:
            print(report, flush=True)


def _begin(network: nn.Module, initial: Mapping[str, Path]) -> str:
    reports = []
    for part, path in initial.items():
        try:
            module = network.get_submodule(part)
        except AttributeError as error:
            parts = ", ".join(name for name, _ in network.named_children())
            raise ValueError(f"expected weights for a part of the network, as {parts}, got {part!r}") from error
        reports.append(f"{part or 'network'}: {initial_weights.load(module, path)}")
    return "\n".join(reports)


def _command(
    recipe: ClipRecipe,
    corpus: str,
    seed: int,
    epochs: int | None,
    folds: Sequence[str] | None,
    settings: Mapping[str, str],
    initial: Mapping[str, Path],
    leave_out: Collection[str],
    valid_share: float,
    precision: str,
) -> str:
    words = ["emocast train", recipe.name, f"--data {corpus}=DIR"]
    words += [f"--seed {seed}"] if seed else []
    words += [f"--epochs {epochs}"] if epochs else []
    words += [f"--fold {fold}" for fold in folds or ()]
    words += [f"--set {name}={text}" for name, text in settings.items()]
    words += [f"--initial {part}={path.name}" for part, path in initial.items()]
    words += ["--leave-out FILE"] if leave_out else []
    words += [f"--valid-share {valid_share:g}"] if valid_share else []
    words += [f"--precision {precision}"] if precision != "32-true" else []
    return " ".join(words)
