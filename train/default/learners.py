"""What each stage of the temporal recogniser learns from: faces, voices, and pairs of both.

FER+ has no voices and the speech corpora here no faces. The last stage pairs a face and a voice of the same label:
class-matched pairs, of two different people. Figures from such pairs are named so wherever they stand.
"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream.windows import Alignment, WindowScheme
from train import augment
from train.corpora.items import Faces
from train.frontends.grey_and_mel import normalise_log_mel, standardise
from train.models.temporal import AudioVisualNetwork
from train.voices import Voices, random_windows, windows_of

SCHEMES = (WindowScheme(alignment=Alignment.CENTERED), WindowScheme(alignment=Alignment.CAUSAL))


def balanced(labels: np.ndarray, n_drawn: int, power: float, seed: int) -> np.ndarray:
    """Draw `n_drawn` indices, each item with odds of its label's count to the power -`power`; (n_drawn,) int64."""
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    odds = 1.0 / counts[label] ** power
    return np.random.default_rng(seed).choice(len(labels), n_drawn, p=odds / odds.sum())


def share(drawn: np.ndarray, step: int, batch_size: int, rank: int, n_ranks: int) -> np.ndarray:
    """A rank's batch of a step: every n_ranks-th of the step's n_ranks * batch_size items."""
    together = batch_size * n_ranks
    return drawn[step * together : (step + 1) * together][rank::n_ranks]


def reseed(generator: torch.Generator, rank: int) -> None:
    """Give each rank but the first, which goes on as it is, another stream for its augmentation."""
    if rank:
        generator.manual_seed(generator.initial_seed() + rank * 1_000_000_007)


class FaceLearner(nn.Module):
    """The face branch and its head against the raters' distribution (FER+'s probability labels)."""

    def __init__(self, network: AudioVisualNetwork, train: Faces, valid: Faces, *, seed: int, batch_size: int,
                 sizes_px: tuple[int, ...], strength: float = 1.0, rare_every: int = 4) -> None:  # fmt: skip
        super().__init__()
        self.face, self.head, self.dropout = network.face, network.face_head, network.dropout
        self._train, self._valid = train, valid
        self._seed, self._batch_size, self._sizes_px = seed, batch_size, sizes_px
        self._strength, self._rare_every = strength, rare_every

    def n_batches(self, n_ranks: int = 1) -> int:
        return max(1, len(self._train.names) // (self._batch_size * n_ranks))

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + epoch)
        n_drawn = self.n_batches(n_ranks) * self._batch_size * n_ranks
        if self._rare_every and epoch % self._rare_every == self._rare_every - 1:  # rare labels more often
            order = balanced(self._train.majority, n_drawn, 0.5, self._seed + epoch)
        else:
            order = torch.randperm(len(self._train.names), generator=generator)[:n_drawn].numpy()
        reseed(generator, rank)
        size_px = self._sizes_px[min(epoch, len(self._sizes_px) - 1)]
        for step in range(self.n_batches(n_ranks)):
            chosen = share(order, step, self._batch_size, rank, n_ranks)
            images = torch.from_numpy(self._train.images[chosen])
            crops = augment.faces(images, size_px, generator, self._strength)
            yield crops, torch.from_numpy(self._train.targets[chosen])

    def forward(self, grey: Tensor, targets: Tensor) -> Tensor:
        logits = self.head(self.dropout(self.face.encode(grey.contiguous(memory_format=torch.channels_last))))
        return F.cross_entropy(logits.float(), targets)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        grey = torch.from_numpy(self._valid.images).unsqueeze(1).float()
        device = self.head.weight.device
        logits = torch.cat([self.head(self.face.encode(standardise(part.to(device)))) for part in grey.split(256)])
        right = logits.argmax(1).cpu().numpy() == self._valid.majority
        per_label = [right[self._valid.majority == label].mean() for label in np.unique(self._valid.majority)]
        return {"accuracy": float(right.mean()), "uar": float(np.mean(per_label))}


