"""A task so small that a training takes a moment: a line on the mean colour and the loudness of a clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.bundle import AudioInput, ClipInput, FaceInput, Scheme
from train.corpora.clips import Clip, ClipCorpus, Fold
from train.export import export_graph
from train.preparation.prepared import Needs, Prepared
from train.tasks.task import Exported, Graph

LABELS = ("red", "green", "loud")
N_FRAMES, SIDE_PX, N_SAMPLES = 2, 16, 1600


@dataclass(frozen=True, kw_only=True)
class ColourConfig:
    n_labels: int = len(LABELS)
    dropout: float = 0.2


class Line(nn.Module):
    def __init__(self, config: ColourConfig) -> None:
        super().__init__()
        self.dropout, self.line = nn.Dropout(config.dropout), nn.Linear(4, config.n_labels)

    def forward(self, crops: Tensor, waveform: Tensor) -> Tensor:
        colour = crops.float().mean((1, 2, 3)) / 128.0 - 1.0
        loudness = waveform.square().mean(1, keepdim=True).add(1e-6).log() / 4.0 + 1.0
        return self.line(self.dropout(torch.cat([colour, loudness], 1)))


class Posterior(nn.Module):
    def __init__(self, line: nn.Module) -> None:
        super().__init__()
        self.line = line

    def forward(self, crops: Tensor, waveform: Tensor) -> Tensor:
        return self.line(crops, waveform).softmax(1)


@dataclass(kw_only=True)
class ColourTask:
    config: ColourConfig = field(default_factory=ColourConfig)
    labels: tuple[str, ...] = LABELS
    frame_hz: float = 12.5
    name: str = "colour"
    paper: str = "none"

    def needs(self) -> Needs:
        return Needs(face=FaceInput(size_px=SIDE_PX, align="frame"), frame_hz=self.frame_hz)

    def network(self) -> nn.Module:
        return Line(self.config)

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        assert clip.crops is not None
        assert clip.samples is not None
        first = 0 if generator is None else int(generator.integers(len(clip.crops) - N_FRAMES + 1))
        gain = 1.0 if generator is None else generator.uniform(0.9, 1.1)
        waveform = (clip.samples[:N_SAMPLES] * gain).astype(np.float32)
        return {"crops": clip.crops[first : first + N_FRAMES], "waveform": waveform}

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(network(inputs["crops"], inputs["waveform"]), labels)

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return network(inputs["crops"], inputs["waveform"]).softmax(1)

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        items = [self.inputs(clip, None) for clip in clips]
        given = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        graph = Posterior(network.cpu().float().eval())
        difference = export_graph(graph, folder / "head.onnx", given, ["posterior"])
        return Exported(
            face=FaceInput(size_px=SIDE_PX, align="frame"),
            audio=AudioInput(rate_hz=16_000, n_samples=N_SAMPLES, silence_dbfs=-60.0, min_coverage=0.5),
            scheme=Scheme(segment_s=0.1, audio_s=0.1, jitter_s=0.0, n_segments=1, alignments=("causal",)),
            clip=ClipInput(frame_hz=self.frame_hz, n_frames=N_FRAMES, span_s=0.16),
            stages={"head": Graph(file="head.onnx", per="window", takes={"crops": "crop", "waveform": "waveform"})},
            posteriors={"both": "head.posterior"},
            difference=difference,
        )


def corpus(n_people: int = 6, labels: tuple[str, ...] = LABELS) -> ClipCorpus:
    """A clip of each label by each person; two folds, of odd and of even people."""
    clips = [
        Clip(name=f"made/{person}-{label}", path=Path("none"), label=label, person=f"made/{person}")
        for person in range(n_people)
        for label in range(len(labels))
    ]
    odd = tuple(k for k, clip in enumerate(clips) if int(clip.person.split("/")[1]) % 2)
    even = tuple(k for k in range(len(clips)) if k not in odd)
    folds = (Fold(name="odd", train=even, test=odd), Fold(name="even", train=odd, test=even))
    return ClipCorpus(name="made", labels=labels, clips=tuple(clips), folds=folds, protocol="mean of two halves")


def prepared(clip: Clip) -> Prepared:
    """Four pictures and a tenth of a second of noise, as the label has it."""
    generator = np.random.default_rng(list(clip.name.encode()))
    colour = np.zeros(3)
    colour[clip.label] = 90 if clip.label < 2 else 0
    crops = generator.integers(0, 120, (4, SIDE_PX, SIDE_PX, 3)) + colour
    loud = 0.3 if clip.label == 2 else 0.03
    return Prepared(
        name=clip.name,
        times_s=np.arange(4) * 0.08,
        crops=crops.astype(np.uint8),
        samples=generator.normal(0, loud, N_SAMPLES).astype(np.float32),
    )


def store(of: ClipCorpus) -> list[Prepared]:
    return [prepared(clip) for clip in of.clips]
