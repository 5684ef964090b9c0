"""The trainings that rows of tables are made of, each done once: rows that need the same one share its folder.

A folder's name holds the hash of all that its result depends on, so another epoch number, seed or corpus is another
folder, and what is complete is never repeated. Beside what `train.clips.training` leaves there, a fold has
`posteriors.npz`: rows that differ only in what is made of posteriors differ in nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from train.clips import run_folder
from train.clips.fold import Extras
from train.clips.learner import Clips, Material, posteriors
from train.clips.recipes import ClipRecipe
from train.clips.training import train_clips
from train.corpora.clips import ClipCorpus
from train.corpora.items import CorpusError
from train.loop import LoopConfig
from train.preparation.prepare import prepare
from train.preparation.prepared import Needs
from train.tables.rows import Member
from train.tables.tasks import made_without, row_task, weights_of
from train.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that is complete.

    Attributes:
        folder: Its own.
        folds: Of each fold: posteriors (n, L) and labels (n,) of its test clips.
        epochs: The most of a fold.
        minutes: Of all folds together.
        machine: On which it ran, in words.
        note: What of the paper's it was made without.
        is_new: Whether it was done just now.
    """

    folder: Path
    folds: Mapping[str, tuple[np.ndarray, np.ndarray]]
    epochs: int
    minutes: float
    machine: str
    note: str
    is_new: bool


@dataclass(kw_only=True)
class Runs:
    """All trainings on one corpus of clips.

    Attributes:
        recipe: Of the paper.
        corpus: As it was read, without what is left out.
        out: Where the folders of trainings lie.
        cache: Of prepared clips.
        loop: How to train; its seed is the first one's.
        fabric: Launched.
        folds: Names of the folds.
        settings: Values of model and task, as texts.
        weights: Files of networks trained before: `visual` and `audio` of the skeleton recogniser, or a face corpus.
        left_out: Clips that the corpus was read without.
        n_threads: Threads that load clips.
        workers: Processes that prepare clips; None is one for each core.
        command: That repeats them.
        prepare: Prepares clips, as `train.prepare.prepare`.
    """

    recipe: ClipRecipe
    corpus: ClipCorpus
    out: Path
    cache: Path
    loop: LoopConfig
    fabric: Fabric
    folds: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    n_threads: int = 2
    workers: int | None = None
    command: str = ""
    prepare: Callable[..., Clips] = prepare
    _stores: dict[Needs, Clips | CorpusError] = field(default_factory=dict, init=False)
    _new: set[Path] = field(default_factory=set, init=False)

    def task(self, member: Member) -> Task:
        """The recogniser of a row's model. Raises ValueError if a setting is unknown, or does not fit this model."""
        return row_task(self.recipe, member.config, self.corpus.labels, self.settings, self.weights)

    def training(self, member: Member) -> Training:
        """The training of a row's model, done now where it is not there; every rank calls it.

        Raises:
            ValueError: If clips cannot be used, a setting does not fit, or the loss is no number.
        """
        task, loop = self.task(member), replace(self.loop, seed=self.loop.seed + member.repeat)
        folder = self.out / f"{self.recipe.name}-{self._digest(task, loop)[:12]}"
        there = {name: _scored(folder / name) for name in self.folds}
        complete = all(scored is not None for scored in there.values())
        self.fabric.barrier()  # all ranks have looked before the first one writes
        if not complete:
            self._train(task, loop, folder)
            self._new.add(folder)
            there = {name: _scored(folder / name) for name in self.folds}
        results = [run_folder.read(folder / name / "result.json") for name in self.folds]
        return Training(
            folder=folder,
            folds={name: scored for name, scored in there.items() if scored is not None},
            epochs=max(result["epochs"] for result in results),
            minutes=sum(result["seconds"] for result in results) / 60,
            machine=hardware(run_folder.read(folder / self.folds[0] / "run.json")),
            note=made_without(task),
            is_new=folder in self._new,
        )

    def _digest(self, task: Task, loop: LoopConfig) -> str:
        clips = [(clip.name, clip.label, clip.person) for clip in self.corpus.clips]
        precision = str(self.fabric.strategy.precision.precision)
        return run_folder.digest(
            {
                "task": run_folder.task_description(task),
                "weights": weights_of(task),
                "loop": asdict(loop),
                "corpus": [self.corpus.name, self.corpus.protocol, clips, [asdict(fold) for fold in self.corpus.folds]],
                "precision": precision,
                "ranks": self.fabric.world_size,
            }
        )

    def _train(self, task: Task, loop: LoopConfig, folder: Path) -> None:
        store = self._prepared(task.needs())
        extras = Extras(
            n_threads=self.n_threads,
            left_out=self.left_out,
            initial_of=weights_of(task),
            command=self.command,
        )
        train_clips(
            task, self.corpus, store, folder, loop=loop, fabric=self.fabric, folds=self.folds, extras=extras
        )  # fmt: skip
        if self.fabric.is_global_zero:
            for name in self.folds:
                self._score(task, loop, store, folder / name)
        self.fabric.barrier()

    def _score(self, task: Task, loop: LoopConfig, store: Clips, folder: Path) -> None:
        if _scored(folder) is not None:
            return
        (fold,) = (fold for fold in self.corpus.folds if fold.name == folder.name)
        labels = np.array([clip.label for clip in self.corpus.clips])
        network = task.network()
        network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
        network.to(self.fabric.device)
        material = Material(
            task=task, labels=labels, store=store, train=(), valid=(), seed=loop.seed, batch_size=loop.batch_size,
            n_threads=self.n_threads,
        )  # fmt: skip
        found = posteriors(material, network, fold.test)
        partial_file = folder / "posteriors.partial.npz"
        digest = run_folder.read(folder / "result.json")["hash"]
        np.savez(partial_file, posteriors=found, labels=labels[list(fold.test)], hash=np.array(digest))
        partial_file.replace(folder / "posteriors.npz")

    def _prepared(self, needs: Needs) -> Clips:
        if needs not in self._stores:
            if not self.fabric.is_global_zero:
                self.fabric.barrier()  # rank 0 fills the cache, the others find it full
            self._stores[needs] = self._store(needs)
            if self.fabric.is_global_zero:
                self.fabric.barrier()
        store = self._stores[needs]
        if isinstance(store, CorpusError):
            raise store
        return store

    def _store(self, needs: Needs) -> Clips | CorpusError:
        # Clips that cannot be used are looked at once, not once for each row.
        try:
            return self.prepare(
                self.corpus, needs, self.cache, workers=self.workers, progress=self.fabric.is_global_zero
            )
        except CorpusError as error:
            return error


def hardware(run: Mapping[str, Any]) -> str:
    """What `run.json` says of its machine, in words."""
    machine = run["machine"]
    cores = f"{machine['cores']} cores of {machine['processor']}"
    names = machine["accelerators"] if run["device"].startswith("cuda") else []
    return f"{machine['devices_used']} x {names[0]}, {cores}" if names else cores


def _scored(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    # Posteriors and labels of a fold's test clips, where they are of the result that lies beside them.
    path, result = folder / "posteriors.npz", folder / "result.json"
    if not path.is_file() or not result.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["hash"]) != run_folder.read(result)["hash"]:
            return None
        return stored["posteriors"], stored["labels"]
