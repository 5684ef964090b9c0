"""ICANet as a task: what is taken of a clip, how its branches are trained, and the bundle that it streams from.

Section III-B-1 of the paper takes 79 pictures "at uniform time intervals" over "the entire video content", so a clip
is evaluated by pictures spread over all of it; the sound is the middle of the clip, T samples, zeros around where it
is shorter. In training the pictures are spread over a random stretch of the clip, and mirrored half of the time; the
sound is cut at a random place.

On purpose, or left open by the text:
- Flow is measured between neighbours at `frame_hz`, not between the pictures that were picked, so that its unit is
  the same whatever the clip's length: a stream measures it so too.
- 25 Hz, so that 79 pictures are the 3.16 s window of a stream one by one. C3D's 16 are spread over the same window.
- Each branch is trained by itself: the loss is the sum of the branches' cross entropies, which share no parameter.
  Fusion is a weighted average of scores and learns nothing. So a class that shows only in the agreement of two
  modalities, neither telling anything alone, is beyond this recogniser, whatever the weights.
- Every graph runs once a window. I3D pads time with zeros, and its field of view is longer than the window: each of
  its values depends on the window's edges, nothing of one window is exact in the next, and so nothing is kept. The
  LFCC picture is standardised over its window, with the same consequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.bundle import AudioInput, ClipInput, FaceInput, Scheme
from stream.records import RATE_HZ
from train.export import export_graph
from train.models.icanet import LABELS, MODALITIES, Icanet, IcanetConfig, fuse
from train.preparation.prepared import Flow, Needs, Prepared
from train.tasks.stretches import cut, pick
from train.tasks.task import Exported, Graph
from train.voices import MIN_COVERAGE, SILENCE_DBFS

INPUTS = {"rgb": "rgb", "flow": "flow", "audio": "waveform"}  # an item's name for what each branch takes
RAW = {"rgb": "crop", "flow": "flow", "audio": "waveform"}  # a bundle's name for it
HEADS = {"head": MODALITIES, "face_head": ("rgb", "flow"), "voice_head": ("audio",)}


@dataclass(kw_only=True)
class IcanetTask:
    """A `Task`. Items: `rgb` (N, S, S, 3) uint8, `flow` (N, S, S, 2) float32 and `waveform` (T,) float32.

    Attributes:
        config: Of the network; a modality without weight is neither prepared nor exported.
        labels: Of the corpus, in its order.
        flow: Which optical flow; the first is the paper's.
        frame_hz: Pictures prepared for each second.
        span_s: Length of the window when it streams, a whole number of pictures.
        hop_s: Time between windows when it streams.
        mirror: Whether half of the items that are trained on are mirrored.

    Raises:
        ValueError: If the labels are not as many as the network's, or the window no whole number of pictures.
    """

    config: IcanetConfig = field(default_factory=IcanetConfig, kw_only=False)
    labels: tuple[str, ...] = LABELS
    flow: Literal["lucas-kanade", "farneback", "dis"] = "lucas-kanade"
    frame_hz: float = 25.0
    span_s: float = 3.16
    hop_s: float = 0.5
    mirror: bool = True
    name: str = "icanet"
    paper: str = "ICANet: A Method of Short Video Emotion Recognition Driven by Multimodal Data"

    def __post_init__(self) -> None:
        if len(self.labels) != self.config.n_labels:
            raise ValueError(f"expected {self.config.n_labels} labels as the network has, got {', '.join(self.labels)}")
        n_span = self.span_s * self.frame_hz
        if n_span < 1 or abs(n_span - round(n_span)) > 1e-6:
            raise ValueError(f"expected a window of whole pictures, got {self.span_s} s at {self.frame_hz} Hz")

    def needs(self) -> Needs:
        seen = self.config.modalities != ("audio",)
        return Needs(
            face=self._face() if seen else None,
            frame_hz=self.frame_hz,
            flow=self._flow(),
            audio="audio" in self.config.modalities,
        )

    def network(self) -> Icanet:
        return Icanet(self.config)

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        item = {}
        modalities = self.config.modalities
        if modalities != ("audio",):
            at = pick(len(clip.times_s), round(self.span_s * self.frame_hz), self.config.n_frames, generator)
            mirrored = self.mirror and generator is not None and bool(generator.random() < 0.5)
            if "rgb" in modalities:
                item["rgb"] = self._pictures(clip, clip.crops, at, mirrored)
            if "flow" in modalities:
                item["flow"] = self._pictures(clip, clip.flow, at, mirrored)
                if mirrored:
                    item["flow"][..., 0] *= -1  # what moved left moves right
        if "audio" in modalities:
            if clip.samples is None:
                raise ValueError(f"{clip.name}: expected its sound to be prepared; prepare it for {self.name}")
            item["waveform"] = cut(clip.samples, self.config.n_samples, generator)
        return item

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        logits = network.logits(**self._given(inputs))  # type: ignore[operator]
        return torch.stack([F.cross_entropy(scores, labels) for scores in logits.values()]).sum()

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return network(**self._given(inputs))

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        network = network.cpu().float().eval()
        items = [self.inputs(clip, None) for clip in clips]
        given = {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}
        stages: dict[str, Graph] = {}
        differences = []
        for name in self.config.modalities:
            branch = network.get_submodule(f"branches.{name}")
            inputs = {INPUTS[name]: given[INPUTS[name]]}
            differences.append(export_graph(branch, folder / f"{name}.onnx", inputs, ["logits"]))
            stages[name] = Graph(file=f"{name}.onnx", per="window", takes={INPUTS[name]: RAW[name]})
        with torch.no_grad():
            logits = network.logits(**self._given(given))  # type: ignore[operator]
        for head, modalities in heads(self.config).items():
            inputs = {name: logits[name] for name in modalities}
            module = _Fusion(self.config, modalities)
            differences.append(export_graph(module, folder / f"{head}.onnx", inputs, ["posterior"]))
            takes = {name: f"{name}.logits" for name in modalities}
            stages[head] = Graph(file=f"{head}.onnx", per="window", takes=takes)
        return self._exported(stages, max(differences))

    def _exported(self, stages: Mapping[str, Graph], difference: float) -> Exported:
        audio_s = self.config.n_samples / RATE_HZ
        return Exported(
            face=self._face(),
            audio=AudioInput(
                rate_hz=16_000,
                n_samples=self.config.n_samples,
                silence_dbfs=SILENCE_DBFS,
                min_coverage=MIN_COVERAGE,
            ),
            # Each window is decided by itself, as the paper decides a clip: posteriors of one are summed.
            scheme=Scheme(segment_s=self.hop_s, audio_s=audio_s, jitter_s=0.0, n_segments=1, alignments=("causal",)),
            clip=ClipInput(frame_hz=self.frame_hz, n_frames=self.config.n_frames, span_s=self.span_s),
            stages=stages,
            posteriors=posteriors(self.config),
            flow=self._flow(),
            difference=difference,
        )

    def _face(self) -> FaceInput:
        return FaceInput(size_px=self.config.crop_px, align="frame")

    def _flow(self) -> Flow:
        return self.flow if "flow" in self.config.modalities else "none"

    def _given(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: inputs[INPUTS[name]] for name in self.config.modalities}

    def _pictures(self, clip: Prepared, pictures: np.ndarray | None, at: np.ndarray, mirrored: bool) -> np.ndarray:
        if pictures is None:
            raise ValueError(f"{clip.name}: expected its pictures and flow to be prepared; prepare it for {self.name}")
        picked = pictures[at]  # a copy, whatever is done to it next
        return np.ascontiguousarray(picked[:, :, ::-1]) if mirrored else picked


def heads(config: IcanetConfig) -> dict[str, tuple[str, ...]]:
    """The heads that the modalities allow, and what each fuses: `head` only where there are eyes and ears."""
    there = {head: tuple(name for name in names if name in config.modalities) for head, names in HEADS.items()}
    both = there["face_head"] and there["voice_head"]
    return {head: names for head, names in there.items() if names and (both or head != "head")}


def posteriors(config: IcanetConfig) -> dict[Literal["both", "face", "voice"], str]:
    """What a window is scored by; a recogniser of one modality says the same where both are there."""
    there = heads(config)
    named: dict[Literal["both", "face", "voice"], str] = {"both": f"{next(iter(there))}.posterior"}
    if "face_head" in there:
        named["face"] = "face_head.posterior"
    if "voice_head" in there:
        named["voice"] = "voice_head.posterior"
    return named


class _Fusion(nn.Module):
    """Logits of some modalities to their posterior."""

    def __init__(self, config: IcanetConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.modalities, self.scores = modalities, config.scores
        self.weights = dict(zip(MODALITIES, config.weights, strict=True))

    def forward(self, *logits: Tensor) -> Tensor:
        return fuse(dict(zip(self.modalities, logits, strict=True)), self.weights, self.scores)
