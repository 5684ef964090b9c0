"""Temporal aggregation as a task: N pairs of a face and an audio window of a clip, and the bundle that streams.

Section II: the clip is cut into N segments of equal length; of each a video frame is drawn uniformly, and the centre
of its audio within b of the frame; posteriors are summed. `stream.windows` draws here as in a stream. A clip is
evaluated by the draws of seed 0; in training each view has a seed of its own.

On purpose, or left open by the text:
- Frames are drawn among the pictures of a segment that show a face, at `frame_hz` and not at the camera's rate. A
  segment without any takes the nearest such picture; a clip without any is scored by its voice.
- The loss is the cross entropy of the mean posterior, since the paper classifies by the sum, plus those of the mean
  posteriors of either modality's own head.
- A stream has no n-th segment. Independent networks stream as an ensemble, whose members all score each window.
- Audio beyond the clip's ends is zeros.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.bundle import PAIR_STAGES, AudioInput, ClipInput, FaceInput, Scheme
from stream.records import RATE_HZ
from stream.windows import NS_PER_S, Draw, WindowScheme, divide, sample_index
from train.default.finish import EYE_DISTANCE, EYE_HEIGHT
from train.export import export, export_graph
from train.models.temporal import (
    AudioVisualNetwork,
    SingleModality,
    TemporalAggregation,
    TemporalConfig,
    build,
)
from train.preparation.prepared import Needs, Prepared
from train.tasks.ensemble import Ensemble
from train.tasks.looks import vary
from train.tasks.task import Exported, Graph
from train.voices import MIN_COVERAGE, SILENCE_DBFS

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")  # of CREMA-D


@dataclass
class TemporalTask:
    """A `Task`. Items: `crops` (N, S, S, 3) uint8, `seen` (N,) bool and `waveforms` (N, T) float32.

    A configuration of one modality has its own alone, `crops` or `waveforms`.

    Attributes:
        config: Of the network, with N and b.
        labels: Of the corpus, in its order.
        frame_hz: Pictures prepared for each second.
        segment_s: Length of a segment when it streams; a clip's is its length divided by N.
        augment: Whether pictures that are trained on are varied.

    Raises:
        ValueError: If the labels are not as many as the network's, or the networks neither one nor N.
    """

    config: TemporalConfig = field(default_factory=lambda: TemporalConfig(n_labels=len(LABELS)))
    _: KW_ONLY
    labels: tuple[str, ...] = LABELS
    frame_hz: float = 12.5
    segment_s: float = 0.25
    augment: bool = True
    name: str = "temporal"
    paper: str = "Temporal aggregation of audio-visual modalities for emotion recognition"

    def __post_init__(self) -> None:
        if len(self.labels) != self.config.n_labels:
            raise ValueError(f"expected {self.config.n_labels} labels as the network has, got {', '.join(self.labels)}")
        if self.config.n_networks not in (1, self.config.n_segments):
            raise ValueError(
                f"expected one network or {self.config.n_segments}, one a segment, got {self.config.n_networks}"
            )

    @property
    def scheme(self) -> WindowScheme:
        """Draws the windows of clips; its segments are those of a stream."""
        return WindowScheme(
            segment_ns=round(self.segment_s * NS_PER_S),
            audio_ns=self.config.n_samples * NS_PER_S // RATE_HZ,
            jitter_ns=round(self.config.jitter_s * NS_PER_S),
            n_segments=self.config.n_segments,
        )

    def needs(self) -> Needs:
        modality = self.config.modality
        face = None if modality == "voice" else self._face()
        return Needs(face=face, frame_hz=self.frame_hz, audio=modality != "face")

    def network(self) -> TemporalAggregation | SingleModality:
        return build(self.config)

    def draws(self, clip: Prepared, seed: int) -> list[Draw]:
        """The paper's draws of a clip, one a segment; `frame_index` counts the pictures of the segment with a face."""
        times_ns = self._times_ns(clip)
        edges = divide(0, self._length_ns(clip), self.config.n_segments)
        return [
            self.scheme.draw(seed, clip.name, segment, (start, end), [t for t in times_ns if start <= t < end])
            for segment, (start, end) in enumerate(edges)
        ]

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        draws = self.draws(clip, 0 if generator is None else int(generator.integers(2**53)))
        item = {}
        if self.config.modality != "voice":
            crops, seen = self._pictures(clip, draws)
            item["crops"] = vary(crops, generator) if generator is not None and self.augment else crops
            if self.config.modality == "both":
                item["seen"] = seen
        if self.config.modality != "face":
            if clip.samples is None:
                raise ValueError(f"{clip.name}: expected its sound to be prepared; prepare it for {self.name}")
            starts = [sample_index(draw.audio_start_ns, RATE_HZ) for draw in draws]
            item["waveforms"] = np.stack([_cut(clip.samples, at, self.config.n_samples) for at in starts])
        return item

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        if isinstance(network, SingleModality):
            return F.nll_loss(_log_mean(_alone(network, inputs)), labels)
        both, face, voice = _together(network, inputs)
        seen = inputs["seen"]
        total = F.nll_loss(_log_mean(_scored(both, voice, seen)), labels) + F.nll_loss(_log_mean(voice), labels)
        shown = seen.any(1)
        if shown.any():  # the face of a segment without one says nothing
            total = total + F.nll_loss(_log_mean(face[shown], seen[shown]), labels[shown])
        return total

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        if isinstance(network, SingleModality):
            return _log_mean(_alone(network, inputs)).exp()
        both, _, voice = _together(network, inputs)
        return _log_mean(_scored(both, voice, inputs["seen"])).exp()

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        network = network.cpu().float().eval()
        items = [self.inputs(clip, None) for clip in clips]
        given = {name: np.concatenate([item[name] for item in items]) for name in items[0]}
        if isinstance(network, SingleModality):
            return self._export_alone(network, folder, torch.from_numpy(next(iter(given.values()))))
        assert isinstance(network, TemporalAggregation)
        members = [member for member in network.networks if isinstance(member, AudioVisualNetwork)]
        one = members[0] if len(members) == 1 else cast(AudioVisualNetwork, Ensemble(members))
        difference = export(one, folder, given["crops"], given["waveforms"])
        stages = {name: Graph(file=f"{name}.onnx", per="window", takes={}) for name in PAIR_STAGES}
        return self._exported(stages, difference)

    def _export_alone(self, network: SingleModality, folder: Path, segments: Tensor) -> Exported:
        # A bundle of pairs has both modalities, so this is one of a clip of one picture, or of one audio window.
        seen = self.config.modality == "face"
        name, raw = ("face", "crop") if seen else ("voice", "waveform")
        with torch.no_grad():
            features = network.branch(segments)
        inputs = features.unsqueeze(1) if seen else features  # a window has the axis of its one frame
        difference = max(
            export_graph(network.branch, folder / f"{name}.onnx", {raw: segments}, ["features"]),
            export_graph(_Head(network), folder / "head.onnx", {"features": inputs}, ["posterior"]),
        )
        stages = {
            name: Graph(file=f"{name}.onnx", per="frame" if seen else "window", takes={raw: raw}),
            "head": Graph(file="head.onnx", per="window", takes={"features": f"{name}.features"}),
        }
        return self._exported(stages, difference)

    def _exported(self, stages: Mapping[str, Graph], difference: float) -> Exported:
        config, audio_s = self.config, self.config.n_samples / RATE_HZ
        alone = config.modality != "both"
        posteriors: dict[Literal["both", "face", "voice"], str] = {}
        if config.modality != "both":
            # A recogniser of one modality says the same where both are there.
            posteriors = {config.modality: "head.posterior", "both": "head.posterior"}
        return Exported(
            face=self._face(),
            audio=AudioInput(
                rate_hz=16_000, n_samples=config.n_samples, silence_dbfs=SILENCE_DBFS, min_coverage=MIN_COVERAGE
            ),
            scheme=Scheme(
                segment_s=self.segment_s,
                audio_s=audio_s,
                jitter_s=0.0 if alone else config.jitter_s,
                n_segments=config.n_segments,
                alignments=("causal",) if alone else ("centered",),
            ),
            clip=ClipInput(frame_hz=self.frame_hz, n_frames=1, span_s=audio_s) if alone else None,
            stages=stages,
            posteriors=posteriors,
            difference=difference,
        )

    def _face(self) -> FaceInput:
        # As the recogniser that is shipped has it, so that either can begin from the other's weights.
        size_px = self.config.crop_px
        return FaceInput(size_px=size_px, align="eyes", eye_distance=EYE_DISTANCE, eye_height=EYE_HEIGHT)

    def _times_ns(self, clip: Prepared) -> list[int]:
        """Times of the pictures with a face; a recogniser that only listens has none."""
        if self.config.modality == "voice" or clip.seen is None:
            return []
        return [round(t * NS_PER_S) for t in clip.times_s[clip.seen].tolist()]

    def _length_ns(self, clip: Prepared) -> int:
        if self.config.modality != "voice" and len(clip.times_s):
            return round((float(clip.times_s[-1]) + 1 / self.frame_hz) * NS_PER_S)
        return 0 if clip.samples is None else len(clip.samples) * NS_PER_S // RATE_HZ

    def _pictures(self, clip: Prepared, draws: Sequence[Draw]) -> tuple[np.ndarray, np.ndarray]:
        """The crop of each draw, (N, S, S, 3) uint8, and whether it shows a face, (N,) bool."""
        if clip.crops is None or clip.seen is None:
            raise ValueError(f"{clip.name}: expected its faces to be prepared; prepare it for {self.name}")
        shown = np.flatnonzero(clip.seen)
        seen = np.full(len(draws), len(shown) > 0)
        if not len(shown):
            if self.config.modality == "face":
                raise ValueError(f"{clip.name}: expected a face in one of its pictures, found none; leave the clip out")
            return clip.crops[np.zeros(len(draws), np.int64)], seen
        times_ns = np.array(self._times_ns(clip))
        # The drawn picture itself, or the nearest one to the virtual frame of a segment that holds none.
        nearest = [int(np.abs(times_ns - draw.frame_ns).argmin()) for draw in draws]
        return clip.crops[shown[nearest]], seen


