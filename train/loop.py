"""The training loop, for every recipe: one optimiser, a warm-up, a cosine, averaged weights, a checkpoint an epoch.

Lightning Fabric carries the device, the precision and the number of machines.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the material.
        batch_size: Items in a batch, on each device.
        learning_rate: The highest, after `warmup_epochs`; a cosine takes it to zero.
        weight_decay: Of weights; norms and biases have none.
        optimiser: `sgd` (Nesterov momentum 0.9) or `adamw`.
        average: Decay of the averaged weights, which are those that are kept.
        seed: Of everything random.
        evaluate_every: Epochs between evaluations; the last is always evaluated.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float
    weight_decay: float
    optimiser: str
    warmup_epochs: float = 1.0
    average: float = 0.998
    seed: int = 0
    evaluate_every: int = 2


class Learner(Protocol):
    """A module that turns a batch into its loss, and knows its material."""

    def n_batches(self) -> int: ...
    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]: ...
    def evaluate(self) -> dict[str, float]: ...


def fit(fabric: Fabric, learner: nn.Module, config: LoopConfig, folder: Path) -> nn.Module:
    """Train `learner` (an nn.Module that is a `Learner`), resuming from `folder` where a checkpoint lies there.

    Returns:
        The learner with averaged weights. `folder` then holds `config.json`, `metrics.jsonl` and `checkpoint.pt`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    averaged = AveragedModel(learner, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True)
    optimiser = make_optimiser(learner, config)
    module, optimiser = fabric.setup(learner, optimiser)
    first = _resume(folder / "checkpoint.pt", learner, averaged, optimiser, config)
    n_batches = learner.n_batches()  # type: ignore[operator]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, disable=not fabric.is_global_zero) as progress:
        bar = progress.add_task(folder.name, total=config.epochs * n_batches, completed=first * n_batches)
        for epoch in range(first, config.epochs):
            began, total = time.monotonic(), 0.0
            module.train()
            for step, batch in enumerate(learner.batches(epoch)):  # type: ignore[operator]
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(config, epoch + step / n_batches)
                loss = module(*fabric.to_device(batch))
                optimiser.zero_grad()
                fabric.backward(loss)
                optimiser.step()
                averaged.update_parameters(learner)
                total += loss.item()
                progress.advance(bar)
            line: dict[str, Any] = {"epoch": epoch + 1, "loss": total / n_batches}
            if (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs:
                averaged.module.eval()
                line |= averaged.module.evaluate()  # type: ignore[operator]
            line["seconds"] = time.monotonic() - began
            if fabric.is_global_zero:
                _record(folder, line)
                progress.console.print(" ".join(f"{k} {v:.4g}" for k, v in line.items()))
                state = {"learner": learner, "averaged": averaged, "optimiser": optimiser, "epoch": epoch + 1}
                plain = {k: getattr(v, "state_dict", lambda v=v: v)() for k, v in state.items()}
                _save(folder / "checkpoint.pt", plain | _random_state())
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


def _resume(path: Path, learner: nn.Module, averaged: nn.Module, optimiser: Any, config: LoopConfig) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["epoch"] > config.epochs:
        raise ValueError(f"{path} is {state['epoch']} epochs old, {config.epochs} were asked for; use another folder")
    learner.load_state_dict(state["learner"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    # Dropout draws from torch's own generators: where these are restored, a resumed run ends as an unbroken one.
    if "random" in state:
        torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and len(state.get("random_cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return int(state["epoch"])


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"random": torch.get_rng_state(), "random_cuda": cuda}


def _save(path: Path, state: dict[str, Any]) -> None:
    # Written beside and renamed: a run that is killed while saving can still resume from the epoch before.
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _record(folder: Path, line: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(line) + "\n")
