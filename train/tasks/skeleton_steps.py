"""From pictures, sound and landmarks to the steps that the three-stream recogniser takes (its section 2.1).

Dimension letters: B batch, T steps, S crop side in pixels, L samples of an audio chunk.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stream.records import RATE_HZ
from train.backbones.swin import Swin, SwinConfig
from train.backbones.vggish import Vggish, VggishConfig
from train.frontends.vggish_patches import HOP, PATCH_FRAMES, PATCH_SAMPLES
from train.models.skeleton import SkeletonConfig, SkeletonNextVlad

CHUNK_SAMPLES = PATCH_FRAMES * HOP  # L, 15 360 samples
CHUNK_S = CHUNK_SAMPLES / RATE_HZ  # 0.96 s
LEAST_UNIT = 1e-3  # of a pose, below which there is no body; those of bodies are hundreds of times as large
SHOULDERS = (11, 12)  # in BlazePose's order
# Nose; eyes 1-3 and 4-6; from the ears on, odd is left and even is right.
OTHER_SIDE = (0, 4, 5, 6, 1, 2, 3, *(k + 1 if k % 2 else k - 1 for k in range(7, 33)))


class PoseValues(nn.Module):
    """Landmarks to the values of a step: (B, T, 33, 3) float32 to (B, T, 99).

    The origin is the middle of the shoulders, which pictures of talking people show, and the unit is the landmarks'
    root mean square distance from it: neither the place in the picture nor the distance from the camera matters, and
    what is left is the body's attitude. BlazePose's metres are nearly so already, but lie around hips that such
    pictures do not show. `No body` is a state of its own, on purpose: zeros in, zeros out, and no real body comes out
    so.
    """

    def forward(self, pose: Tensor) -> Tensor:
        left, right = SHOULDERS
        centred = pose - 0.5 * (pose[:, :, left : left + 1] + pose[:, :, right : right + 1])
        unit = centred.square().sum(3, keepdim=True).mean(2, keepdim=True).sqrt()
        return torch.flatten(centred / unit.clamp_min(LEAST_UNIT), 2)


def mirrored(pose: np.ndarray) -> np.ndarray:
    """The landmarks of the mirrored picture, up to their place in it: (n, 33, 3) to the same."""
    other = pose[:, OTHER_SIDE]
    other[..., 0] *= -1
    return other


class ChunkFeatures(nn.Module):
    """VGGish on one audio chunk: (B, L) float32 to (B, 128).

    Its patch reaches 15 ms past the 0.96 s; the chunk's end is mirrored there, since silence would be a click.
    """

    def __init__(self, config: VggishConfig) -> None:
        super().__init__()
        self.vggish = Vggish(config)
        self.vggish.apply(_initialise)

    def forward(self, waveform: Tensor) -> Tensor:
        beyond = waveform[:, -(PATCH_SAMPLES - CHUNK_SAMPLES) :].flip(1)
        return self.vggish(torch.cat([waveform, beyond], 1)).squeeze(1)


def _initialise(module: nn.Module) -> None:
    # Nine layers without normalisation: as torch begins, what one chunk differs from another in fades to nothing.
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def make_backbones(config: SkeletonConfig, swin: SwinConfig, vggish: VggishConfig) -> nn.ModuleDict:
    """Fresh feature networks by stream, those of the configuration alone."""
    made: dict[str, nn.Module] = {}
    if "visual" in config.streams:
        made["visual"] = Swin(swin)
    if "audio" in config.streams:
        made["audio"] = ChunkFeatures(vggish)
    return nn.ModuleDict(made)


class Recogniser(nn.Module):
    """Items of `train.tasks.skeleton.SkeletonTask` to logits (B, n_labels).

    Args:
        config: Of the streams and their fusion.
        backbones: Those that are trained too; None where their features are in the items.
    """

    def __init__(self, config: SkeletonConfig, backbones: nn.ModuleDict | None) -> None:
        super().__init__()
        self.backbones = backbones
        self.pose = PoseValues()
        self.model = SkeletonNextVlad(config)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.model(*(self._steps(name, inputs) for name in self.model.config.streams))

    def _steps(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        if name == "skeleton":
            return self.pose(inputs["pose"])
        if self.backbones is None:
            return inputs[name]
        if name == "visual":
            crops = inputs["crop"]
            return self.backbones["visual"](torch.flatten(crops, 0, 1)).unflatten(0, crops.shape[:2])
        index = inputs["chunk"]  # (B, T); several steps share a chunk, and each chunk is encoded once
        n_chunks = int(index.max()) + 1
        chunks = inputs["waveform"][:, :n_chunks]
        features = self.backbones["audio"](torch.flatten(chunks, 0, 1)).unflatten(0, chunks.shape[:2])
        return features.gather(1, index.unsqueeze(2).expand(-1, -1, features.shape[2]))


class Head(nn.Module):
    """Steps to the posterior: for each stream (B, T, N), but landmarks (B, T, 33, 3), to (B, n_labels)."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.pose, self.model = recogniser.pose, recogniser.model

    def forward(self, *given: Tensor) -> Tensor:
        streams = self.model.config.streams
        steps = (self.pose(x) if name == "skeleton" else x for name, x in zip(streams, given, strict=True))
        return self.model(*steps).softmax(-1)


def chunked(samples: np.ndarray, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chunk that holds each time, or the last one: one that has not ended is not there, as in a stream.

    Args:
        samples: (n_samples,) float32 from the clip's start; a clip shorter than one chunk is filled up with zeros.
        times_s: (T,) float64 since the clip's start.

    Returns:
        The clip's whole chunks, (n, L) float32, and the one that each time takes, (T,) int64.
    """
    filled = np.pad(samples, (0, max(0, CHUNK_SAMPLES - len(samples))))
    n_whole = len(filled) // CHUNK_SAMPLES
    at = np.rint(times_s * 1e9).astype(np.int64) // round(CHUNK_S * 1e9)
    return filled[: n_whole * CHUNK_SAMPLES].reshape(n_whole, CHUNK_SAMPLES), np.minimum(at, n_whole - 1)


def encode(backbone: nn.Module, items: np.ndarray, device: str, n_at_once: int = 32) -> np.ndarray:
    """Features of many items without gradient, (n, ...) to (n, n_features) float32 on the CPU."""
    with torch.no_grad():
        parts = [
            backbone(torch.from_numpy(items[k : k + n_at_once]).to(device)).cpu()
            for k in range(0, len(items), n_at_once)
        ]
    return np.asarray(torch.cat(parts).numpy())
