"""Attention that turns any number of features into one (Zhou et al., 2019), section 2, equations 1-7.

Dimension letters: B batch, n features of an item (frames of a video, positions of a map), d width of a feature,
m hidden width of the transformer attention.

All three are weighted means. Their weights are kept as logarithms and normalised by a softmax: the quotients of the
text, which a sigmoid or an exponential of large numbers would make 0 / 0 or infinity.

What the text leaves open, and where it slips:
- W0 and W1 have no bias in equations 1 and 3, and none here.
- W1 acts on [f_i : f_s], so it has 2d rows, not d; the sum of equation 4 begins at 1, not 0.
- u of equation 6 acts on f_i', so it has m rows, not d. The text does not give m.
- The text has no mask; `valid` leaves out features that only pad a shorter item.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _log_sigmoid(logits: Tensor) -> Tensor:
    # Not F.logsigmoid: its graph takes the logarithm of a sigmoid, which is minus infinity below -104 in float32.
    return -F.softplus(-logits)


def _weights(log_weights: Tensor, valid: Tensor | None) -> Tensor:
    """Normalised weights, (B, n) to (B, n) with rows that sum to 1."""
    if valid is not None:
        log_weights = log_weights.masked_fill(~valid, -torch.inf)
    return log_weights.softmax(1)


def _mean(weights: Tensor, features: Tensor) -> Tensor:
    return torch.matmul(weights.unsqueeze(1), features).squeeze(1)  # (B, 1, n) times (B, n, d)


class SelfAttention(nn.Module):
    """Equations 1 and 2: (B, n, d) float32 to (B, d)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_out = n_features
        self.score = nn.Linear(n_features, 1, bias=False)

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` is (B, n) bool, true where a feature counts; None when all do."""
        return _mean(_weights(_log_sigmoid(self.score(features)).squeeze(2), valid), features)


class RelationAttention(nn.Module):
    """Equations 1 to 4: (B, n, d) float32 to (B, 2d)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_out = 2 * n_features
        self.score = nn.Linear(n_features, 1, bias=False)
        self.relation = nn.Linear(2 * n_features, 1, bias=False)

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` is (B, n) bool, true where a feature counts; None when all do."""
        log_alpha = _log_sigmoid(self.score(features)).squeeze(2)  # (B, n)
        whole = _mean(_weights(log_alpha, valid), features)  # f_s, (B, d)
        pairs = torch.cat([features, whole.unsqueeze(1).expand_as(features)], 2)  # [f_i : f_s], (B, n, 2d)
        log_beta = _log_sigmoid(self.relation(pairs)).squeeze(2)
        return _mean(_weights(log_alpha + log_beta, valid), pairs)


class TransformerAttention(nn.Module):
    """Equations 5 to 7: (B, n, d) float32 to (B, d).

    Args:
        n_features: d.
        hidden: m.
    """

    def __init__(self, n_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.n_out = n_features
        self.reduce = nn.Linear(n_features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` is (B, n) bool, true where a feature counts; None when all do."""
        return _mean(_weights(self.score(torch.tanh(self.reduce(features))).squeeze(2), valid), features)


class MeanPooling(nn.Module):
    """The plain mean, for comparison: (B, n, d) float32 to (B, d)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_out = n_features

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` is (B, n) bool, true where a feature counts; None when all do."""
        return _mean(_weights(torch.zeros_like(features[:, :, 0]), valid), features)


Attention = SelfAttention | RelationAttention | TransformerAttention | MeanPooling
KINDS = ("self", "relation", "transformer", "mean")


def attention(kind: str, n_features: int, *, hidden: int = 128) -> Attention:
    """The attention of a name; `hidden` is m of the transformer attention, which alone has it.

    Raises:
        ValueError: If there is none of that name.
    """
    if kind == "transformer":
        return TransformerAttention(n_features, hidden)
    plain: dict[str, type[SelfAttention | RelationAttention | MeanPooling]] = {
        "self": SelfAttention,
        "relation": RelationAttention,
        "mean": MeanPooling,
    }
    if kind not in plain:
        raise ValueError(f"expected an attention of {', '.join(KINDS)}, got {kind!r}")
    return plain[kind](n_features)
