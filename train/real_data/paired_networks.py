"""Networks on the sets of `paired_features`: the text's attentions and fusions, and their cross-validation.

Each action unit is one feature of the set: relu(W_u [intensity, presence] + b_u), with weights of its own. Each span
of sound is one: relu(W x_t + b_t), W shared, b_t of its own. Attention, pooling and softmax follow as in Zhou et al.,
2019, section 2. The text's dropout is inside the pooling; the numbers that are read have it too here.

Dimension letters: B batch, U units (18), S spans (7), F frames in a span (37), D features of a set's member, L labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from train.layers.attention import attention
from train.loop import LoopConfig, learning_rate, make_optimiser
from train.models.bilinear import BilinearConfig, FusionHead
from train.real_data.paired_features import LABELS, N_FOLDS, N_FRAMES, N_SPANS, N_UNITS, PairedClips, sets

LOOP = LoopConfig(
    epochs=60, batch_size=96, learning_rate=4e-3, weight_decay=0.05, optimiser="adamw", average=0.0
)  # fmt: skip
N_DRAWN = 10_000  # resamplings of the actors


@dataclass(frozen=True, kw_only=True)
class PairedConfig:
    """A row: which modalities, which attention in each, how they are fused, and the sizes.

    Attributes:
        modality: both, face or voice.
        visual_attention: A name of `train.layers.attention.KINDS`.
        audio_attention: Likewise.
        fusion: FBP or concatenation, where there are both.
        width: D.
        dropout: Rate on the numbers that are read, and inside the pooling.
    """

    modality: Literal["both", "face", "voice"] = "both"
    visual_attention: str = "transformer"
    audio_attention: str = "transformer"
    fusion: str = "FBP"
    width: int = 32
    dropout: float = 0.3


class Members(nn.Module):
    """Members of both sets: (B, U, 2) to (B, U, D), and (B, S, F) to (B, S, D)."""

    def __init__(self, config: PairedConfig) -> None:
        super().__init__()
        self.unit_weight = nn.Parameter(torch.randn(N_UNITS, 2, config.width) / 2**0.5)
        self.unit_bias = nn.Parameter(0.1 * torch.randn(N_UNITS, config.width))
        self.span = nn.Linear(N_FRAMES, config.width, bias=False)
        self.span_bias = nn.Parameter(0.1 * torch.randn(N_SPANS, config.width))
        self.dropout = nn.Dropout(config.dropout)

    def units(self, pairs: Tensor) -> Tensor:
        intensity, presence = self.dropout(pairs).split(1, 2)  # (B, U, 1) each
        # Twice as fast as the sum over an axis of two.
        mixed = torch.addcmul(self.unit_bias, intensity, self.unit_weight[:, 0])
        return F.relu(torch.addcmul(mixed, presence, self.unit_weight[:, 1]))

    def spans(self, frames: Tensor) -> Tensor:
        return F.relu(self.span(self.dropout(frames)) + self.span_bias)


class PairedNetwork(nn.Module):
    """Both sets to logits: (B, U, 2), (B, S, F) and valid (B, S) to (B, L)."""

    def __init__(self, config: PairedConfig, n_labels: int = len(LABELS)) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.members = Members(config)
        if config.modality == "both":
            head = BilinearConfig(
                visual_attention=config.visual_attention,
                audio_attention=config.audio_attention,
                fusion=config.fusion,
                dropout=config.dropout,
            )
            self.head = FusionHead(head, n_visual=width, n_audio=width)
            self.head.classifier = nn.Linear(self.head.fusion.n_out, n_labels)  # the text's head has seven
        else:
            kind = config.visual_attention if config.modality == "face" else config.audio_attention
            self.attention = attention(kind, width)
            self.classifier = nn.Linear(self.attention.n_out, n_labels)

    def forward(self, pairs: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
        if self.config.modality == "face":
            return self.classifier(self.attention(self.members.units(pairs)))
        if self.config.modality == "voice":
            return self.classifier(self.attention(self.members.spans(frames), valid))
        return self.head(self.members.units(pairs), self.members.spans(frames), audio_valid=valid)


def rows() -> dict[str, PairedConfig]:
    """Name and configuration: the text's 3 x 3 with FBP, concatenation of the same attention twice, each alone."""
    names = ("self", "relation", "transformer")
    made = {f"{v}-{a}-fbp": PairedConfig(visual_attention=v, audio_attention=a) for v in names for a in names}
    for name in names:
        both = PairedConfig(visual_attention=name, audio_attention=name, fusion="concatenation")
        made[f"{name}-{name}-concatenation"] = both
    modalities: tuple[Literal["face", "voice"], ...] = ("face", "voice")
    for modality in modalities:
        for name in names:
            alone = PairedConfig(modality=modality, visual_attention=name, audio_attention=name)
            made[f"{modality}-{name}"] = alone
    return made