def _cut(samples: np.ndarray, start: int, n: int) -> np.ndarray:
    """Samples [start, start + n), zeros beyond either end."""
    window = np.zeros(n, np.float32)
    low, high = max(0, start), min(len(samples), start + n)
    if high > low:
        window[low - start : high - start] = samples[low:high]
    return window


def _alone(network: SingleModality, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits of each segment, (B, N, L)."""
    segments = inputs["crops" if network.config.modality == "face" else "waveforms"]
    features = network.branch(segments.flatten(0, 1))
    return network.head(network.dropout(features)).float().unflatten(0, (-1, segments.shape[1]))


def _together(network: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of each segment from both modalities, the face and the voice, (B, N, L) each."""
    assert isinstance(network, TemporalAggregation)
    crops, waves = inputs["crops"], inputs["waveforms"]
    n = crops.shape[1]
    if len(network.networks) == 1:
        flat = _logits(network.shared, crops.flatten(0, 1), waves.flatten(0, 1))
        both, face, voice = (logits.unflatten(0, (-1, n)) for logits in flat)
    else:
        own = [_logits(member, crops[:, k], waves[:, k]) for k, member in enumerate(network.networks)]
        both, face, voice = (torch.stack(logits, 1) for logits in zip(*own, strict=True))
    return both, face, voice


def _logits(network: nn.Module, crops: Tensor, waves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert isinstance(network, AudioVisualNetwork)
    face, voice = network.face(crops), network.voice(waves)
    both = network.joint(face, voice).float()
    single = network.face_head(network.dropout(face)), network.voice_head(network.dropout(voice))
    return both, single[0].float(), single[1].float()


def _scored(both: Tensor, voice: Tensor, seen: Tensor) -> Tensor:
    """Logits of each segment from what it has: (B, N, L) twice and (B, N)."""
    return torch.where(seen.unsqueeze(-1), both, voice)


def _log_mean(logits: Tensor, counts: Tensor | None = None) -> Tensor:
    """Logarithm of the mean posterior of the segments that count: (B, N, L) to (B, L)."""
    scores = logits.log_softmax(-1)
    if counts is None:
        return scores.logsumexp(1) - math.log(logits.shape[1])
    scores = scores.masked_fill(~counts.unsqueeze(-1), -torch.inf)
    return scores.logsumexp(1) - counts.sum(1, keepdim=True).log()


class _Head(nn.Module):
    """Features (B, D), those of a picture (B, 1, D), to the posterior (B, L)."""

    def __init__(self, network: SingleModality) -> None:
        super().__init__()
        self.head = network.head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features.flatten(1)).softmax(-1)
