"""Multi-modality fusion for emotion recognition in videos (Peng et al., MiGA at IJCAI 2023).

Section 2.1: T frame features of Swin-T, VGGish and BlazePose. Section 2.2 and Fig. 1: in each stream a transformer
encoder layer, then NeXtVLAD; the streams' vectors are concatenated (equation 1) and gated by an SE block (2-4).
Section 2.3: an MLP on 512 values gives the labels.

Dimension letters: B batch, T steps, N values of a step, D width of a stream's encoder, K clusters, U = 512 fused
values, L labels.

What the text leaves open, and its contradictions:
- 99 pose values divide neither by 4 heads nor, expanded by 2, by 8 groups: a linear layer takes them to 128 first. The
  other streams keep their 768 and 128.
- One encoder layer as Vaswani et al. have it: sinusoidal positions, norm after each shortcut, inner width 4D, ReLU.
- Expansion 2 in NeXtVLAD, as its authors have it. The gate's W_2 divides by 16 and is undone by W_3, as in SE.
- Equation 4's "dot product" is taken value by value: the MLP needs 512 values. Equation 3 normalises after the ReLU,
  and so does this. Biases are where the equations have them: nowhere in the gate.
- The MLP has one hidden layer of 512; its dropout is ours.
- Table 1's row "NeXtVLAD" is not described; read as this model without encoder and without gate (F_1 alone).
- SentiBank and E-MDBM in Table 1 are other authors' systems, quoted by the paper: `TABLE` has no configuration of them.
- How a video's frames and 0.96 s patches become T = 100 steps is the loader's; any T passes here.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from train.layers.nextvlad import NextVlad

LABELS = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
N_STEPS = 100  # T

Stream = Literal["visual", "audio", "skeleton"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
N_VALUES: dict[Stream, int] = {"visual": 768, "audio": 128, "skeleton": 99}  # N, section 2.1
WIDTHS: dict[Stream, int] = {"visual": 768, "audio": 128, "skeleton": 128}  # D


@dataclass(frozen=True, kw_only=True)
class SkeletonConfig:
    """Parts and sizes of the model; the defaults are the published ones.

    Attributes:
        streams: Those present, in the order of `STREAMS`.
        n_labels: L.
        n_layers: Encoder layers of each stream; 0 gives the features to NeXtVLAD as they are.
        n_heads: Of the encoders' attention.
        n_groups: Of NeXtVLAD.
        n_clusters: K, the paper's alpha.
        expansion: lambda of NeXtVLAD.
        fusion: "gate" is equations 2-4; "concatenation" stops at F_1, equation 2.
        n_fused: U.
        reduction: U over the gate's inner width.
        dropout: Rate in the encoders.
        head_dropout: Rate in the MLP.

    Raises:
        ValueError: If streams are missing, unknown or in another order, a size is out of range, or one does not
            divide what it must.
    """

    streams: tuple[Stream, ...] = STREAMS
    n_labels: int = len(LABELS)
    n_layers: int = 1
    n_heads: int = 4
    n_groups: int = 8
    n_clusters: int = 4
    expansion: int = 2
    fusion: Literal["gate", "concatenation"] = "gate"
    n_fused: int = 512
    reduction: int = 16
    dropout: float = 0.1
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        if not self.streams or self.streams != tuple(name for name in STREAMS if name in self.streams):
            raise ValueError(f"expected some of {STREAMS} in this order, got {self.streams}")
        if self.fusion not in ("gate", "concatenation"):
            raise ValueError(f"expected fusion 'gate' or 'concatenation', got {self.fusion!r}")
        positive = (self.n_labels, self.n_heads, self.n_groups, self.n_clusters, self.expansion, self.reduction)
        if min(positive) < 1 or self.n_layers < 0 or self.n_fused < 1:
            raise ValueError(f"expected positive sizes, and 0 or more layers, got {self}")
        if not (0.0 <= self.dropout < 1.0 and 0.0 <= self.head_dropout < 1.0):
            raise ValueError(f"expected dropout rates in [0, 1), got {self.dropout} and {self.head_dropout}")
        if self.n_fused % self.reduction:
            raise ValueError(f"expected a reduction that divides {self.n_fused}, got {self.reduction}")
        for name in self.streams:
            if WIDTHS[name] % self.n_heads or WIDTHS[name] * self.expansion % self.n_groups:
                raise ValueError(
                    f"{name}: expected heads that divide {WIDTHS[name]} and groups that divide "
                    f"{WIDTHS[name] * self.expansion}, got {self.n_heads} and {self.n_groups}"
                )


class Row(NamedTuple):
    """A published row: its table and name, our configuration (None: another system, quoted), accuracy in percent."""

    table: str
    name: str
    config: SkeletonConfig | None
    accuracy: float


PUBLISHED = SkeletonConfig()
TABLE: tuple[Row, ...] = (
    Row("Table 1", "SentiBank", None, 35.5),
    Row("Table 1", "E-MDBM", None, 40.4),
    Row("Table 1", "NeXtVLAD", SkeletonConfig(n_layers=0, fusion="concatenation"), 30.2),
    Row("Table 1", "Ours", PUBLISHED, 43.2),
    Row("Table 2", "w/o visual branch", SkeletonConfig(streams=("audio", "skeleton")), 37.4),
    Row("Table 2", "w/o audio branch", SkeletonConfig(streams=("visual", "skeleton")), 39.9),
    Row("Table 2", "w/o skeleton branch", SkeletonConfig(streams=("visual", "audio")), 38.5),
    Row("Table 2", "Ours", PUBLISHED, 43.2),
    Row("Table 3", "alpha = 2", SkeletonConfig(n_clusters=2), 42.5),
    Row("Table 3", "alpha = 4", SkeletonConfig(n_clusters=4), 43.2),
    Row("Table 3", "alpha = 8", SkeletonConfig(n_clusters=8), 42.8),
    Row("Table 3", "alpha = 16", SkeletonConfig(n_clusters=16), 41.3),
)


def positions(n_steps: int, width: int) -> Tensor:
    """Sines at even and cosines at odd values (Vaswani et al., 2017, 3.5): (n_steps, width) float32, width even."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(n_steps).unsqueeze(1) * rates
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


