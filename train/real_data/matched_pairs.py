"""EMODal on class-matched pairs: a face of FER+ and a voice of the speech corpora with the same label.

The two are different people, which the text's clips are not. Given the label they are independent, so that all the
two have in common is the label: a figure from such pairs is named class-matched wherever it stands.

Faces of 48 pixels are enlarged to S. A voice is one window of T samples around the middle of its utterance, padded
with zeros where that is shorter. Training draws the four labels evenly, as the text's clips are; its voices are
`N_VIEWS` augmented windows of each utterance, whose 68 features are computed once. Every held-out face is paired with
one held-out voice, and the pairs are the same for all rows and seeds.

The text names Adam and Keras and no numbers: Keras' own step, batch and first weights (Glorot and Bengio, 2010) are
taken. With torch's own first weights, smaller ones, the image network left chance later.

Dimension letters: B batch, S crop side in pixels, T audio samples, K features, n faces, m voices, V windows a voice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train import augment
from train.corpora.ferplus import COLUMNS
from train.corpora.items import CorpusError, Faces
from train.default.learners import balanced
from train.frontends.grey_and_mel import standardise
from train.frontends.short_term_features import ShortTermFeatures
from train.loop import LoopConfig
from train.losses import LossWeights, bimodal_losses
from train.models.emodal import LABELS, Emodal, EmodalConfig, Unimodal, build
from train.voices import RATE_HZ, Voices, cut

LOOP = LoopConfig(
    epochs=16,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.0,
    optimiser="adamw",  # without decay: Adam
    average=0.995,
    evaluate_every=8,
)
N_BATCHES = 120  # in an epoch
STRENGTH = 0.3  # of what is done to the faces: few passes leave little to overfit
N_VIEWS = 8
JITTER_S = 0.25
OF_CORPORA = tuple(COLUMNS.index(label) for label in LABELS)  # the four among the labels that readers give


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Faces and voices of one split, labels as indices into `LABELS`.

    Attributes:
        images: (n, 48, 48) uint8, grey.
        face_labels: (n,) int64.
        features: (m, V, 68) float32, short-term averages.
        voice_labels: (m,) int64.
    """

    images: np.ndarray
    face_labels: np.ndarray
    features: np.ndarray
    voice_labels: np.ndarray

    def __deepcopy__(self, memo: dict[int, object]) -> "Material":
        return self  # never written to; an averaged copy of a learner shares it

    def pairs(self, faces: np.ndarray, seed: int) -> np.ndarray:
        """A voice of the same label for each of `faces`, drawn with repetition: indices (len(faces),) int64."""
        generator = np.random.default_rng(seed)
        chosen = np.empty(len(faces), dtype=np.int64)
        for label in range(len(LABELS)):
            wanted = self.face_labels[faces] == label
            chosen[wanted] = generator.choice(np.flatnonzero(self.voice_labels == label), wanted.sum())
        return chosen


def gather(faces: Faces, voices: Voices, *, n_samples: int, seed: int | None) -> Material:
    """The material of a split, of the four labels alone.

    Args:
        faces: Of any labels that `train.corpora.ferplus` gives.
        voices: Likewise.
        n_samples: T.
        seed: Of `N_VIEWS` augmented windows; None for the one plain window in the middle.

    Raises:
        CorpusError: If a label has no face or no voice.
    """
    seen = _of_four(faces.majority)
    heard = _of_four(voices.labels)
    lacking = [
        f"{label}: {kind}" for kind, own in (("face", seen), ("voice", heard)) for k, label in enumerate(LABELS)
        if k not in own
    ]  # fmt: skip
    if lacking:
        raise CorpusError(f"expected a face and a voice of each of {', '.join(LABELS)}; there is no {lacking}")
    kept = [samples for samples, label in zip(voices.samples, heard, strict=True) if label >= 0]
    return Material(
        images=faces.images[seen >= 0],
        face_labels=seen[seen >= 0],
        features=_plain(kept, n_samples) if seed is None else _augmented(kept, n_samples, seed),
        voice_labels=heard[heard >= 0],
    )


def _of_four(labels: np.ndarray) -> np.ndarray:
    # Index into LABELS, -1 for any other.
    index = np.full(len(COLUMNS), -1, dtype=np.int64)
    index[list(OF_CORPORA)] = np.arange(len(LABELS))
    return index[labels]


