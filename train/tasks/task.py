"""A task: what one published recogniser adds to the training of clips, the same calls for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from engines.bundle import AudioInput, ClipInput, FaceInput, Scheme
from train.preparation.prepared import Flow, Needs, Prepared


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An exported graph: its file in the bundle's folder, and what `engines.bundle.Stage` says of it."""

    file: str
    per: Literal["frame", "chunk", "window"]
    takes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What the bundle of a task must say; see `engines.bundle.Manifest` for each.

    Attributes:
        difference: The largest between ONNX Runtime and torch, on the real inputs that were given.
    """

    face: FaceInput
    audio: AudioInput
    scheme: Scheme
    clip: ClipInput | None
    stages: Mapping[str, Graph]
    posteriors: Mapping[Literal["both", "face", "voice"], str] = field(default_factory=dict)
    flow: Flow = "none"
    pose: bool = False
    difference: float


class Task(Protocol):
    """One recogniser in one configuration.

    `config` is the model's own frozen dataclass; `paper` names the source as the bundle states it.
    """

    name: str
    paper: str
    labels: tuple[str, ...]
    config: Any

    def needs(self) -> Needs:
        """What is prepared of each clip."""

    def network(self) -> nn.Module:
        """A network with fresh weights."""

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """One item, without its batch axis, as the graphs take it: uint8 crops, float32 waveforms.

        With a generator: a random view of the clip, augmented. Without: the view that is evaluated, always the same.
        """

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """The scalar to be minimised, of a batch of such items; labels (B,) int64."""

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, L), rows sum to 1."""

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        """Write the graphs, checked against torch on these clips (two or more) to `train.export.TOLERANCE`."""
