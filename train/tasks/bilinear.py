"""Attention and factorised bilinear pooling as a task: N faces and a spectrogram of a clip, and its bundle.

Section 3 trains the fusion on features of face networks that were trained on pictures before. Here either the whole
is trained, from fresh weights or from files of face networks (`face_weights`), or the face networks stay as the files
have them (`freeze`): then the features of every picture of a clip are computed once, and items hold those.

The pictures of a clip are spread over all of it where it is evaluated, and over a random stretch of it in training,
at least as long as the streamed window; the sound is T samples from the middle, or from a random place. What is
shorter has zeros around it. Pictures without a face show the whole frame, as the paper does not drop any.

Left open by the text: N, the loss (cross entropy; class weights multiply posteriors, they do not weigh the loss), and
augmentation (mirrored, moved, relit; none of what is frozen).
"""

import threading
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
from train import initial_weights
from train.export import export_graph
from train.models import bilinear
from train.models.bilinear import (
    LABELS,
    AudioBranch,
    BilinearConfig,
    BilinearRecogniser,
    SingleModality,
    VideoBranch,
)
from train.preparation.prepared import Needs, Prepared
from train.tasks.looks import vary
from train.tasks.stretches import cut, pick
from train.tasks.task import Exported, Graph
from train.voices import MIN_COVERAGE, SILENCE_DBFS


