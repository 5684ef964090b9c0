"""A training that was broken off goes on: all that a run's next epoch depends on, in one file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn


@dataclass(kw_only=True)
class Standing:
    """How far a training is.

    Attributes:
        epoch: Epochs that are done.
        best: The best value of the watched metric, None before there is one.
        best_epoch: The epoch it was measured after.
        waited: Evaluations since then.
        stopped: Whether patience ran out.
        weights: The averaged weights of the best epoch.
    """

    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    stopped: bool = False
    weights: dict[str, Tensor] | None = None


def save(
    fabric: Fabric, path: Path, parts: Mapping[str, Any], standing: Standing, settings: Mapping[str, object]
) -> None:
    """Write a checkpoint; every rank calls it, rank 0 writes.

    Args:
        fabric: Launched.
        path: The file; it is replaced as a whole, so that a run killed while saving resumes from the epoch before.
        parts: What has a `state_dict`.
        standing: How far the training is.
        settings: What a resumed run must have in common with this one.
    """
    random = _random_state(fabric)
    if not fabric.is_global_zero:
        return
    # Shallow: `asdict` would copy the weights.
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"standing": dict(vars(standing)), "settings": dict(settings), **random}
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(fabric: Fabric, path: Path, parts: Mapping[str, Any], settings: Mapping[str, object]) -> Standing:
    """Load a checkpoint into `parts`, where there is one; every rank calls it.

    Raises:
        ValueError: If the checkpoint is damaged, was made with other settings, or not every rank sees it.
    """
    standing, state = Standing(), {}
    if path.is_file():
        state = _read(path)
        _check(path, state["settings"], settings)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        _set_random_state(fabric, state)
        standing = Standing(**state["standing"])
    if fabric.broadcast(standing.epoch) != standing.epoch:
        raise ValueError(f"{path} is not the same on all machines: expected a folder that all of them share")
    return standing


def differences(made: Mapping[str, object], asked: Mapping[str, object]) -> str:
    """What was made otherwise than asked, in one line; empty if nothing was."""
    names = [name for name in {**made, **asked} if made.get(name) != asked.get(name)]
    return ", ".join(f"{name} {made.get(name)} and not {asked.get(name)}" for name in names)


def settings_of(fabric: Fabric, config: Any) -> dict[str, object]:
    """The hyperparameters of a run: those of its configuration, the precision and the number of ranks."""
    return {**asdict(config), "precision": str(fabric.strategy.precision.precision), "ranks": fabric.world_size}


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _read(path: Path) -> dict[str, Any]:
    # torch.load raises whatever its unpickler or the zip reader does on a file that is not one of its own
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}); delete it to begin again") from error
    if not isinstance(state, dict) or not {"settings", "standing"} <= set(state):
        raise ValueError(f"{path} is not a checkpoint of this version; use another folder")
    return state


def _check(path: Path, made: Mapping[str, object], asked: Mapping[str, object]) -> None:
    # what was saved knows tuples and numbers as they were, so that they compare
    if found := differences(made, asked):
        raise ValueError(f"{path} was made with {found}; give the same settings, or use another folder")


def _random_state(fabric: Fabric) -> dict[str, Tensor]:
    # Dropout draws from torch's own generators: where these are restored, a resumed run ends as an unbroken one.
    own = {"random": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        own["random_cuda"] = torch.cuda.get_rng_state(fabric.device)
    if fabric.world_size == 1:
        return {name: value.unsqueeze(0) for name, value in own.items()}
    gathered: list[dict[str, Tensor]] = [{} for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(gathered, own)
    return {name: torch.stack([states[name] for states in gathered]) for name in own}


def _set_random_state(fabric: Fabric, state: Mapping[str, Any]) -> None:
    # clones: torch 2.13 dies of a state that does not begin where its storage does
    if "random" in state:
        torch.set_rng_state(state["random"][fabric.global_rank].clone())
    if fabric.device.type == "cuda" and "random_cuda" in state:
        torch.cuda.set_rng_state(state["random_cuda"][fabric.global_rank].clone(), fabric.device)