class VoiceLearner(nn.Module):
    """The voice branch and its head on windows drawn by the temporal-offset scheme, one label an utterance."""

    def __init__(self, network: AudioVisualNetwork, train: Voices, valid: Voices, *, seed: int, batch_size: int,
                 n_batches: int, smoothing: float, mixup: float) -> None:  # fmt: skip
        super().__init__()
        self.voice, self.head, self.dropout = network.voice, network.voice_head, network.dropout
        self._train, self._valid = train, valid
        self._seed, self._batch_size, self._n_batches = seed, batch_size, n_batches
        self._smoothing, self._mixup = smoothing, mixup
        corpus = [u.name.split("/")[0] for u in train.utterances]
        self._frontend = deepcopy(network.voice.frontend)  # stays on the CPU, where batches are made
        self._group = np.array([f"{c}/{u.label}" for c, u in zip(corpus, train.utterances, strict=True)])

    def n_batches(self, n_ranks: int = 1) -> int:
        return self._n_batches

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + epoch)
        n_drawn = self._n_batches * self._batch_size * n_ranks
        order = balanced(self._group, n_drawn, 0.5, self._seed * 100_003 + epoch)
        reseed(generator, rank)
        n_samples, frontend = SCHEMES[0].n_samples(16_000), self._frontend
        for step in range(self._n_batches):
            chosen = share(order, step, self._batch_size, rank, n_ranks)
            at = (step * n_ranks + rank) * self._batch_size
            wide = random_windows(self._train, list(chosen), SCHEMES, self._seed * 100_003 + epoch * 997 + at, 26_880)
            with torch.no_grad():
                waves = augment.voices(torch.from_numpy(wide), n_samples, generator)
                mels = augment.log_mel(frontend(waves), generator)
                views = augment.mask(normalise_log_mel(mels), generator)
            targets = F.one_hot(torch.from_numpy(self._train.labels[chosen]), self.head.out_features).float()
            if self._mixup:
                views, targets = _mix(views, targets, self._mixup, self._seed * 7 + epoch * 1009 + at)
            yield views, targets

    def forward(self, views: Tensor, targets: Tensor) -> Tensor:
        logits = self.head(self.dropout(self.voice.encode(views.contiguous(memory_format=torch.channels_last))))
        return F.cross_entropy(logits.float(), targets, label_smoothing=self._smoothing)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        scores: dict[str, list[bool]] = {}
        for samples, utterance in zip(self._valid.samples, self._valid.utterances, strict=True):
            windows = torch.from_numpy(windows_of(samples, utterance.name, SCHEMES[0], 0)).to(self.head.weight.device)
            posterior = self.head(self.voice(windows)).softmax(1).sum(0)
            scores.setdefault(utterance.name.split("/")[0], []).append(int(posterior.argmax()) == utterance.label)
        return {corpus: float(np.mean(right)) for corpus, right in scores.items()}


def _mix(views: Tensor, targets: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor]:
    # mixup (Zhang et al., 2018), half of the batch with the other half of itself reversed
    generator = np.random.default_rng(seed)
    share = torch.from_numpy(np.maximum(s := generator.beta(alpha, alpha, len(views)), 1 - s)).float()
    wide = share.reshape(-1, 1, 1, 1)
    return views * wide + views.flip(0) * (1 - wide), targets * share[:, None] + targets.flip(0) * (1 - share[:, None])


class PairLearner(nn.Module):
    """The head of both modalities on class-matched pairs, the branches as the other stages left them.

    The head begins as the sum of the two single heads, which is right where a face and a voice of one label are
    independent, and learns from there how far each can be trusted.
    """

    def __init__(self, network: AudioVisualNetwork, faces: tuple[Faces, Faces], voices: tuple[Voices, Voices], *,
                 seed: int, batch_size: int, n_batches: int) -> None:  # fmt: skip
        super().__init__()
        self.head, self.dropout = network.both_head, network.dropout
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([network.face_head.weight, network.voice_head.weight], 1))
            self.head.bias.copy_(network.face_head.bias + network.voice_head.bias)
        self._branches = (network.face.eval(), network.voice.eval())  # a tuple: not trained, not averaged
        self._train, self._valid = (faces[0], voices[0]), (faces[1], voices[1])
        self._seed, self._batch_size, self._n_batches = seed, batch_size, n_batches

    def n_batches(self, n_ranks: int = 1) -> int:
        return self._n_batches

    @torch.no_grad()
    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        faces, voices = self._train
        face, voice = self._branches
        generator = torch.Generator().manual_seed(self._seed * 100_003 + epoch)
        chooser = np.random.default_rng(self._seed * 100_003 + epoch)
        of_label = {label: np.flatnonzero(voices.labels == label) for label in np.unique(voices.labels)}
        usable = np.flatnonzero(np.isin(faces.majority, list(of_label)))
        reseed(generator, rank)
        for step in range(self._n_batches):
            seed = self._seed * 100_003 + epoch * 997 + step
            drawn = usable[balanced(faces.majority[usable], self._batch_size * n_ranks, 0.5, seed)]
            heard = [int(chooser.choice(of_label[label])) for label in faces.majority[drawn]]
            chosen, spoken = drawn[rank::n_ranks], heard[rank::n_ranks]
            labels = faces.majority[chosen]
            grey = augment.faces(torch.from_numpy(faces.images[chosen]), faces.images.shape[1], generator)
            wide = torch.from_numpy(random_windows(voices, spoken, SCHEMES, seed + rank * 1_000_003, 26_880))
            waves = augment.voices(wide, SCHEMES[0].n_samples(16_000), generator)
            views = normalise_log_mel(augment.log_mel(voice.frontend(waves), generator))
            yield torch.cat([face.encode(grey), voice.encode(views)], 1), torch.from_numpy(labels)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.dropout(features)).float(), labels, label_smoothing=0.05)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        faces, voices = self._valid
        face, voice = self._branches
        grey = standardise(torch.from_numpy(faces.images).unsqueeze(1).float())
        seen = torch.cat([face.encode(part) for part in grey.split(256)])
        waves = torch.from_numpy(random_windows(voices, list(range(len(voices.samples))), SCHEMES, 0, 20_480))
        heard = torch.cat([voice(part) for part in waves.split(256)])
        chooser, right = np.random.default_rng(0), []
        for label in np.unique(voices.labels):
            looks, sounds = np.flatnonzero(faces.majority == label), np.flatnonzero(voices.labels == label)
            if not len(looks):
                continue
            pair = torch.cat([seen[looks], heard[chooser.choice(sounds, len(looks))]], 1).to(self.head.weight.device)
            right.append((self.head(pair).argmax(1) == int(label)).float().mean().item())
        return {"uar_one_window": float(np.mean(right))}
