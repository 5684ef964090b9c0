"""The training loop, for every recipe: one optimiser, a warm-up, a cosine, averaged weights, a checkpoint an epoch.

Lightning Fabric carries the device, the precision and the number of machines.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.checkpoints import Standing, plain_state, resume, save, settings_of


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the material.
        batch_size: Items in a batch, on each device.
        accumulate: Batches whose gradients are averaged for one step of the optimiser.
        learning_rate: The highest, after `warmup_epochs`; a cosine takes it to zero.
        weight_decay: Of weights; norms and biases have none.
        optimiser: `sgd` (Nesterov momentum 0.9) or `adamw`.
        average: Decay of the averaged weights, which are those that are kept.
        seed: Of everything random.
        evaluate_every: Epochs between evaluations; the last is always evaluated.
        watch: Metric of the evaluation by which the best weights are kept; None keeps the last.
        goal: Which value of it is the best.
        patience: Evaluations in a row without a better one after which training stops; None never stops early.

    Raises:
        ValueError: If a number is out of its range, or patience has nothing to watch.
    """

    epochs: int
    batch_size: int = 128
    accumulate: int = 1
    learning_rate: float
    weight_decay: float
    optimiser: str
    warmup_epochs: float = 1.0
    average: float = 0.998
    seed: int = 0
    evaluate_every: int = 2
    watch: str | None = None
    goal: Literal["highest", "lowest"] = "highest"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.patience is not None and (self.patience < 1 or self.watch is None):
            raise ValueError(f"patience: expected 1 or more and a metric to watch, got {self.patience}, {self.watch}")


class Learner(Protocol):
    """A module that turns a batch into its loss, and knows its material.

    Where several processes (ranks) train, each asks for its own share. All of them draw the epoch's order alike and
    cut it into steps of n_ranks batches; a rank takes its own batch of each step. So no item of a step goes to two
    ranks, all have as many batches, and n_ranks batches of b items are one batch of n_ranks * b. The loss is the mean
    of a batch: gradients are averaged over ranks and accumulated batches. Batch normalisation sees its own rank's
    batch. A learner for one process alone may leave out `rank` and `n_ranks`.
    """

    def n_batches(self, n_ranks: int = 1) -> int: ...
    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Any, ...]]: ...
    def evaluate(self) -> dict[str, float]: ...


def fit(fabric: Fabric, learner: nn.Module, config: LoopConfig, folder: Path) -> nn.Module:
    """Train `learner` (an nn.Module that is a `Learner`), resuming from `folder` where a checkpoint lies there.

    Every rank calls it, with a `folder` that all machines share; rank 0 evaluates and writes.

    Returns:
        The learner with averaged weights, the best ones where the configuration watches a metric. `folder` then holds
        `config.json`, `metrics.jsonl` and `checkpoint.pt`.

    Raises:
        ValueError: If the checkpoint was made with other settings, the loss is not a number, or the watched metric
            is not measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    averaged = AveragedModel(learner, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True)
    optimiser = make_optimiser(learner, config)
    module, optimiser = fabric.setup(learner, optimiser)
    averaged.to(fabric.device)
    if fabric.global_rank:  # rank 0 goes on with the caller's generator; dropout must differ between ranks
        torch.manual_seed(config.seed * 100_003 + fabric.global_rank)
    parts = {"learner": learner, "averaged": averaged, "optimiser": optimiser, "precision": fabric.strategy.precision}
    settings = settings_of(fabric, config)
    standing = resume(fabric, folder / "checkpoint.pt", parts, settings)
    if fabric.is_global_zero:
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    n_batches = learner.n_batches(*_ranks(fabric))  # type: ignore[operator]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, disable=not fabric.is_global_zero) as progress:
        bar = progress.add_task(folder.name, total=config.epochs * n_batches, completed=standing.epoch * n_batches)
        while standing.epoch < config.epochs and not standing.stopped:
            began = time.monotonic()
            loss = _epoch(fabric, module, averaged, optimiser, config, standing.epoch, lambda: progress.advance(bar))
            standing.epoch += 1
            line = {"epoch": standing.epoch, "loss": loss} | _evaluate(fabric, averaged, config, standing)
            line["seconds"] = time.monotonic() - began
            if fabric.is_global_zero:
                _record(folder, line)
                progress.console.print(" ".join(f"{k} {v:.4g}" for k, v in line.items()))
            save(fabric, folder / "checkpoint.pt", parts, standing, settings)
    if standing.weights is not None:
        averaged.module.load_state_dict(standing.weights)
    return averaged.module.eval()


def make_optimiser(module: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """The configured optimiser; one-dimensional parameters (norms, biases) are not decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    raise ValueError(f"expected optimiser 'sgd' or 'adamw', got {config.optimiser!r}")


def learning_rate(config: LoopConfig, epoch: float) -> float:
    """Linear warm-up, then a cosine to zero at the last epoch."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * (0.01 + 0.99 * epoch / config.warmup_epochs)
    done = (epoch - config.warmup_epochs) / max(1e-9, config.epochs - config.warmup_epochs)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _epoch(fabric: Fabric, module: Any, averaged: AveragedModel, optimiser: Any, config: LoopConfig, epoch: int,
           advance: Callable[[], None]) -> float:  # fmt: skip
    # Returns the mean loss of all ranks. `module` is the learner as Fabric wraps it.
    learner, total, ranks = module.module, 0.0, _ranks(fabric)
    n_batches = learner.n_batches(*ranks)
    module.train()
    for step, batch in enumerate(learner.batches(epoch, *((fabric.global_rank, *ranks) if ranks else ()))):
        first = step - step % config.accumulate
        n_together = min(config.accumulate, n_batches - first)
        whole = step + 1 == first + n_together
        if step == first:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, epoch + first / n_batches)
            optimiser.zero_grad()
        with fabric.no_backward_sync(module, enabled=not whole):
            loss = module(*fabric.to_device(batch))
            fabric.backward(loss / n_together)
        if whole:
            optimiser.step()
            averaged.update_parameters(learner)
        total += loss.item()
        advance()
    mean = fabric.all_reduce(torch.tensor(total / n_batches, dtype=torch.float64), reduce_op="mean")
    assert isinstance(mean, torch.Tensor)
    if not math.isfinite(mean.item()):
        raise ValueError(f"the loss of epoch {epoch + 1} is {mean.item()}; lower the learning rate, in another folder")
    return mean.item()


def _ranks(fabric: Fabric) -> tuple[int, ...]:
    return (fabric.world_size,) if fabric.world_size > 1 else ()


def _evaluate(fabric: Fabric, averaged: AveragedModel, config: LoopConfig, standing: Standing) -> dict[str, float]:
    if standing.epoch % config.evaluate_every and standing.epoch != config.epochs:
        return {}
    found: dict[str, float] = {}
    if fabric.is_global_zero:
        averaged.module.eval()
        found = averaged.module.evaluate()  # type: ignore[operator]
    found = fabric.broadcast(found)
    if config.watch is None:
        return found
    if config.watch not in found:
        raise ValueError(f"watch: expected a metric of {', '.join(found) or 'none'}, got {config.watch!r}")
    value, sign = found[config.watch], 1 if config.goal == "highest" else -1
    if standing.best is None or sign * value > sign * standing.best:
        standing.best, standing.best_epoch, standing.waited = value, standing.epoch, 0
        standing.weights = plain_state(averaged.module)
    else:
        standing.waited += 1
        standing.stopped = config.patience is not None and standing.waited >= config.patience
    return found


def _record(folder: Path, line: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(line) + "\n")