class EncoderLayer(nn.Module):
    """Multi-head self-attention and feed-forward layer, a norm after each shortcut: (B, T, D) to the same."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def attend(self, x: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(D / heads)) V, heads joined by a linear layer."""
        _, t, width = x.shape
        split = self.qkv(x).reshape(-1, t, 3, self.n_heads, width // self.n_heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, D/heads)
        shares = (torch.matmul(q, k.transpose(2, 3)) * (width // self.n_heads) ** -0.5).softmax(-1)
        return self.out(torch.matmul(self.dropout(shares), v).transpose(1, 2).reshape(-1, t, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attend(x)))
        return self.norm2(x + self.dropout(self.outer(self.dropout(self.inner(x).relu()))))


class StreamEncoder(nn.Module):
    """One stream's steps to its aggregate: (B, T, N) to (B, K*D*lambda/G)."""

    def __init__(self, name: Stream, config: SkeletonConfig) -> None:
        super().__init__()
        n_in, width = N_VALUES[name], WIDTHS[name]
        self.project = nn.Identity() if n_in == width else nn.Linear(n_in, width)
        self.layers = nn.ModuleList(EncoderLayer(width, config.n_heads, config.dropout) for _ in range(config.n_layers))
        self.vlad = NextVlad(width, n_groups=config.n_groups, n_clusters=config.n_clusters, expansion=config.expansion)

    def encode(self, steps: Tensor) -> Tensor:
        """Steps related to each other: (B, T, N) to (B, T, D)."""
        x = self.project(steps)
        if self.layers:
            x = x + positions(x.shape[1], x.shape[2]).to(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, steps: Tensor) -> Tensor:
        return self.vlad(self.encode(steps))


class Reduction(nn.Module):
    """Equation 2, F_1 = ReLU(BN(W_1 F)): (B, n_in) to (B, U)."""

    def __init__(self, n_in: int, n_fused: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(n_in, n_fused, bias=False)
        self.norm = nn.BatchNorm1d(n_fused)

    def forward(self, joined: Tensor) -> Tensor:
        return self.norm(self.w1(joined)).relu()


class Gate(nn.Module):
    """Equations 3 and 4, F_1 times F_2 = sigmoid(W_3 BN(ReLU(W_2 F_1))): (B, U) to the same."""

    def __init__(self, n_fused: int, reduction: int) -> None:
        super().__init__()
        self.w2 = nn.Linear(n_fused, n_fused // reduction, bias=False)
        self.norm = nn.BatchNorm1d(n_fused // reduction)
        self.w3 = nn.Linear(n_fused // reduction, n_fused, bias=False)

    def forward(self, f1: Tensor) -> Tensor:
        return f1 * torch.sigmoid(self.w3(self.norm(self.w2(f1).relu())))


class SkeletonNextVlad(nn.Module):
    """Steps of each stream to logits (Fig. 1): (B, T, N) float32 for each of `config.streams`, in order, to (B, L)."""

    def __init__(self, config: SkeletonConfig) -> None:
        super().__init__()
        self.config = config
        self.streams = nn.ModuleDict({name: StreamEncoder(name, config) for name in config.streams})
        n_joined = sum(
            config.n_clusters * WIDTHS[name] * config.expansion // config.n_groups for name in config.streams
        )
        self.reduce = Reduction(n_joined, config.n_fused)
        gated = config.fusion == "gate"
        self.gate: nn.Module = Gate(config.n_fused, config.reduction) if gated else nn.Identity()
        self.mlp = nn.Sequential(
            nn.Linear(config.n_fused, config.n_fused),
            nn.ReLU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.n_fused, config.n_labels),
        )

    def fuse(self, steps: tuple[Tensor, ...]) -> Tensor:
        """The fused vector of equation 4: (B, T, N) for each stream to (B, U).

        Raises:
            ValueError: If there are more or fewer of them than streams, or one has another width.
        """
        if len(steps) != len(self.config.streams):
            raise ValueError(f"expected features of {self.config.streams}, got {len(steps)}")
        for name, features in zip(self.config.streams, steps, strict=True):
            if features.shape[2] != N_VALUES[name]:
                raise ValueError(f"{name}: expected {N_VALUES[name]} values a step, got {features.shape[2]}")
        parts = [stream(x) for stream, x in zip(self.streams.values(), steps, strict=True)]
        return self.gate(self.reduce(torch.cat(parts, 1)))  # equation 1 is the concatenation

    def forward(self, *steps: Tensor) -> Tensor:
        return self.mlp(self.fuse(steps))
