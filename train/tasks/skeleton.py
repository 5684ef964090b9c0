"""The three-stream recogniser of "Multi-modality Fusion" as a task: its steps, its training, its bundle.

A step is a picture: its features by Swin, the features by VGGish of the 0.96 s of sound that hold its time, and the
body's landmarks in it. A clip of any length gives T steps: it is evaluated by pictures spread over all of it; in
training they are spread over a random stretch, at least as long as the window that is streamed.

On purpose, or left open by the text (section 2.1):
- Features are extracted, and what follows them is trained: so by default the backbones are frozen, hold the weights
  of the files that are named (random ones otherwise), and a clip's features are computed once and kept. With
  `train_backbones` they are trained too, and pictures are mirrored half of the time.
- 12.5 pictures a second make the 100 steps a window of 8 s when streaming. The text's videos last 107 s: at
  `frame_hz=1` the window is 100 s, which is nearest to it, and a corpus of long videos is prepared much faster.
- Sound lies in chunks of 0.96 s on the grid of their multiples; a step takes the chunk that holds its time, or the
  last whole one. A stream does the same, and encodes a chunk once.
- See `PoseValues` for landmarks and for pictures without a body.
- Any sound counts, not voices alone: a window is scored as soon as it holds one chunk, however quiet.
- The posterior needs every stream: without sound a recogniser that has an audio stream tells nothing.
"""

import copy
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.bundle import FaceInput
from train import initial_weights
from train.backbones.swin import SwinConfig
from train.backbones.vggish import VggishConfig
from train.export import export_graph
from train.models.skeleton import LABELS, N_STEPS, N_VALUES, SkeletonConfig
from train.preparation.prepared import Needs, Prepared
from train.tasks.skeleton_bundle import CHUNK, FRAME, SILENCE_DBFS, describe
from train.tasks.skeleton_steps import (
    Head,
    Recogniser,
    chunked,
    encode,
    make_backbones,
    mirrored,
)
from train.tasks.stretches import pick
from train.tasks.task import Exported, Graph

Backbone = Literal["visual", "audio"]


