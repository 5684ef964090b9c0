"""Swin Transformer (Liu et al., ICCV 2021), the frame features of the three-stream recogniser (its section 2.1).

Section 3.1: patches of 4 pixels, four stages of blocks, between them patch merging that halves the side and doubles
the width. Section 3.2: attention inside windows of M x M tokens, every second block with the grid of windows moved by
M // 2, a learned bias for each relative position (equation 4).

Dimension letters: B batch, S crop side in pixels, h and w tokens down and across, M window side in tokens,
W windows, C width of a stage, H heads, L labels of the classifier.

On purpose different from the text:
- Moved windows are cut by a cyclic shift with a mask of -100, as the authors' code has it; the test does without.
- No stochastic depth: it belongs to training on ImageNet, and here the network gives features.
- The input is a uint8 crop, scaled by the mean and deviation of ImageNet inside the graph.

Names and shapes of the parameters are those of the authors' checkpoints, so that such a file loads as it is; of its
entries only `relative_position_index` and `attn_mask` are left over, which are computed here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Sizes of the network; the defaults are Swin-T (section 3.3).

    Attributes:
        crop_px: S; S / patch_px, halved at each further stage, must hold whole windows.
        patch_px: Side of a patch.
        width: C of the first stage.
        depths: Blocks in each stage.
        heads: H of each stage.
        window: M.
        n_labels: L of the classifier; 0 leaves it out, and features come out.

    Raises:
        ValueError: If a width is not divisible by its heads, or a grid not by the window.
    """

    crop_px: int = 224
    patch_px: int = 4
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    n_labels: int = 0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads):
            raise ValueError(f"expected as many heads as depths, got {len(self.heads)} and {len(self.depths)}")
        for stage, heads in enumerate(self.heads):
            if self.widths[stage] % heads:
                raise ValueError(f"stage {stage}: expected a width divisible by {heads}, got {self.widths[stage]}")
            step_px = self.patch_px * 2**stage * self.window
            if self.crop_px % step_px:
                raise ValueError(f"stage {stage}: expected a crop of a multiple of {step_px} px, got {self.crop_px}")

    @property
    def widths(self) -> tuple[int, ...]:
        """C of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    def side(self, stage: int) -> int:
        """h = w of a stage, in tokens."""
        return self.crop_px // self.patch_px // 2**stage


class ImageNetScale(nn.Module):
    """RGB crops to standardised planes: (B, S, S, 3) uint8 to (B, 3, S, S) float32."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255.0 * torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("deviation", 255.0 * torch.tensor(IMAGENET_DEVIATION), persistent=False)

    def forward(self, crop: Tensor) -> Tensor:
        return ((crop.to(torch.float32) - self.mean) / self.deviation).permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Attention within each window, softmax(q k^T / sqrt(d) + bias) v (equation 4): (B, W, M*M, C) to the same."""

    index: Tensor

    def __init__(self, c: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (c // heads) ** -0.5
        self.qkv = nn.Linear(c, 3 * c)
        self.proj = nn.Linear(c, c)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = at[:, None] - at[None] + window - 1  # (M*M, M*M, 2), each from 0 to 2M - 2
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n_windows, n, c = x.shape
        split = self.qkv(x).reshape(b, n_windows, n, 3, self.heads, c // self.heads)
        q, k, v = split.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (B, W, H, M*M, C/H)
        scores = torch.matmul(q * self.scale, k.transpose(-1, -2))
        scores = scores + self.relative_position_bias_table[self.index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask.unsqueeze(1)  # (W, 1, M*M, M*M): the same for every head
        mixed = torch.matmul(scores.softmax(-1), v).transpose(2, 3)
        return self.proj(mixed.reshape(b, n_windows, n, c))


class Mlp(nn.Module):
    """Two linear layers with GELU between, four times as wide: (..., C) to the same."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class SwinBlock(nn.Module):
    """One block (equation 3): window attention and MLP, each after a norm and with a shortcut, (B, h, w, C)."""

    mask: Tensor | None

    def __init__(self, c: int, heads: int, *, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm1 = nn.LayerNorm(c)
        self.attn = WindowAttention(c, heads, window)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = Mlp(c)
        self.register_buffer("mask", _shift_mask(side, window, shift) if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self._join(self.attn(_cut(y, self.window), self.mask))
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))

    def _join(self, windows: Tensor) -> Tensor:
        n, m, c = self.side // self.window, self.window, windows.shape[-1]
        return windows.reshape(-1, n, n, m, m, c).transpose(2, 3).reshape(-1, self.side, self.side, c)


def _cut(x: Tensor, window: int) -> Tensor:
    """Windows row by row: (B, h, w, C) to (B, W, M*M, C)."""
    _, h, w, c = x.shape
    parts = x.reshape(-1, h // window, window, w // window, window, c).transpose(2, 3)
    return parts.reshape(-1, (h // window) * (w // window), window * window, c)


def _shift_mask(side: int, window: int, shift: int) -> Tensor:
    """-100 between tokens that only the cyclic shift brought into one window, else 0: (W, M*M, M*M)."""
    line = torch.zeros(side)
    line[side - window : side - shift] = 1
    line[side - shift :] = 2
    region = (3 * line[:, None] + line[None]).reshape(1, side, side, 1)
    windows = _cut(region, window)[0, :, :, 0]
    return torch.where(windows[:, :, None] == windows[:, None], 0.0, -100.0)


class PatchEmbedding(nn.Module):
    """Patches to normalised tokens: (B, 3, S, S) to (B, h, w, C)."""

    def __init__(self, c: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, c, patch_px, patch_px)
        self.norm = nn.LayerNorm(c)

    def forward(self, planes: Tensor) -> Tensor:
        return self.norm(self.proj(planes).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Four neighbours to one token: (B, h, w, C) to (B, h/2, w/2, 2C)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * c, 2 * c, bias=False)
        self.norm = nn.LayerNorm(4 * c)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Stage(nn.Module):
    """Blocks at one resolution, then patch merging unless it is the last stage."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        c, side = config.widths[stage], config.side(stage)
        # Where one window covers the grid there is nothing to move, which is so in Swin-T's last stage.
        shift = config.window // 2 if side > config.window else 0
        self.blocks = nn.ModuleList(
            SwinBlock(c, config.heads[stage], side=side, window=config.window, shift=shift * (k % 2))
            for k in range(config.depths[stage])
        )
        self.downsample = PatchMerging(c) if stage + 1 < len(config.depths) else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """Crop to features, (B, S, S, 3) uint8 to (B, 8C), or to logits (B, L) where the configuration has labels."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.n_features = config.widths[-1]
        self.frontend = ImageNetScale()
        self.patch_embed = PatchEmbedding(config.width, config.patch_px)
        self.layers = nn.ModuleList(Stage(config, stage) for stage in range(len(config.depths)))
        self.norm = nn.LayerNorm(self.n_features)
        self.head = nn.Linear(self.n_features, config.n_labels) if config.n_labels else nn.Identity()
        self.apply(_initialise)

    def encode(self, planes: Tensor) -> Tensor:
        """Features of standardised planes, the mean over the last grid: (B, 3, S, S) to (B, 8C)."""
        x = self.patch_embed(planes)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).mean((1, 2))

    def forward(self, crop: Tensor) -> Tensor:
        return self.head(self.encode(self.frontend(crop)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
