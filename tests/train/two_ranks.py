"""Run as a program: trains the colour task on two processes, and leaves what each saw and what came of it.

python -m tests.train.two_ranks OUT
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric

from tests.train.colour_task import ColourConfig, ColourTask, corpus, store
from train.clips.learner import ClipLearner, Material
from train.clips.training import train_clips
from train.loop import LoopConfig, fit

LOOP = LoopConfig(
    epochs=4, batch_size=2, learning_rate=0.1, weight_decay=0.01, optimiser="sgd", average=0.8, evaluate_every=2
)
STILL = ColourTask(config=ColourConfig(dropout=0.0))
NOISY = ColourTask(config=ColourConfig(dropout=0.5))


class Breaks(Exception):  # noqa: N818
    """Stands for a power cut."""


class Breaking(ClipLearner):
    """Breaks off before epoch 2, on all ranks."""

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1):  # type: ignore[no-untyped-def]
        if epoch == 2:
            raise Breaks
        return super().batches(epoch, rank, n_ranks)


def learner(task: ColourTask, batch_size: int, kind: type[ClipLearner] = ClipLearner) -> ClipLearner:
    torch.manual_seed(0)
    made = corpus(8)
    material = Material(
        task=task, labels=np.array([clip.label for clip in made.clips]), store=store(made),
        train=made.folds[0].train, valid=made.folds[0].test, seed=5, batch_size=batch_size, n_threads=1,
    )  # fmt: skip
    return kind(task.network(), material)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    trained = {"still": fit(fabric, learner(STILL, 2), LOOP, out / "still").state_dict()}
    trained["accumulated"] = fit(
        fabric, learner(STILL, 1), replace(LOOP, batch_size=1, accumulate=2), out / "accumulated"
    ).state_dict()
    trained["unbroken"] = fit(fabric, learner(NOISY, 2), LOOP, out / "unbroken").state_dict()
    try:
        fit(fabric, learner(NOISY, 2, Breaking), LOOP, out / "broken")
    except Breaks:
        fabric.barrier()
    trained["resumed"] = fit(fabric, learner(NOISY, 2), LOOP, out / "broken").state_dict()
    torch.save(trained, out / f"rank-{fabric.global_rank}.pt")
    made = corpus(8)
    train_clips(STILL, made, store(made), out / "folds", loop=LOOP, fabric=fabric, folds=("odd",))
    print(f"rank {fabric.global_rank} of {fabric.world_size} is done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