@dataclass(kw_only=True)
class SkeletonTask:
    """A `Task`. Items: `pose` (T, 33, 3) float32, and features `visual` (T, 768) and `audio` (T, 128) float32.

    With `train_backbones`, instead of features: `crop` (T, S, S, 3) uint8; `waveform` (T, 15360) float32, the distinct
    chunks of the item first and zeros after them; `chunk` (T,) int64, the row that each step takes.

    Attributes:
        config: Of the streams and their fusion; only what these streams take is exported.
        labels: Of the corpus, in its order.
        swin: The frame features' network; it must give 768 values.
        vggish: The audio features' network; it must give 128 values.
        n_steps: T.
        frame_hz: Pictures prepared for each second; T of them are the window when it streams.
        hop_s: Time between windows when it streams.
        train_backbones: Whether the feature networks are trained with the rest.
        weights: Files with the feature networks' first weights, with the names of their published checkpoints.
        seed: Of feature networks without such a file.
        device: Where frozen feature networks run.
        matched: What of each file was taken, once the feature networks are there.

    Raises:
        ValueError: If labels or sizes do not fit each other, or a file is for a stream that is not there.
    """

    config: SkeletonConfig = field(default_factory=SkeletonConfig, kw_only=False)
    labels: tuple[str, ...] = LABELS
    swin: SwinConfig = field(default_factory=SwinConfig)
    vggish: VggishConfig = field(default_factory=VggishConfig)
    n_steps: int = N_STEPS
    frame_hz: float = 12.5
    hop_s: float = 0.5
    train_backbones: bool = False
    weights: Mapping[Backbone, Path] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    matched: dict[str, initial_weights.Matched] = field(default_factory=dict, init=False)
    name: str = "skeleton"
    paper: str = "Multi-modality Fusion for Emotion Recognition in Videos"

    def __post_init__(self) -> None:
        if len(self.labels) != self.config.n_labels:
            raise ValueError(f"expected {self.config.n_labels} labels as the network has, got {', '.join(self.labels)}")
        if self.n_steps < 1 or self.frame_hz <= 0:
            raise ValueError(f"expected 1 step or more at above 0 Hz, got {self.n_steps} at {self.frame_hz} Hz")
        given = {"visual": self.swin.widths[-1], "audio": self.vggish.n_features}
        for stream, n_features in given.items():
            if stream in self.config.streams and n_features != N_VALUES[stream]:
                raise ValueError(f"{stream}: expected a network of {N_VALUES[stream]} features, got {n_features}")
            if stream in self.weights and stream not in self.config.streams:
                raise ValueError(
                    f"{stream}: got a file of weights, and the streams are {', '.join(self.config.streams)}"
                )
        self._lock = threading.Lock()
        self._features: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def needs(self) -> Needs:
        """Pictures are prepared for every configuration, since their times are the steps."""
        streams = self.config.streams
        return Needs(
            face=self._face(),
            frame_hz=self.frame_hz,
            pose="skeleton" in streams,
            audio="audio" in streams,
            silence_dbfs=SILENCE_DBFS,
        )

    @cached_property
    def backbones(self) -> nn.ModuleDict:
        """The feature networks by stream, as they begin.

        Raises:
            ValueError: If a named file lacks a tensor of its network.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            made = make_backbones(self.config, self.swin, self.vggish)
        for stream, path in self.weights.items():
            network = made[stream] if stream == "visual" else made[stream].get_submodule("vggish")
            matched = self.matched[stream] = initial_weights.load(network, path)
            if matched.missing or matched.misshapen:
                raise ValueError(f"{matched}; expected all of them for the features of the {stream} stream")
        return made.eval()

    def network(self) -> Recogniser:
        backbones = self.backbones  # made here, by the thread that trains: random numbers are drawn for them
        return Recogniser(self.config, copy.deepcopy(backbones) if self.train_backbones else None)

    def inputs(self, clip: Prepared, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        at = pick(len(clip.times_s), self.n_steps, self.n_steps, generator)
        item: dict[str, np.ndarray] = {}
        if self.train_backbones:
            item |= self._raw(clip, at)
        else:
            item |= {stream: features[at] for stream, features in self._features_of(clip).items()}
        if "skeleton" in self.config.streams:
            item["pose"] = _there(clip, clip.pose, "landmarks")[at]
        if self.train_backbones and generator is not None and generator.random() < 0.5:
            if "crop" in item:
                item["crop"] = np.ascontiguousarray(item["crop"][:, :, ::-1])
            if "pose" in item:
                item["pose"] = mirrored(item["pose"])
        return item

    def loss(self, network: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(network(inputs), labels)

    def posterior(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return network(inputs).softmax(-1)

    def export(self, network: nn.Module, folder: Path, clips: Sequence[Prepared]) -> Exported:
        assert isinstance(network, Recogniser)
        network = network.cpu().float().eval()
        backbones = (self.backbones if network.backbones is None else network.backbones).cpu()
        at = [pick(len(clip.times_s), self.n_steps, self.n_steps, None) for clip in clips]
        steps: dict[str, Tensor] = {}
        stages: dict[str, Graph] = {}
        differences = []
        for stream, graph, key in (("visual", FRAME, "crop"), ("audio", CHUNK, "waveform")):
            if stream in backbones:
                raws = [self._whole(stream, clip) for clip in clips]
                middle = torch.from_numpy(np.stack([items[len(items) // 2] for items, _ in raws]))
                path = folder / graph.file
                differences.append(export_graph(backbones[stream], path, {key: middle}, ["features"]))
                features = [encode(backbones[stream], items, "cpu") for items, _ in raws]
                picked = [made[index[rows]] for made, (_, index), rows in zip(features, raws, at, strict=True)]
                steps[stream], stages[stream] = torch.from_numpy(np.stack(picked)), graph
        if "skeleton" in self.config.streams:
            poses = [_there(clip, clip.pose, "landmarks")[rows] for clip, rows in zip(clips, at, strict=True)]
            steps["pose"] = torch.from_numpy(np.stack(poses))
        differences.append(export_graph(Head(network), folder / "head.onnx", steps, ["posterior"]))
        takes = {name: name if name == "pose" else f"{name}.features" for name in steps}
        stages["head"] = Graph(file="head.onnx", per="window", takes=takes)
        return describe(
            self.config,
            stages,
            self._face(),
            n_steps=self.n_steps,
            frame_hz=self.frame_hz,
            hop_s=self.hop_s,
            difference=max(differences),
        )

    def _face(self) -> FaceInput:
        return FaceInput(size_px=self.swin.crop_px, align="frame")

    def _whole(self, stream: str, clip: Prepared) -> tuple[np.ndarray, np.ndarray]:
        """All that a backbone takes of a clip, and which of it each picture's step takes."""
        if stream == "visual":
            return _there(clip, clip.crops, "pictures"), np.arange(len(clip.times_s))
        return chunked(_there(clip, clip.samples, "sound"), clip.times_s)

    def _features_of(self, clip: Prepared) -> dict[str, np.ndarray]:
        """By stream, of each picture's step: (n, 768) and (n, 128) float32. Any thread may call."""
        with self._lock:
            key = (clip.name, _check_sum(clip))
            if key not in self._features:
                self._features[key] = {}
                for stream, backbone in self.backbones.to(self.device).items():
                    items, index = self._whole(stream, clip)
                    self._features[key][stream] = encode(backbone, items, self.device)[index]
            return self._features[key]

    def _raw(self, clip: Prepared, at: np.ndarray) -> dict[str, np.ndarray]:
        item = {}
        if "visual" in self.config.streams:
            item["crop"] = _there(clip, clip.crops, "pictures")[at]
        if "audio" in self.config.streams:
            samples, index = chunked(_there(clip, clip.samples, "sound"), clip.times_s)
            own, item["chunk"] = np.unique(index[at], return_inverse=True)
            item["waveform"] = np.zeros((self.n_steps, samples.shape[1]), np.float32)
            item["waveform"][: len(own)] = samples[own]
        return item


def _there(clip: Prepared, part: np.ndarray | None, what: str) -> np.ndarray:
    if part is None:
        raise ValueError(f"{clip.name}: expected its {what}, which it was prepared without; prepare it for this task")
    return part


def _check_sum(clip: Prepared) -> int:
    """Tells clips of one name apart, at a cost that does not count: sound, times, and the middle picture."""
    parts = [clip.times_s, clip.samples, None if clip.crops is None else clip.crops[len(clip.crops) // 2]]
    return zlib.crc32(b"".join(part.tobytes() for part in parts if part is not None))
