"""Single pictures: a face network of the bilinear recogniser on FER+ (Zhou et al., 2019, Table 1), from scratch.

The paper pretrains on faces; here the network begins with random weights, unless a file of weights is named. Its
pictures of 224 pixels are 48 in FER+: they are enlarged to `SIZES_PX`, smaller first, which costs a third. A second,
short training sees them nearly as they are.

Different from the paper: all of `valid` is kept to measure, where the paper trains on it and measures on `test`;
targets are the raters' distribution over the eight labels, and a picture's label is the majority of all ten votes.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train import augment
from train.corpora.items import Faces
from train.default.learners import reseed, share
from train.loop import LoopConfig
from train.models.bilinear import FaceClassifier

LOOP = LoopConfig(
    epochs=32, learning_rate=0.1, weight_decay=5e-4, optimiser="sgd", average=0.998, evaluate_every=2
)  # fmt: skip
SIZES_PX = (64,) * 22 + (96,)
GENTLE_EPOCHS = 5  # the last ones see pictures nearly as they are
GENTLE_STRENGTH = 0.4
POLISH = LoopConfig(
    epochs=6, learning_rate=0.02, weight_decay=5e-4, optimiser="sgd", warmup_epochs=0.25, average=0.995,
    evaluate_every=1,
)  # fmt: skip
POLISH_PX = 96  # at 128 the same network had 82.0 and 82.8 % after two epochs, and was stopped


class PictureLearner(nn.Module):
    """A face classifier against the raters' distribution.

    Args:
        network: To be trained.
        train: Grey pictures to learn from.
        valid: Grey pictures to measure on.
        seed: Of order and augmentation.
        batch_size: Pictures in a batch.
        epochs: Of the whole training.
        gentle_epochs: So many of the last ones are augmented less.
        sizes_px: Side of the pictures in each epoch; the last one stays, and is that of the evaluation.
    """

    def __init__(self, network: FaceClassifier, train: Faces, valid: Faces, *, seed: int, batch_size: int,
                 epochs: int, gentle_epochs: int = GENTLE_EPOCHS,
                 sizes_px: tuple[int, ...] = SIZES_PX) -> None:  # fmt: skip
        super().__init__()
        self.network = network
        self._train, self._valid = train, valid
        self._seed, self._batch_size, self._sizes_px = seed, batch_size, sizes_px
        self._first_gentle = epochs - gentle_epochs

    def n_batches(self, n_ranks: int = 1) -> int:
        return max(1, len(self._train.names) // (self._batch_size * n_ranks))

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + epoch)
        order = torch.randperm(len(self._train.names), generator=generator).numpy()
        reseed(generator, rank)
        size_px = self._sizes_px[min(epoch, len(self._sizes_px) - 1)]
        strength = GENTLE_STRENGTH if epoch >= self._first_gentle else 1.0
        for step in range(self.n_batches(n_ranks)):
            chosen = share(order, step, self._batch_size, rank, n_ranks)
            grey = augment.pixels(torch.from_numpy(self._train.images[chosen]), size_px, generator, strength)
            covered = augment.erase(grey / 127.5 - 1.0, generator, strength)
            yield covered, torch.from_numpy(self._train.targets[chosen])

    def forward(self, grey: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(grey), targets)

    def _logits(self, grey: Tensor) -> Tensor:
        # (B, 1, S, S) in -1 to 1 to (B, L); grey stands on all three channels
        pixels = ((grey + 1.0) * 127.5).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return self.network.classifier(self.network.network(pixels)).float()

    @torch.no_grad()
    def posteriors(self, faces: Faces) -> np.ndarray:
        """(n, L) float32, each picture enlarged to the last of the sizes."""
        grey = torch.from_numpy(faces.images).unsqueeze(1).float() / 127.5 - 1.0
        size, device = (self._sizes_px[-1],) * 2, next(self.parameters()).device
        parts = [F.interpolate(part, size, mode="bilinear", align_corners=False) for part in grey.split(256)]
        return np.asarray(torch.cat([self._logits(part.to(device)).softmax(1) for part in parts]).cpu().numpy())

    def evaluate(self) -> dict[str, float]:
        right = self.posteriors(self._valid).argmax(1) == self._valid.majority
        per_label = [right[self._valid.majority == label].mean() for label in np.unique(self._valid.majority)]
        return {"accuracy": float(right.mean()), "uar": float(np.mean(per_label))}
