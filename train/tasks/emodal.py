"""EMODal as a task: one face and one window of sound of a clip, the three losses, and the bundle that it streams from.

The paper (section 2) takes one picture and the sound of a clip; which picture it does not say. A clip is evaluated by
the middle one of its pictures that show a face, and by T samples from its middle; in training any picture with a face
is drawn, mirrored, moved and relit a little, and the sound is cut at a random place. Sound that is shorter has zeros
around it, in training and evaluation alike.

On purpose, or left open by the text:
- The statistics that standardise the 68 features are the plain means over all batches of training, instead of running
  ones that forget: the features depend on no weight, so they are right from the first batches on.
- Both modalities' features add up in the joint head's logits. So a class that shows in the agreement of two modalities
  alone, neither telling anything by itself, is beyond this recogniser, whatever its weights.
- The Soft-HGR score multiplies covariances, and keeps single precision where the networks are trained in half of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.bundle import AudioInput, ClipInput, FaceInput, Scheme
from stream.records import RATE_HZ
from stream.windows import spread
from train.export import export_graph
from train.losses import LossWeights, bimodal_losses
from train.models.emodal import LABELS, AudioNetwork, Emodal, EmodalConfig, ImageNetwork, Unimodal, build
from train.preparation.prepared import Needs, Prepared
from train.tasks.looks import vary
from train.tasks.stretches import cut
from train.tasks.task import Exported, Graph
from train.voices import MIN_COVERAGE, SILENCE_DBFS

MARGIN = 0.15  # the detector's box ends at brows and chin


@dataclass
class EmodalTask:
    """A `Task`. Items: `crop` (S, S, 3) uint8 and `waveform` (T,) float32, or one of the two.

    Attributes:
        config: Of the network, which settles the modality.
        labels: Of the corpus, in its order.
        weights: Of the losses, where there are two modalities.
        frame_hz: Pictures prepared for each second.
        hop_s: Time between windows when it streams.
        augment: Whether pictures that are trained on are varied.

    Raises:
        ValueError: If the labels are not as many as the network's.
    """

    config: EmodalConfig = field(default_factory=EmodalConfig)
    _: KW_ONLY
    labels: tuple[str, ...] = LABELS
    weights: LossWeights = field(default_factory=LossWeights)
    frame_hz: float = 12.5
    hop_s: float = 0.5
    augment: bool = True
    name: str = "emodal"
    paper: str = "Multimodal Emotion Recognition by extracting common and modality-specific information"

    def __post_init__(self) -> None:
        if len(self.labels) != self.config.n_labels:
            raise ValueError(f"expected {self.config.n_labels} labels as the network has, got {', '.join(self.labels)}")

    def needs(self) -> Needs:
        heard, seen = self.config.modality != "image", self.config.modality != "audio"
        return Needs(face=self._face() if seen else None, frame_hz=self.frame_hz, audio=heard)

    def network(self) -> Emodal | Unimodal:
        network = build(self.config)
        for module in network.modules():
            if isinstance(module, AudioNetwork):
                module.standardise.momentum = None  # the mean over all batches
        return network

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        item = {}
        if self.config.modality != "audio":
            item["crop"] = self._picture(clip, generator)
        if self.config.modality != "image":
            if clip.samples is None:
                raise ValueError(f"{clip.name}: expected its sound to be prepared; prepare it for {self.name}")
            item["waveform"] = cut(clip.samples, self.config.n_samples, generator)
        return item

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        if isinstance(network, Unimodal):
            return F.cross_entropy(network.head(_features(network.network, inputs)).float(), labels)
        assert isinstance(network, Emodal)
        image, audio = _features(network.image, inputs), _features(network.audio, inputs)
        with torch.autocast(labels.device.type, enabled=False):
            return bimodal_losses(network.outputs(image.float(), audio.float()), labels, self.weights).total

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        if isinstance(network, Unimodal):
            return network.head(_features(network.network, inputs)).float().softmax(-1)
        assert isinstance(network, Emodal)
        logits = network.joint(_features(network.image, inputs), _features(network.audio, inputs))
        return logits.float().softmax(-1)

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        network = network.cpu().float().eval()
        assert isinstance(network, Emodal | Unimodal)
        items = [self.inputs(clip, None) for clip in clips]
        given = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        stages: dict[str, Graph] = {}
        features, differences = {}, []
        for name, branch in _branches(network).items():
            raw = "crop" if name == "image" else "waveform"
            differences.append(export_graph(branch, folder / f"{name}.onnx", {raw: given[raw]}, ["features"]))
            per: Literal["frame", "window"] = "frame" if name == "image" else "window"
            stages[name] = Graph(file=f"{name}.onnx", per=per, takes={raw: raw})
            with torch.no_grad():
                features[name] = branch(given[raw])
        if "image" in features:
            features["image"] = features["image"].unsqueeze(1)  # a window has the axis of its one frame
        for head, (names, layer) in _heads(network).items():
            inputs = {name: features[name] for name in names}
            differences.append(export_graph(_Head(layer), folder / f"{head}.onnx", inputs, ["posterior"]))
            takes = {name: f"{name}.features" for name in names}
            stages[head] = Graph(file=f"{head}.onnx", per="window", takes=takes)
        return self._exported(stages, max(differences))

    def _exported(self, stages: Mapping[str, Graph], difference: float) -> Exported:
        posteriors: dict[Literal["both", "face", "voice"], str] = {}
        if "face_head" in stages:
            posteriors["face"] = "face_head.posterior"
        if "voice_head" in stages:
            posteriors["voice"] = "voice_head.posterior"
        # A recogniser of one modality says the same where both are there.
        posteriors["both"] = "head.posterior" if "head" in stages else next(iter(posteriors.values()))
        n_samples, span_s = self.config.n_samples, self.config.n_samples / RATE_HZ
        return Exported(
            face=self._face(),
            audio=AudioInput(rate_hz=16_000, n_samples=n_samples, silence_dbfs=SILENCE_DBFS, min_coverage=MIN_COVERAGE),
            # Each window is decided by itself, as the paper decides a clip.
            scheme=Scheme(segment_s=self.hop_s, audio_s=span_s, jitter_s=0.0, n_segments=1, alignments=("causal",)),
            clip=ClipInput(frame_hz=self.frame_hz, n_frames=1, span_s=span_s),
            stages=stages,
            posteriors=posteriors,
            difference=difference,
        )

    def _face(self) -> FaceInput:
        return FaceInput(size_px=self.config.crop_px, align="box", margin=MARGIN)

    def _picture(self, clip: Prepared, generator: np.random.Generator | None) -> np.ndarray:
        if clip.crops is None or clip.seen is None:
            raise ValueError(f"{clip.name}: expected its faces to be prepared; prepare it for {self.name}")
        shown = np.flatnonzero(clip.seen)
        if not len(shown):
            raise ValueError(
                f"{clip.name}: expected a face in one of its {len(clip.seen)} pictures, found none; {self.name} cannot "
                "see this clip: leave it out of the corpus"
            )
        if generator is None:
            return clip.crops[shown[spread(len(shown), 1)[0]]].copy()
        crop = clip.crops[shown[generator.integers(len(shown))]]
        return vary(crop[None], generator)[0] if self.augment else crop.copy()


def _features(branch: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """(B, K)."""
    return branch(inputs["crop" if isinstance(branch, ImageNetwork) else "waveform"])


def _branches(network: Emodal | Unimodal) -> dict[str, nn.Module]:
    if isinstance(network, Emodal):
        return {"image": network.image, "audio": network.audio}
    return {network.config.modality: network.network}


def _heads(network: Emodal | Unimodal) -> dict[str, tuple[tuple[str, ...], nn.Module]]:
    """Each head's name in the bundle, the networks whose features it takes, and its layer."""
    if isinstance(network, Emodal):
        return {
            "head": (("image", "audio"), network.both_head),
            "face_head": (("image",), network.image_head),
            "voice_head": (("audio",), network.audio_head),
        }
    modality = network.config.modality
    return {"face_head" if modality == "image" else "voice_head": ((modality,), network.head)}


class _Head(nn.Module):
    """Features (B, K), those of an image (B, 1, K), to the posterior (B, L)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *features: Tensor) -> Tensor:
        return self.layer(torch.cat([item.flatten(1) for item in features], 1)).softmax(-1)
