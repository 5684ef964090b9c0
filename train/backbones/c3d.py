"""C3D (Tran et al., 2015, "Learning Spatiotemporal Features with 3D Convolutional Networks").

Section 3.3 and Figure 3: eight 3 x 3 x 3 convolutions, five max pools of which the first leaves time alone, two
fully connected layers of 4096, one for the labels; 16 frames of 112 x 112. No batch normalisation.

Dimension letters: B batch, K input channels, N frames, S picture side in pixels, L labels.

On purpose different from the text: weights begin as He et al. (2015) draw them; inputs are scaled to [-1, 1] and no
mean clip is subtracted. Modules bear the names of the figure. The fifth pool pads height and width by one, as the
authors' network does (its first fully connected layer has 8192 inputs). With 101 labels the network has the 78.4
million parameters often quoted, with the 487 of Sports-1M it has 79 991 015.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = {
    "conv1a": 64,
    "conv2a": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}
HIDDEN = 4096
N_FRAMES, CROP_PX = 16, 112


class C3d(nn.Module):
    """Clip to logits: (B, K, N, S, S) float32 to (B, L).

    Args:
        n_labels: L.
        n_channels: K.
        n_frames: N, 16 or more.
        crop_px: S, 16 or more.
        narrow: Every width is divided by it (a power of two up to 16); 1 is the published network.
        dropout: Rate after the two hidden layers.

    Raises:
        ValueError: If a size is too small, or `narrow` is none of these.
    """

    def __init__(
        self,
        n_labels: int,
        *,
        n_channels: int = 3,
        n_frames: int = N_FRAMES,
        crop_px: int = CROP_PX,
        narrow: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if n_frames < 16 or crop_px < 16:
            raise ValueError(f"expected 16 frames of 16 px or more, got {n_frames} of {crop_px} px")
        if narrow not in (1, 2, 4, 8, 16):
            raise ValueError(f"narrow: expected 1, 2, 4, 8 or 16, got {narrow}")
        width = n_channels
        for name, full in WIDTHS.items():
            self.add_module(name, nn.Conv3d(width, full // narrow, 3, padding=1))
            width = full // narrow
        self.n_flat = width * (n_frames // 16) * (crop_px // 32 + 1) ** 2
        hidden = HIDDEN // narrow
        self.fc6, self.fc7 = nn.Linear(self.n_flat, hidden), nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, n_labels)
        self.dropout = nn.Dropout(dropout)
        self.apply(_initialise)

    def stages(self, clip: Tensor) -> dict[str, Tensor]:
        """What each of the five pools gives: (B, K, N, S, S) to (B, C, N / 2**(i-1), S / 2**i, S / 2**i)."""
        x, given = clip, {}
        for name in WIDTHS:
            x = F.relu(self.get_submodule(name)(x))
            if name not in ("conv3a", "conv4a", "conv5a"):
                x = given[f"pool{name[4]}"] = _pool(x, int(name[4]))
        return given

    def features(self, clip: Tensor) -> Tensor:
        """fc6 after its ReLU, the descriptor of section 3.4: (B, K, N, S, S) to (B, 4096)."""
        return F.relu(self.fc6(torch.flatten(self.stages(clip)["pool5"], 1)))

    def forward(self, clip: Tensor) -> Tensor:
        hidden = F.relu(self.fc7(self.dropout(self.features(clip))))
        return self.fc8(self.dropout(hidden))


def _pool(x: Tensor, number: int) -> Tensor:
    if number == 1:
        return F.max_pool3d(x, (1, 2, 2))
    return F.max_pool3d(x, 2, padding=(0, 1, 1) if number == 5 else 0)


def _initialise(module: nn.Module) -> None:
    # Eleven layers without normalisation: torch's own draw loses a factor of about 2.4 in each.
    if isinstance(module, nn.Conv3d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
