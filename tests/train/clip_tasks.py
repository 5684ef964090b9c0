"""What the tests of clip recognisers share: a plain training, and a bundle that is run stage by stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from engines.bundle import Bundle
from engines.onnx_runtime import OnnxEngine
from train.clips.bundle import draft, save
from train.preparation.prepared import Prepared
from train.tasks.task import Exported, Task

Rows = Mapping[str, np.ndarray]


def batch(
    task: Task, clips: Sequence[Prepared], generators: Sequence[np.random.Generator] | None = None
) -> dict[str, Tensor]:
    """Items of these clips; random views with generators, else those that are evaluated."""
    chosen = generators if generators is not None else [None] * len(clips)
    items = [task.inputs(clip, generator) for clip, generator in zip(clips, chosen, strict=True)]
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def fit(
    task: Task, clips: Sequence[Prepared], labels: Sequence[int], *, n_steps: int, rate: float, seed: int = 0
) -> nn.Module:
    """All clips in each step, new views each time, by Adam; the network in evaluation mode."""
    torch.manual_seed(seed)
    network = task.network().train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.2  # statistics that follow within these few steps; I3D's own need hundreds
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=n_steps)
    targets = torch.tensor(labels)
    for step in range(n_steps):
        generators = [np.random.default_rng([seed, step, k]) for k in range(len(clips))]
        optimiser.zero_grad()
        loss = task.loss(network, batch(task, clips, generators), targets)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return network.eval()


def accuracy(task: Task, network: nn.Module, clips: Sequence[Prepared], labels: Sequence[int]) -> float:
    with torch.no_grad():
        posterior = task.posterior(network, batch(task, clips))
    assert torch.allclose(posterior.sum(1), torch.ones(len(clips)), atol=1e-5)
    return float((posterior.argmax(1) == torch.tensor(labels)).float().mean())


def unreached(task: Task, network: nn.Module, clips: Sequence[Prepared], labels: Sequence[int]) -> list[str]:
    """Parameters that the task's loss gives no gradient."""
    loss = task.loss(network.train(), batch(task, clips), torch.tensor(labels))
    torch.autograd.backward(loss)
    return [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def bundle(task: Task, exported: Exported, folder: Path) -> Bundle:
    """Write the bundle of these graphs, and load it, which validates it."""
    return save(folder, msgspec.structs.replace(draft(task, exported, folder, ""), min_confidence=0.0))


def by_stages(made: Bundle, source: str, raw: Rows, chunks: np.ndarray | None = None) -> np.ndarray:
    """A tensor of a bundle for one window, by its graphs alone.

    Args:
        made: The bundle.
        source: `<stage>.<tensor>`.
        raw: The window's `crop`, `flow` and `pose`, a row each step, and its `waveform`.
        chunks: (n_frames, n_samples) the audio chunk of each step.
    """
    name, tensor = source.split(".")
    stage = made.manifest.stages[name]
    engine = OnnxEngine(made.stage(name))
    if stage.per == "window":
        feeds = {
            key: raw[taken][None] if taken in raw else by_stages(made, taken, raw, chunks)
            for key, taken in stage.takes.items()
        }
        return np.asarray(engine.run(feeds)[tensor])
    feeds = {key: chunks if stage.per == "chunk" else raw[taken] for key, taken in stage.takes.items()}
    return np.asarray(engine.run({key: value for key, value in feeds.items() if value is not None})[tensor][None])
