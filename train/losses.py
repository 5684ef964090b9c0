"""Losses of a recogniser with two modalities, and class weights.

The common loss is the negative Soft-HGR score (Wang et al., "An efficient approach to informative feature extraction
from multimodal data", AAAI 2019), which EMODal (Zhang et al., 2018, section 2, references 6 and 7) adds to the cross
entropy of the joint prediction (its classify loss) and those of each modality (its specific losses).

Dimension letters: B batch, K features of a modality, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_hgr_score(f: Tensor, g: Tensor) -> Tensor:
    """How much two modalities' features have in common: E[f·g] - ½ tr(cov f · cov g), a scalar.

    Features are brought to zero mean over the batch here. Expectations are over the batch, divided by B. The best
    score that any f(x) and g(y) reach is half the sum of the K largest squared singular values of the canonical
    dependence matrix P(x, y) / √(P(x) P(y)) - √(P(x) P(y)); for jointly Gaussian variables and linear features those
    are the canonical correlations. The features need no whitening, which is what the score is for.

    Args:
        f: (B, K) float, one modality's features.
        g: (B, K) float, those of the other one, of the same items.

    Raises:
        ValueError: If the shapes differ, are not two axes, or B is less than 2: one item is its own mean.
    """
    if f.ndim != 2 or f.shape != g.shape or len(f) < 2:
        raise ValueError(
            f"expected two (batch, features) of one shape, batch 2 or more, got {tuple(f.shape)} and {tuple(g.shape)}"
        )
    f, g = f - f.mean(0), g - g.mean(0)
    n = len(f)
    common = (f * g).sum() / n
    cov_f, cov_g = f.T @ f / n, g.T @ g / n  # (K, K)
    # tr(A B) of symmetric matrices is the sum of their elementwise product.
    return common - 0.5 * (cov_f * cov_g).sum()


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each loss counts; the text says only that all are combined, so all count 1.

    Attributes:
        common: Of the negative Soft-HGR score.
        joint: Of the cross entropy of the prediction from both modalities (the classify loss).
        specific: Of the cross entropies of the predictions from each modality alone.

    Raises:
        ValueError: If a weight is negative, or all are zero.
    """

    common: float = 1.0
    joint: float = 1.0
    specific: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.common, self.joint, self.specific)
        if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
            raise ValueError(f"expected weights of 0 or more, at least one above 0, got {weights}")


class BimodalOutputs(NamedTuple):
    """What a network of two modalities gives in training: features (B, K) and logits (B, L), all float32."""

    image: Tensor
    audio: Tensor
    joint_logits: Tensor
    image_logits: Tensor
    audio_logits: Tensor


class BimodalLosses(NamedTuple):
    """The losses of one batch, each a scalar before its weight, and their weighted sum."""

    total: Tensor
    common: Tensor
    joint: Tensor
    image: Tensor
    audio: Tensor


def bimodal_losses(
    outputs: BimodalOutputs, labels: Tensor, weights: LossWeights, class_weights: Tensor | None = None
) -> BimodalLosses:
    """Common, classify and specific losses (EMODal, section 2).

    Args:
        outputs: Of one batch, B at least 2.
        labels: (B,) int64, each in [0, L).
        weights: Of the losses in the total.
        class_weights: (L,) float, or None for equal ones; each item's cross entropy counts as its class's weight,
            and the mean is over the weights.
    """
    common = -soft_hgr_score(outputs.image, outputs.audio)
    joint = F.cross_entropy(outputs.joint_logits, labels, class_weights)
    image = F.cross_entropy(outputs.image_logits, labels, class_weights)
    audio = F.cross_entropy(outputs.audio_logits, labels, class_weights)
    total = weights.common * common + weights.joint * joint + weights.specific * (image + audio)
    return BimodalLosses(total, common, joint, image, audio)


def root_count_weights(counts: Sequence[int]) -> Tensor:
    """Square roots of the classes' counts, divided by their sum: (L,) float32.

    Zhou et al., 2019 ("Exploring emotion features and fusion strategies", results on EmotiW 2019) multiply predicted
    scores by these: a model trained on even classes leans towards the frequent ones, half as far as counts would.

    Raises:
        ValueError: If there is no class, a count is negative, or all are zero.
    """
    if not counts or min(counts) < 0 or not any(counts):
        raise ValueError(f"expected counts of 0 or more, at least one above 0, got {list(counts)}")
    roots = torch.tensor(counts, dtype=torch.float64).sqrt()
    return (roots / roots.sum()).to(torch.float32)


def reweight(posterior: Tensor, class_weights: Tensor) -> Tensor:
    """Posterior times class weights, made to sum to 1 again: (B, L) and (L,) to (B, L).

    Raises:
        ValueError: If the weights are not one a label.
    """
    if class_weights.shape != posterior.shape[-1:]:
        raise ValueError(f"expected {posterior.shape[-1]} class weights, got shape {tuple(class_weights.shape)}")
    scores = posterior * class_weights
    return scores / scores.sum(-1, keepdim=True)
