"""Prepared clips whose classes differ by one thing alone, and a plain loop that trains a task on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from engines.bundle import Bundle, Corpus, Stage
from engines.onnx_runtime import OnnxEngine
from tests.clip_prepared import prepared
from tests.clip_signals import Signal, scenes
from train.clips.bundle import draft, save
from train.preparation.prepared import Needs, Prepared
from train.tasks.task import Exported, Task

Kind = Literal["appearance", "spectrum", "agreement", "halves"]


@dataclass(frozen=True)
class Labelled:
    """Clips and their labels, (n,) int64."""

    clips: tuple[Prepared, ...]
    labels: np.ndarray

    @property
    def n_labels(self) -> int:
        return int(self.labels.max()) + 1


@cache
def labelled(kind: Kind, n: int, needs: Needs, *, seed: int, duration_s: float = 0.72) -> Labelled:
    """Made clips. Two labels, or four of `halves`: of these the face tells half, and the voice the other half.

    Of `agreement` neither alone tells anything. Every fourth picture is noise, in which no face was found.
    """
    signal: Signal = "agreement" if kind == "halves" else kind
    made, labels = prepared(signal, n, needs, seed=seed, duration_s=duration_s)
    if kind == "halves":
        labels = [2 * scene.marks + scene.voice for scene in scenes(signal, n, seed=seed)]
    clips = [replace(clip, name=f"{seed}/{clip.name}") for clip in made]
    for k, clip in enumerate(clips):
        if clip.crops is not None and clip.seen is not None:
            clip.seen[3::4] = False
            shape = clip.crops[3::4].shape
            clip.crops[3::4] = np.random.default_rng((seed, k)).integers(0, 256, shape)
    return Labelled(tuple(clips), np.array(labels, np.int64))


def batch(task: Task, clips: Sequence[Prepared], generator: np.random.Generator | None) -> dict[str, Tensor]:
    """Items of clips, with a batch axis."""
    items = [task.inputs(clip, generator) for clip in clips]
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def trained(
    task: Task, material: Labelled, *, epochs: int, learning_rate: float, size: int = 16, seed: int = 0
) -> nn.Module:
    """A network after a plain loop, in evaluation mode."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = task.network().train()
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        order = generator.permutation(len(material.clips))
        for chosen in order[: len(order) // size * size].reshape(-1, size):
            inputs = batch(task, [material.clips[k] for k in chosen], generator)
            optimiser.zero_grad()
            torch.autograd.backward(task.loss(network, inputs, torch.from_numpy(material.labels[chosen])))
            optimiser.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(task: Task, network: nn.Module, material: Labelled) -> float:
    """Share of clips whose evaluated view is right."""
    posterior = task.posterior(network, batch(task, material.clips, None))
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(posterior)))
    return float((posterior.argmax(1).numpy() == material.labels).mean())


def without_gradient(task: Task, material: Labelled) -> list[str]:
    """Names of the trained parameters that the loss of a batch does not reach."""
    torch.manual_seed(0)
    network = task.network().train()
    inputs = batch(task, material.clips, np.random.default_rng(0))
    torch.autograd.backward(task.loss(network, inputs, torch.from_numpy(material.labels)))
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    return [name for name, p in trained if p.grad is None or not p.grad.abs().sum() > 0]


def bundled(task: Task, exported: Exported, folder: Path) -> Bundle:
    """The exported graphs as a bundle, written and loaded again."""
    trained = (Corpus(name="made clips", licence="made here", used="all"),)
    return save(folder, msgspec.structs.replace(draft(task, exported, folder, "none"), trained=trained))


def posterior_of(bundle: Bundle, modality: Literal["both", "face", "voice"], raw: dict[str, np.ndarray]) -> np.ndarray:
    """(L,), of one window: its stages run as `engines.bundle.Stage` says.

    Args:
        bundle: Of a clip recogniser.
        modality: Which posterior.
        raw: `crop` (n, S, S, 3) uint8 and `waveform` (T,) float32, as far as it takes them.
    """

    def source(name: str, stage: Stage) -> np.ndarray:
        if name in raw:
            return raw[name] if stage.per == "frame" else raw[name][None]
        before, tensor = name.split(".")
        given = outputs(before)[tensor]
        return given[None] if manifest.stages[before].per == "frame" else given

    def outputs(name: str) -> dict[str, np.ndarray]:
        stage = manifest.stages[name]
        return OnnxEngine(bundle.stage(name)).run({tensor: source(at, stage) for tensor, at in stage.takes.items()})

    manifest = bundle.manifest
    stage, tensor = manifest.posteriors[modality].split(".")
    (row,) = outputs(stage)[tensor]
    return np.asarray(row)


def assert_same_views(task: Task, clip: Prepared) -> None:
    """The evaluated view is always the same; a drawn one depends on the generator alone, and another one differs."""

    def differ(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return any(not np.array_equal(a[name], b[name]) for name in a)

    assert not differ(task.inputs(clip, None), task.inputs(clip, None))
    first, again, other = (task.inputs(clip, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert not differ(first, again)
    assert differ(first, other)