@dataclass
class BilinearTask:
    """A `Task`. Items: `crops` (N, S, S, 3) uint8, or `features` (N, D) float32 if frozen, and `waveform` (T,) float32.

    Attributes:
        config: Of the network.
        labels: Of the corpus, in its order.
        n_frames: N.
        face_weights: One file for each of the configuration's face networks, or none.
        freeze: Whether the face networks stay as these files have them.
        frame_hz: Pictures prepared for each second.
        hop_s: Time between windows when it streams.
        augment: Whether pictures that are trained on are varied.
        device: Where frozen face networks run.

    Raises:
        ValueError: If class weights or files of weights are not as many as what they are for, or none are to be frozen.
    """

    config: BilinearConfig = field(default_factory=BilinearConfig)
    _: KW_ONLY
    labels: tuple[str, ...] = LABELS
    n_frames: int = 16
    face_weights: tuple[Path, ...] = ()
    freeze: bool = False
    frame_hz: float = 12.5
    hop_s: float = 0.5
    augment: bool = True
    device: str = "cpu"
    name: str = "bilinear"
    paper: str = "Exploring Emotion Features and Fusion Strategies for Audio-Video Emotion Recognition"

    def __post_init__(self) -> None:
        if self.config.class_weights and len(self.config.class_weights) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} class weights, got {len(self.config.class_weights)}")
        n_faces = 0 if self.config.modality == "voice" else len(self.config.faces)
        if len(self.face_weights) not in (0, n_faces):
            raise ValueError(f"expected no file of face weights, or {n_faces}, got {len(self.face_weights)}")
        if self.freeze and not self.face_weights:
            raise ValueError("expected files of face weights to freeze; name them, or train the face networks too")
        if self.n_frames < 1:
            raise ValueError(f"expected one picture or more, got {self.n_frames}")
        self.matched: tuple[initial_weights.Matched, ...] = ()  # what of the files was taken, once they were read
        self._lock = threading.Lock()
        self._frozen: VideoBranch | None = None
        self._known: dict[str, np.ndarray] = {}

    def needs(self) -> Needs:
        modality = self.config.modality
        face = None if modality == "voice" else self._face()
        return Needs(face=face, frame_hz=self.frame_hz, audio=modality != "face")

    def network(self) -> BilinearRecogniser | SingleModality:
        network = bilinear.network(self.config)
        end = network.head if isinstance(network, BilinearRecogniser) else network
        if len(self.labels) != len(LABELS):
            end.classifier = nn.Linear(end.classifier.in_features, len(self.labels))
        branch = _branches(network).get("face")
        if self.face_weights:
            assert isinstance(branch, VideoBranch)
            self._load(branch)
            branch.requires_grad_(not self.freeze)
        return network

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        item = {}
        if self.config.modality != "voice":
            crops, at = self._pictures(clip, generator)
            if self.freeze:
                item["features"] = self._features(clip.name, crops)[at]
            elif generator is not None and self.augment:
                item["crops"] = vary(crops[at], generator)
            else:
                item["crops"] = crops[at]
        if self.config.modality != "face":
            if clip.samples is None:
                raise ValueError(f"{clip.name}: expected its sound to be prepared; prepare it for {self.name}")
            item["waveform"] = cut(clip.samples, self.config.n_samples, generator)
        return item

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(network, inputs), labels)

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return bilinear.posterior([self._logits(network, inputs)], self.config.class_weights)

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        network = network.cpu().float().eval()
        given = {}
        if self.config.modality != "voice":
            views = [self._pictures(clip, None) for clip in clips]
            given["face"] = torch.from_numpy(np.stack([crops[at] for crops, at in views]))
        if self.config.modality != "face":
            heard = [self.inputs(clip, None)["waveform"] for clip in clips]
            given["audio"] = torch.from_numpy(np.stack(heard))
        stages: dict[str, Graph] = {}
        features, differences = {}, []
        for name, branch in _branches(network).items():
            with torch.no_grad():
                features[name] = branch(given[name])
            raw, example = "waveform", given[name]
            module: nn.Module = branch
            if isinstance(branch, VideoBranch):
                raw, module, example = "crop", _Frame(branch), given[name][:, 0]
            differences.append(export_graph(module, folder / f"{name}.onnx", {raw: example}, ["features"]))
            stages[name] = Graph(file=f"{name}.onnx", per="frame" if raw == "crop" else "window", takes={raw: raw})
        head = _Head(network, self.config.class_weights)
        differences.append(export_graph(head, folder / "head.onnx", features, ["posterior"]))
        stages["head"] = Graph(file="head.onnx", per="window", takes={name: f"{name}.features" for name in features})
        return self._exported(stages, max(differences))

    def _exported(self, stages: Mapping[str, Graph], difference: float) -> Exported:
        # A recogniser of one modality says the same where both are there; one of both can say nothing of one alone.
        posteriors: dict[Literal["both", "face", "voice"], str] = {"both": "head.posterior"}
        if self.config.modality == "face":
            posteriors["face"] = "head.posterior"
        elif self.config.modality == "voice":
            posteriors["voice"] = "head.posterior"
        n_samples = self.config.n_samples
        return Exported(
            face=self._face(),
            audio=AudioInput(rate_hz=16_000, n_samples=n_samples, silence_dbfs=SILENCE_DBFS, min_coverage=MIN_COVERAGE),
            # Each window is decided by itself, as the paper decides a clip.
            scheme=Scheme(
                segment_s=self.hop_s, audio_s=n_samples / RATE_HZ, jitter_s=0.0, n_segments=1, alignments=("causal",)
            ),
            clip=ClipInput(frame_hz=self.frame_hz, n_frames=self.n_frames, span_s=n_samples / RATE_HZ),
            stages=stages,
            posteriors=posteriors,
            difference=difference,
        )

    def _face(self) -> FaceInput:
        return FaceInput(size_px=self.config.faces[0].crop_px, align="box", margin=0.3, fallback="frame")

    def _pictures(self, clip: Prepared, generator: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """All pictures of the clip, and the indices of the N that are taken."""
        if clip.crops is None:
            raise ValueError(f"{clip.name}: expected its faces to be prepared; prepare it for {self.name}")
        n_span = round(self.config.n_samples / RATE_HZ * self.frame_hz)
        return clip.crops, pick(len(clip.crops), n_span, self.n_frames, generator)

    def _load(self, branch: VideoBranch) -> None:
        pairs = zip(branch.features.networks, self.face_weights, strict=True)
        self.matched = tuple(_load_face(network, path) for network, path in pairs)

    @torch.no_grad()
    def _features(self, name: str, crops: np.ndarray) -> np.ndarray:
        """Of every picture of the clip, (n, D). Any thread may call."""
        if name not in self._known:
            with self._lock:
                if self._frozen is None:
                    # Apart from the network in training, which moves to its device and changes its mode.
                    with torch.random.fork_rng(devices=()):
                        frozen = VideoBranch(self.config).eval()
                    self._load(frozen)
                    self._frozen = frozen.to(self.device)
            parts = [self._frozen.encode(part.to(self.device)).cpu() for part in torch.from_numpy(crops).split(32)]
            self._known[name] = torch.cat(parts).numpy()
        return self._known[name]

    def _logits(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        features = []
        for name, branch in _branches(network).items():
            if name == "face":
                features.append(inputs["features"] if self.freeze else branch(inputs["crops"]))
            else:
                features.append(branch(inputs["waveform"]))
        return _decide(network, features).float()


def _load_face(network: nn.Module, path: Path) -> initial_weights.Matched:
    """Load a face network from its own state, its backbone's (as published), a classifier's or its training's."""
    classifier = nn.ModuleDict({"network": network})
    for holder in (network.get_submodule("backbone"), network, classifier, nn.ModuleDict({"network": classifier})):
        try:
            matched = initial_weights.load(holder, path)
            break
        except ValueError as error:
            refused = error
    else:
        raise refused
    if matched.missing or matched.misshapen:
        raise ValueError(f"{matched}; expected all of a face network of the same backbone, crop and width")
    return matched


def _branches(network: nn.Module) -> dict[str, VideoBranch | AudioBranch]:
    if isinstance(network, BilinearRecogniser):
        return {"face": network.video, "audio": network.audio}
    assert isinstance(network, SingleModality)
    return {"face" if isinstance(network.branch, VideoBranch) else "audio": network.branch}


def _decide(network: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Logits (B, L) from the features of the branches there are: of the face (B, N, D), of the sound (B, n, C)."""
    if isinstance(network, BilinearRecogniser):
        return network.head(*features)
    assert isinstance(network, SingleModality)
    return network.classifier(network.attention(*features))


class _Frame(nn.Module):
    """One picture, (B, S, S, 3) uint8 to (B, D)."""

    def __init__(self, branch: VideoBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, crop: Tensor) -> Tensor:
        return self.branch.encode(crop)


class _Head(nn.Module):
    """Features of a window to the posterior, class weights applied."""

    def __init__(self, network: nn.Module, class_weights: tuple[float, ...]) -> None:
        super().__init__()
        self.network, self.class_weights = network, class_weights

    def forward(self, *features: Tensor) -> Tensor:
        return bilinear.posterior([_decide(self.network, features)], self.class_weights)
