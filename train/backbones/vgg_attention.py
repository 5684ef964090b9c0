"""VGG16 with attention after chosen blocks, the audio branch of ICANet (Wu et al., section III-B-2, Fig. 4, Fig. 5).

VGG16: Simonyan and Zisserman (2014), configuration D. A block is its 3 x 3 convolutions and the max pool that follows
them ("to form a block", section III-B-2); attention comes after the pool.

Attention:
- `se`: squeeze and excitation (Hu et al., 2018), equations 2-4.
- `cbam`: convolutional block attention (Woo et al., 2018), equations 1-3.
- `coordinate`: coordinate attention (Hou et al., 2021), equations 4-9.

Dimension letters: B batch, C channels, h, w height and width of a map, S picture side in pixels, L labels, R reduced
channels of an attention.

On purpose different from the text, or left open by it:
- Fig. 5's SE and CBAM variants: the positions are not said; any are possible here, blocks 1, 4, 5 are ICANet's.
- Reductions are those of the attentions' own papers: 16, 16 and 32, with R at least 4, 4 and 8. SE's and CBAM's
  layers have no biases, as in their equations; nor has the convolution that coordinate attention normalises after.
- Weights begin as He et al. (2015) draw them, since VGG16 has no normalisation.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = (2, 2, 3, 3, 3)  # convolutions in each block
Attention = Literal["none", "se", "cbam", "coordinate"]


class SqueezeExcitation(nn.Module):
    """One weight for each channel from the channels' means: (B, C, h, w) to (B, C, h, w)."""

    def __init__(self, n_channels: int, reduction: int = 16) -> None:
        super().__init__()
        reduced = max(n_channels // reduction, 4)
        self.down = nn.Linear(n_channels, reduced, bias=False)
        self.up = nn.Linear(reduced, n_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3))  # eq. 2, (B, C)
        gate = torch.sigmoid(self.up(F.relu(self.down(squeezed))))  # eq. 3
        return x * gate.unsqueeze(2).unsqueeze(3)  # eq. 4


class Cbam(nn.Module):
    """Channel attention, then spatial attention: (B, C, h, w) to (B, C, h, w)."""

    def __init__(self, n_channels: int, reduction: int = 16, extent: int = 7) -> None:
        super().__init__()
        reduced = max(n_channels // reduction, 4)
        self.down = nn.Linear(n_channels, reduced, bias=False)
        self.up = nn.Linear(reduced, n_channels, bias=False)
        self.spatial = nn.Conv2d(2, 1, extent, padding=extent // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, peak = F.relu(self.down(x.mean((2, 3)))), F.relu(self.down(x.amax((2, 3))))  # (B, R)
        channel = torch.sigmoid(self.up(mean) + self.up(peak))  # eq. 2, (B, C)
        x = x * channel.unsqueeze(2).unsqueeze(3)  # eq. 1, first line
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)  # (B, 2, h, w)
        return x * torch.sigmoid(self.spatial(maps))  # eq. 3, and eq. 1, second line


class CoordinateAttention(nn.Module):
    """A weight for each row and one for each column of every channel: (B, C, h, w) to (B, C, h, w)."""

    def __init__(self, n_channels: int, reduction: int = 32) -> None:
        super().__init__()
        reduced = max(n_channels // reduction, 8)
        self.joint = nn.Conv1d(n_channels, reduced, 1, bias=False)
        self.norm = nn.BatchNorm1d(reduced)
        self.rows = nn.Conv1d(reduced, n_channels, 1)
        self.columns = nn.Conv1d(reduced, n_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat([x.mean(3), x.mean(2)], 2)  # eq. 4 and 5, (B, C, h + w)
        f = F.hardswish(self.norm(self.joint(strips)))  # eq. 6, (B, R, h + w)
        along_h, along_w = f.split([h, w], 2)
        row = torch.sigmoid(self.rows(along_h)).unsqueeze(3)  # eq. 7, (B, C, h, 1)
        column = torch.sigmoid(self.columns(along_w)).unsqueeze(2)  # eq. 8, (B, C, 1, w)
        return x * row * column  # eq. 9


_ATTENTIONS = {"se": SqueezeExcitation, "cbam": Cbam, "coordinate": CoordinateAttention}


@dataclass(frozen=True, kw_only=True)
class VggConfig:
    """Sizes of VGG16 and its attention.

    Attributes:
        attention: Kind of attention.
        after_blocks: The blocks that it follows, 1 to 5, in order; empty for `none` alone.
        picture_px: S, a multiple of 32.
        widths: Channels of the five blocks.
        hidden: Width of the two hidden fully connected layers.
        dropout: Rate after each of these.

    Raises:
        ValueError: If these do not fit each other.
    """

    attention: Attention = "coordinate"
    after_blocks: tuple[int, ...] = (1, 4, 5)
    picture_px: int = 224
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.attention not in ("none", *_ATTENTIONS):
            raise ValueError(f"attention: expected none, {', '.join(_ATTENTIONS)}, got {self.attention}")
        if (self.attention == "none") != (self.after_blocks == ()):
            raise ValueError(f"attention {self.attention} does not go with after_blocks {self.after_blocks}")
        if list(self.after_blocks) != sorted(set(self.after_blocks) & set(range(1, 6))):
            raise ValueError(f"after_blocks: expected some of 1 to 5, ascending, got {self.after_blocks}")
        if self.picture_px < 32 or self.picture_px % 32:
            raise ValueError(f"picture_px: expected a multiple of 32, got {self.picture_px}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout: expected 0 to below 1, got {self.dropout}")


class Vgg16(nn.Module):
    """Picture to logits: (B, 3, S, S) float32 to (B, L)."""

    def __init__(self, n_labels: int, config: VggConfig) -> None:
        super().__init__()
        blocks, c_in = [], 3
        for number, (depth, width) in enumerate(zip(DEPTHS, config.widths, strict=True), start=1):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
                c_in = width
            layers.append(nn.MaxPool2d(2))
            if number in config.after_blocks:
                layers.append(_ATTENTIONS[config.attention](width))
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.n_flat = c_in * (config.picture_px // 32) ** 2
        self.hidden1 = nn.Linear(self.n_flat, config.hidden)
        self.hidden2 = nn.Linear(config.hidden, config.hidden)
        self.head = nn.Linear(config.hidden, n_labels)
        self.dropout = nn.Dropout(config.dropout)
        self.apply(_initialise)

    def stages(self, picture: Tensor) -> list[Tensor]:
        """What each block gives: (B, 3, S, S) to five of (B, C, S / 2**i, S / 2**i)."""
        given = []
        for block in self.blocks:
            picture = block(picture)
            given.append(picture)
        return given

    def features(self, picture: Tensor) -> Tensor:
        """The second hidden layer: (B, 3, S, S) to (B, hidden)."""
        x = torch.flatten(self.stages(picture)[-1], 1)
        x = self.dropout(F.relu(self.hidden1(x)))
        return self.dropout(F.relu(self.hidden2(x)))

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(self.features(picture))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
