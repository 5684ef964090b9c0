"""VGGish (Hershey et al., ICASSP 2017), the audio features of the three-stream recogniser (its section 2.1).

Section 3.2 of Hershey et al. has a VGG (configuration A) for audio; what was released as VGGish is that without its
last group of convolutions, with a 128-wide layer at the end: six 3 x 3 convolutions in four groups, each group ended
by 2 x 2 pooling, then fully connected layers of 4096, 4096 and 128.

Dimension letters: B batch, P patches of a waveform, C channels, D features of a patch.

On purpose as in the release:
- The map is flattened with its channels last, as the released weights expect it.
- The last layer has no ReLU. Some ports add one; the released network gives the value before it.

Left out: the whitening and 8-bit rounding that the AudioSet features went through; they need its released matrix.
Names and shapes of the parameters are those of the common port to torch, so that its file loads as it is.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from train.frontends.vggish_patches import N_BANDS, PATCH_FRAMES, VggishPatches


@dataclass(frozen=True, kw_only=True)
class VggishConfig:
    """Sizes of the network; the defaults are the released ones.

    Attributes:
        groups: Output channels of the convolutions, group by group.
        hidden: Widths of the hidden fully connected layers.
        n_features: D.
        hop_frames: Frames of 10 ms between the starts of patches.

    Raises:
        ValueError: If a size is not positive, or pooling after each group does not divide the patch.
    """

    groups: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512))
    hidden: tuple[int, ...] = (4096, 4096)
    n_features: int = 128
    hop_frames: int = PATCH_FRAMES

    def __post_init__(self) -> None:
        sizes = [size for group in self.groups for size in group] + [*self.hidden, self.n_features, self.hop_frames]
        if not self.groups or not all(self.groups) or min(sizes) < 1:
            raise ValueError(f"expected groups of convolutions and positive sizes, got {self}")
        if PATCH_FRAMES % 2 ** len(self.groups):
            raise ValueError(f"expected at most 5 groups, which halve 96 frames to 3, got {len(self.groups)}")

    @property
    def n_flat(self) -> int:
        """Values of the last map of one patch."""
        shrunk: int = 2 ** len(self.groups)
        return (PATCH_FRAMES // shrunk) * (N_BANDS // shrunk) * self.groups[-1][-1]


class Vggish(nn.Module):
    """Waveform to the features of its patches: (B, n_samples) float32 at 16 kHz to (B, P, D)."""

    def __init__(self, config: VggishConfig) -> None:
        super().__init__()
        self.config = config
        self.n_features = config.n_features
        self.frontend = VggishPatches(hop_frames=config.hop_frames)
        self.features = _convolutions(config)
        widths = (config.n_flat, *config.hidden, config.n_features)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.embeddings = nn.Sequential(*layers[:-1])

    def encode(self, patches: Tensor) -> Tensor:
        """Features of patches: (B, P, 96, 64) to (B, P, D)."""
        n_patches = patches.shape[1]
        maps = self.features(patches.reshape(-1, 1, PATCH_FRAMES, N_BANDS))  # (B*P, C, 6, 4) in the released sizes
        flat = maps.permute(0, 2, 3, 1).reshape(-1, n_patches, self.config.n_flat)
        return self.embeddings(flat)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encode(self.frontend(waveform))


def _convolutions(config: VggishConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 1
    for group in config.groups:
        for width in group:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
