"""One fold of a training: its clips, its folder, and all that the folder is left with."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from train.clips import run_folder
from train.clips.bundle import write_bundle
from train.clips.evaluation import FoldResult, fold_result
from train.clips.learner import ClipLearner, Clips, Material, keep_single_precision, posteriors
from train.corpora.clips import ClipCorpus, Fold
from train.loop import LoopConfig, fit
from train.plots import draw_confusion, draw_curves
from train.tasks.task import Task

N_CHECKED = 4  # clips that an exported graph is checked on


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What else a training of clips can be told.

    Attributes:
        valid_share: Share of a fold's training clips, whole persons, that are held out: what the loop watches and what
            the temperature is fitted on. 0 trains on all of them.
        n_threads: Threads that make items, on each device.
        left_out: Names of clips that the corpus is used without; the result states them.
        initial: Gives a fresh network its first weights, and returns a report of what matched.
        initial_of: What says which weights these are: names and hashes of files.
        command: That reproduces the run; it is stated in its bundle.
    """

    valid_share: float = 0.0
    n_threads: int = 2
    left_out: tuple[str, ...] = ()
    initial: Callable[[nn.Module], str] | None = None
    initial_of: Mapping[str, str] | None = None
    command: str = ""


@dataclass(frozen=True)
class FoldRun:
    """A fold to be trained and measured, in `folder`."""

    task: Task
    corpus: ClipCorpus
    store: Clips
    fold: Fold
    folder: Path
    loop: LoopConfig
    fabric: Fabric
    extras: Extras

    def result(self) -> FoldResult:
        """Train where that is not done yet, and leave the folder complete; every rank calls it."""
        train, valid = hold_out(self.corpus, self.fold, self.extras.valid_share, self.loop.seed)
        configuration = self._configuration(train, valid)
        done = run_folder.complete(self.folder, configuration)
        if done is None:
            # every rank would else ask whether the folder is new after rank 0 has begun it
            if self.fabric.is_global_zero:
                run_folder.begin(self.folder, configuration, self._notes())
            self.fabric.barrier()
            done = self._train(train, valid, run_folder.digest(configuration))
        return msgspec.convert(done["result"], FoldResult)

    def _train(self, train: tuple[int, ...], valid: tuple[int, ...], digest: str) -> dict[str, Any]:
        material = Material(
            task=self.task,
            labels=np.array([clip.label for clip in self.corpus.clips]),
            store=self.store,
            train=train,
            # Without clips held out the curve shows the test clips: it chooses nothing.
            valid=valid or self.fold.test,
            seed=self.loop.seed,
            batch_size=self.loop.batch_size,
            n_threads=self.extras.n_threads,
        )
        torch.manual_seed(self.loop.seed)
        network = self.task.network()
        if self.extras.initial is not None:
            report = self.extras.initial(network)
            if self.fabric.is_global_zero:
                (self.folder / "initial.txt").write_text(report + "\n")
        if "mixed" in str(self.fabric.strategy.precision.precision):
            keep_single_precision(network)
        averaged = fit(self.fabric, ClipLearner(network, material), self.loop, self.folder)
        content: dict[str, Any] = {}
        if self.fabric.is_global_zero:
            content = self._finish(averaged.network, material, valid, digest)  # type: ignore[arg-type]
        return self.fabric.broadcast(content)

    def _finish(self, trained: nn.Module, material: Material, valid: tuple[int, ...], digest: str) -> dict[str, Any]:
        # A network without the hooks of mixed precision: these would be in the way of an export.
        torch.save(trained.state_dict(), self.folder / "weights.pt")
        network = self.task.network().to(self.fabric.device)
        network.load_state_dict(trained.state_dict())

        def scored(clips: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
            return posteriors(material, network, clips), material.labels[list(clips)]

        result = fold_result(self.fold.name, scored(self.fold.test), scored(valid) if valid else None)
        lines = run_folder.curve(self.folder)
        best = self._best(lines)
        self._draw(result, lines, best, "held-out clips" if valid else "test clips")
        checked = dict.fromkeys((*self.fold.test, *self.fold.train))
        clips = [self.store[k] for k in list(checked)[:N_CHECKED]]
        used = self._used(material.train, valid)
        bundle = self.folder / "bundle"
        write_bundle(self.task, network, clips, bundle, self.corpus, result, used, self.extras.command, self.loop.seed)
        content = {"hash": digest, "result": asdict(result), "labels": self.corpus.labels, "epochs": len(lines)}
        content |= {"kept_epoch": best or len(lines), "seconds": round(sum(line["seconds"] for line in lines), 1)}
        run_folder.write(self.folder / "result.json", content | {"finished": _now()})
        return run_folder.read(self.folder / "result.json")

    def _best(self, lines: Sequence[Mapping[str, float]]) -> int | None:
        if self.loop.watch is None:
            return None
        measured = [line for line in lines if self.loop.watch in line]
        sign = 1 if self.loop.goal == "highest" else -1
        return int(max(measured, key=lambda line: sign * line[str(self.loop.watch)])["epoch"])

    def _draw(
        self, result: FoldResult, lines: Sequence[Mapping[str, float]], best: int | None, measured_on: str
    ) -> None:
        title = f"{self.task.name}, {self.corpus.name}, {self.fold.name}"
        draw_curves(lines, self.folder / "curves.png", title=title, measured_on=measured_on, best_epoch=best)
        figures = f"{title}: accuracy {result.accuracy:.1%}, UAR {result.uar:.1%}, n = {result.n}"
        draw_confusion(result.confusion, self.corpus.labels, self.folder / "confusion.png", title=figures)

    def _used(self, train: Sequence[int], valid: Sequence[int]) -> str:
        persons = len({self.corpus.clips[k].person for k in train})
        held = f"; {len(valid)} held out to choose and calibrate" if valid else ""
        left = f"; {len(self.extras.left_out)} left out" if self.extras.left_out else ""
        n_test = len(self.fold.test)
        return f"{self.fold.name}: {len(train)} clips of {persons} people{held}; {n_test} to measure{left}"

    def _configuration(self, train: Sequence[int], valid: Sequence[int]) -> dict[str, Any]:
        clips = self.corpus.clips
        parts = {
            part: run_folder.digest({"clips": [(clips[k].name, clips[k].label) for k in own]})
            for part, own in (("train", train), ("valid", valid), ("test", self.fold.test))
        }
        named = {"name": self.corpus.name, "protocol": self.corpus.protocol, "fold": self.fold.name}
        return {
            "task": run_folder.task_description(self.task),
            "loop": asdict(self.loop),
            "corpus": named | {f"n_{part}": len(own) for part, own in (("train", train), ("valid", valid))} | parts,
            "initial": dict(self.extras.initial_of or {}),
            "precision": str(self.fabric.strategy.precision.precision),
            "ranks": self.fabric.world_size,
        }

    def _notes(self) -> dict[str, Any]:
        n_machines = max(1, int(getattr(self.fabric.strategy, "num_nodes", 1)))
        return {
            "seed": self.loop.seed,
            "command": self.extras.command,
            "arguments": sys.argv,
            "left_out": self.extras.left_out,
            "versions": run_folder.versions(),
            "machine": run_folder.machine(self.fabric.world_size, n_machines),
            "device": str(self.fabric.device),
            "begun": _now(),
        }


def hold_out(corpus: ClipCorpus, fold: Fold, share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide a fold's training clips into those to learn from and at least `share` of them to choose by.

    Whole persons are held out, drawn with the seed. Returns indices, ascending both.

    Raises:
        ValueError: If this leaves nobody to learn from.
    """
    if share <= 0:
        return fold.train, ()
    persons = sorted({corpus.clips[k].person for k in fold.train})
    held: set[str] = set()
    for k in np.random.default_rng([seed, len(persons)]).permutation(len(persons)):
        if sum(corpus.clips[i].person in held for i in fold.train) >= share * len(fold.train):
            break
        held.add(persons[k])
    if len(held) == len(persons):
        raise ValueError(f"fold {fold.name}: expected people enough to hold {share:.0%} out, got {len(persons)}")
    valid = tuple(k for k in fold.train if corpus.clips[k].person in held)
    return tuple(k for k in fold.train if k not in set(valid)), valid


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