def _plain(samples: list[np.ndarray], n_samples: int) -> np.ndarray:
    waves = np.stack([cut(s, (len(s) - n_samples) // 2, n_samples)[0] for s in samples])
    return _short_term(torch.from_numpy(waves))[:, None]


def _augmented(samples: list[np.ndarray], n_samples: int, seed: int) -> np.ndarray:
    generator, chooser = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    n_wide, views = round(n_samples * 1.3), []
    for _ in range(N_VIEWS):
        parts = []
        for at in range(0, len(samples), 256):  # bounded memory
            batch = samples[at : at + 256]
            jitter = np.rint(chooser.uniform(-JITTER_S, JITTER_S, len(batch)) * RATE_HZ).astype(int)
            starts = [(len(s) - n_wide) // 2 + j for s, j in zip(batch, jitter, strict=True)]
            wide = np.stack([cut(s, start, n_wide)[0] for s, start in zip(batch, starts, strict=True)])
            parts.append(_short_term(augment.voices(torch.from_numpy(wide), n_samples, generator)))
        views.append(np.concatenate(parts))
    return np.stack(views, 1)


@torch.no_grad()
def _short_term(waves: Tensor) -> np.ndarray:
    frontend = ShortTermFeatures()
    return np.concatenate([frontend(part).numpy() for part in waves.split(64)])


def fresh(config: EmodalConfig, seed: int) -> Emodal | Unimodal:
    """A network with the first weights that Keras gives: Glorot's uniform ones, biases of zero."""
    torch.manual_seed(seed)
    network = build(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class MatchedLearner(nn.Module):
    """A row of Table 1 on class-matched pairs; all rows see the same pairs in the same order.

    Args:
        network: To be trained, of any modality.
        train: To learn from.
        valid: To measure on.
        seed: Of pairs and augmentation.
        batch_size: Pairs in a batch, 2 or more.
        n_batches: In an epoch.
        weights: Of the losses, where there are two modalities.
    """

    def __init__(self, network: Emodal | Unimodal, train: Material, valid: Material, *, seed: int, batch_size: int,
                 n_batches: int, weights: LossWeights) -> None:  # fmt: skip
        super().__init__()
        self.network = network
        self._modality, self._side_px = network.config.modality, network.config.crop_px
        self._train, self._valid = train, valid
        self._seed, self._batch_size, self._n_batches, self._weights = seed, batch_size, n_batches, weights

    def n_batches(self, n_ranks: int = 1) -> int:
        return self._n_batches

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        """Faces (B, 1, S, S) or none, features (B, 68), labels (B,)."""
        n_views, material = self._train.features.shape[1], self._train
        for step in range(self._n_batches):
            seed = self._seed * 100_003 + epoch * 997 + step
            drawn = balanced(material.face_labels, self._batch_size * n_ranks, 1.0, seed)
            heard = material.pairs(drawn, seed)
            shown = np.random.default_rng(seed).integers(n_views, size=len(heard))
            faces, voices, views = (part[rank::n_ranks] for part in (drawn, heard, shown))
            looks = self._looks(material.images[faces], seed + rank * 1_000_000_007)
            labels = torch.from_numpy(material.face_labels[faces])
            yield looks, torch.from_numpy(material.features[voices, views]), labels

    def _looks(self, images: np.ndarray, seed: int) -> Tensor:
        if self._modality == "audio":
            return torch.empty(len(images), 0)
        generator = torch.Generator().manual_seed(seed)
        grey = augment.pixels(torch.from_numpy(images), images.shape[1], generator, STRENGTH)
        return augment.erase(self._enlarged(grey), generator, STRENGTH)

    def _enlarged(self, grey: Tensor) -> Tensor:
        size = (self._side_px, self._side_px)
        large = standardise(F.interpolate(grey, size, mode="bilinear", align_corners=False))
        return large.contiguous(memory_format=torch.channels_last)

    def forward(self, faces: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        network: Any = self.network
        if isinstance(self.network, Unimodal):
            seen = faces if self._modality == "image" else features
            return F.cross_entropy(network.head(network.network.encode(seen)).float(), labels)
        image, audio = network.image.encode(faces), network.audio.encode(features)
        # The score multiplies covariances of 10 features: single precision, whatever the networks run in.
        with torch.autocast(faces.device.type, enabled=False):
            outputs = network.outputs(image.float(), audio.float())
            return bimodal_losses(outputs, labels, self._weights).total

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Each held-out face and the voice it is paired with: indices (n,) and (n,)."""
        faces = np.arange(len(self._valid.face_labels))
        return faces, self._valid.pairs(faces, 0)

    @torch.no_grad()
    def posteriors(self) -> np.ndarray:
        """Of the held-out pairs: (n, 4) float32."""
        faces, voices = self.held_out()
        images, features = self._valid.images[faces], torch.from_numpy(self._valid.features[voices, 0])
        device, parts = next(self.parameters()).device, []
        for at in range(0, len(faces), 128):
            grey = torch.from_numpy(images[at : at + 128]).unsqueeze(1).float().to(device)
            parts.append(self._logits(grey, features[at : at + 128].to(device)).softmax(1))
        return np.asarray(torch.cat(parts).cpu().numpy())

    def _logits(self, grey: Tensor, features: Tensor) -> Tensor:
        network: Any = self.network
        if self._modality == "audio":
            return network.head(network.network.encode(features))
        large = self._enlarged(grey)
        if self._modality == "image":
            return network.head(network.network.encode(large))
        return network.joint(network.image.encode(large), network.audio.encode(features))

    def evaluate(self) -> dict[str, float]:
        right = self.posteriors().argmax(1) == self._valid.face_labels
        recalls = [right[self._valid.face_labels == k].mean() for k in range(len(LABELS))]
        return {"accuracy": float(right.mean()), "uar": float(np.mean(recalls))}
