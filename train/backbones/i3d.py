"""I3D: Inception-V1 inflated to three dimensions (Carreira and Zisserman, 2017, "Quo Vadis, Action Recognition?").

Section 2.4 and Figure 3: every k x k filter of Inception-V1 becomes k x k x k, batch normalisation and ReLU follow
each convolution but the last, and the first two max pools leave time alone. Padding is TensorFlow's SAME.

Dimension letters: B batch, K input channels (3 RGB, 2 flow), N frames, S picture side in pixels, C channels, L labels.

Modules bear the names of the public PyTorch port (`Mixed_3b.b1a.conv3d.weight`), so that its weights load.

On purpose different from the text: the 2 x 7 x 7 average pool takes whatever height and width are left (7 x 7 at
S = 224), and its time extent is 1 where a single step is left, so that smaller pictures and shorter clips pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_FRAMES = 79  # of the paper's protocol, for RGB and flow alike
FLOW_LIMIT_PX = 20.0  # a displacement beyond it is cut, as Kinetics' flow was made
Extent = tuple[int, int, int]  # time, height, width

# Branch 0; branch 1: 1x1x1 then 3x3x3; branch 2: 1x1x1 then 3x3x3; branch 3 after its pool (Figure 3, right).
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLS: dict[str, tuple[Extent, Extent]] = {  # before the stage named: kernel and stride
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class RgbClip(nn.Module):
    """Pictures to the range of I3D's RGB stream: (B, N, S, S, 3) uint8 to (B, 3, N, S, S) float32 in [-1, 1]."""

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.to(torch.float32) * (2.0 / 255.0) - 1.0).permute(0, 4, 1, 2, 3)


class FlowClip(nn.Module):
    """Flow to the range of I3D's flow stream.

    In: (B, N, S, S, 2) float32, displacement x, y in pixels a frame. Out: (B, 2, N, S, S) in [-1, 1], cut at 20 px.
    """

    def forward(self, flow: Tensor) -> Tensor:
        return (flow.clamp(-FLOW_LIMIT_PX, FLOW_LIMIT_PX) / FLOW_LIMIT_PX).permute(0, 4, 1, 2, 3)


def pad_same(x: Tensor, kernel: Extent, stride: Extent) -> Tensor:
    """Zeros around (B, C, N, h, w) so that a window leaves ceil(size / stride); an odd zero goes at the end.

    Zeros are right before the max pools too: all of them follow a ReLU.
    """
    padding: list[int] = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):  # F.pad begins at the last axis
        total = max(k - (s if size % s == 0 else size % s), 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding) if any(padding) else x


class Unit(nn.Module):
    """Convolution with SAME padding, batch normalisation, ReLU: (B, c_in, N, h, w) to (B, c_out, N/s, h/s, w/s)."""

    def __init__(self, c_in: int, c_out: int, extent: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.extent, self.stride = (extent,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(c_in, c_out, extent, stride, bias=False)
        self.bn = nn.BatchNorm3d(c_out, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(pad_same(x, self.extent, self.stride))))


class SamePool(nn.Module):
    """Max pool with SAME padding over values that are nowhere negative."""

    def __init__(self, kernel: Extent, stride: Extent) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Inception(nn.Module):
    """Four parallel branches, concatenated: (B, c_in, N, h, w) to (B, sum of four, N, h, w)."""

    def __init__(self, c_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        only, reduce1, full1, reduce2, full2, pooled = widths
        self.b0 = Unit(c_in, only)
        self.b1a, self.b1b = Unit(c_in, reduce1), Unit(reduce1, full1, 3)
        self.b2a, self.b2b = Unit(c_in, reduce2), Unit(reduce2, full2, 3)
        self.b3a, self.b3b = SamePool((3, 3, 3), (1, 1, 1)), Unit(c_in, pooled)
        self.n_channels = only + full1 + full2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, 1)


class Logits(nn.Module):
    """The last convolution, 1 x 1 x 1 with a bias and nothing after it; a module for the port's name of its weight."""

    def __init__(self, c_in: int, n_labels: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(c_in, n_labels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3d(nn.Module):
    """Clip to logits: (B, K, N, S, S) float32 in [-1, 1] to (B, L).

    Args:
        n_labels: L.
        n_channels: K, 3 for RGB and 2 for flow.
        narrow: Every width is divided by it (1, 2, 4 or 8); 1 is the published network.
        dropout: Rate before the last convolution.

    Raises:
        ValueError: If `narrow` is none of these.
    """

    def __init__(self, n_labels: int, *, n_channels: int = 3, narrow: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        if narrow not in (1, 2, 4, 8):
            raise ValueError(f"narrow: expected 1, 2, 4 or 8, got {narrow}")
        stem, width = 64 // narrow, 192 // narrow
        self._stages: dict[str, str | None] = {}  # a stage's name to that of the pool before it
        self._append("Conv3d_1a_7x7", Unit(n_channels, stem, 7, 2))
        self._append("Conv3d_2b_1x1", Unit(stem, stem))
        self._append("Conv3d_2c_3x3", Unit(stem, width, 3))
        for name, widths in MIXED.items():
            mixed = Inception(width, [w // narrow for w in widths])
            self._append(name, mixed)
            width = mixed.n_channels
        self.n_features = width
        self.dropout = nn.Dropout(dropout)
        self.logits = Logits(width, n_labels)

    def _append(self, name: str, stage: nn.Module) -> None:
        pool = f"pool_before_{name}" if name in POOLS else None
        if pool is not None:
            self.add_module(pool, SamePool(*POOLS[name]))
        self.add_module(name, stage)
        self._stages[name] = pool

    def stages(self, clip: Tensor) -> dict[str, Tensor]:
        """What each stage gives, by name: (B, K, N, S, S) to (B, C, N', h, w) each, in order."""
        x, given = clip, {}
        for name, pool in self._stages.items():
            if pool is not None:
                x = self.get_submodule(pool)(x)
            x = given[name] = self.get_submodule(name)(x)
        return given

    def features(self, clip: Tensor) -> Tensor:
        """The average pool's steps of time: (B, K, N, S, S) to (B, n_features, N''), N'' = 9 for 79 frames."""
        pooled = self.stages(clip)["Mixed_5c"].mean((3, 4))
        return F.avg_pool1d(pooled, 2, 1) if pooled.shape[2] > 1 else pooled

    def forward(self, clip: Tensor) -> Tensor:
        steps = self.dropout(self.features(clip)).unsqueeze(3).unsqueeze(4)  # (B, C, N'', 1, 1)
        return self.logits(steps).mean((2, 3, 4))
