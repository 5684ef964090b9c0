"""AlexNet (Krizhevsky, 2014, "One weird trick for parallelizing convolutional neural networks").

The one-column network without local response normalisation, whose weights for 1000 classes are published:
61,100,840 parameters. `AlexNetMaps` is its convolutional part alone, which takes pictures of any size: Zhou et al.
(2019), section 2, run it over a spectrogram and take each position of the last pooling's map as one feature vector.

Dimension letters: B batch, S side of the picture in pixels, H x W positions of the last map, C channels of it.

Parameters bear the names that published weights bear. `width` narrows every layer; 64 is the published one.
"""

from torch import Tensor, nn

from train.backbones.resnet import start

LEAST_PX = 63  # a shorter side vanishes in the last pooling


def map_side(size: int) -> int:
    """Positions that the last pooling leaves of a side of `size` pixels.

    Raises:
        ValueError: If it leaves none.
    """
    if size < LEAST_PX:
        raise ValueError(f"expected a side of at least {LEAST_PX}, got {size}: AlexNet's poolings leave nothing of it")
    side = (size + 4 - 11) // 4 + 1
    for _ in range(3):  # three poolings of 3 by 2; the other convolutions keep the size
        side = (side - 3) // 2 + 1
    return side


class AlexNetMaps(nn.Module):
    """Picture or spectrogram to maps: (B, 3, h, w) float32 to (B, C, H, W), C = 4 * width."""

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.n_channels = 4 * width
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(width, 3 * width, 5, 1, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(3 * width, 6 * width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(6 * width, 4 * width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(4 * width, 4 * width, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        start(self)

    def forward(self, picture: Tensor) -> Tensor:
        return self.features(picture)

    def vectors(self, picture: Tensor) -> Tensor:
        """The map split into n = H * W vectors, row by row: (B, 3, h, w) to (B, n, C)."""
        return self(picture).flatten(2).transpose(1, 2)


class AlexNet(AlexNetMaps):
    """Picture to class logits: (B, 3, S, S) float32 to (B, n_classes).

    Args:
        n_classes: Outputs of the last layer.
        side_px: S; 224 is the published one. The first fully connected layer depends on it.
        width: Channels of the first layer.
        dropout: Rate before the first two fully connected layers.

    Raises:
        ValueError: If the side is too short for AlexNet.
    """

    def __init__(self, n_classes: int, *, side_px: int = 224, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__(width=width)
        hidden = 64 * width
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.n_channels * map_side(side_px) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_classes),
        )
        start(self.classifier)

    def forward(self, picture: Tensor) -> Tensor:
        return self.classifier(self.features(picture).flatten(1))