def cross_validate(fabric: Fabric, clips: PairedClips, config: PairedConfig, loop: LoopConfig) -> np.ndarray:
    """Posteriors of every clip by the network of the fold that tests it, the last epoch's: (n, L) float32."""
    posteriors = np.empty((len(clips.labels), len(LABELS)), dtype=np.float32)
    for fold in range(N_FOLDS):
        tested = clips.folds == fold
        posteriors[tested] = _fold(fabric, clips, tested, config, loop)
    return posteriors


def _fold(fabric: Fabric, clips: PairedClips, tested: np.ndarray, config: PairedConfig, loop: LoopConfig) -> np.ndarray:
    torch.manual_seed(loop.seed)
    network = PairedNetwork(config)
    optimiser = make_optimiser(network, loop)
    inputs, labels = sets(clips, ~tested), torch.from_numpy(clips.labels)
    known = torch.from_numpy(np.flatnonzero(~tested))
    n_batches = max(1, len(known) // loop.batch_size)
    network.train()
    for step in range(loop.epochs * n_batches):
        if step % n_batches == 0:
            order = known[torch.randperm(len(known))]
        at = step % n_batches * loop.batch_size
        batch = order[at : at + loop.batch_size]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(loop, step / n_batches)
        with fabric.autocast():
            logits = network(*(part[batch] for part in inputs))
        loss = F.cross_entropy(logits.float(), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        return np.asarray(network(*(part[torch.from_numpy(tested)] for part in inputs)).softmax(1).numpy())


def differences(by_actor: Mapping[str, np.ndarray | None], seed: int = 0) -> dict[str, dict[str, float]]:
    """How much more accurate one kind of row is than another, with an interval over the actors.

    Args:
        by_actor: Row to its accuracy of each actor, averaged over seeds; None where it was not run.
        seed: Of the resampling.

    Returns:
        For each comparison whose rows are all there: `mean`, and `low` and `high`, the 2.5th and 97.5th percentile
        of the mean when actors are drawn anew with repetition. Networks of one fold are the same for its actors, and
        those of two folds share most of their training: the interval is rather too narrow than too wide.
    """
    names = ("self", "relation", "transformer")
    same = [f"{name}-{name}-" for name in names]
    comparisons = {"FBP - concatenation, same attention twice": ([s + "fbp" for s in same],
                                                                 [s + "concatenation" for s in same])}  # fmt: skip
    for other in names[:2]:
        comparisons[f"visual transformer - {other}, FBP"] = (
            [f"transformer-{a}-fbp" for a in names], [f"{other}-{a}-fbp" for a in names])  # fmt: skip
        comparisons[f"audio transformer - {other}, FBP"] = (
            [f"{v}-transformer-fbp" for v in names], [f"{v}-{other}-fbp" for v in names])  # fmt: skip
    comparisons["both with FBP - face alone"] = ([s + "fbp" for s in same], [f"face-{name}" for name in names])
    comparisons["both concatenated - face alone"] = (
        [s + "concatenation" for s in same], [f"face-{name}" for name in names])  # fmt: skip
    found = {}
    for text, (one, other_rows) in comparisons.items():
        ours = [by_actor.get(name) for name in (*one, *other_rows)]
        if all(part is not None for part in ours):
            table = np.stack([part for part in ours if part is not None])
            found[text] = _interval(table[: len(one)].mean(0) - table[len(one) :].mean(0), seed)
    return found


def _interval(gains: np.ndarray, seed: int) -> dict[str, float]:
    drawn = np.random.default_rng(seed).choice(gains, (N_DRAWN, len(gains))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"mean": float(gains.mean()), "low": float(low), "high": float(high)}
