"""VGG16 (Simonyan and Zisserman, 2015), Table 1, column D: 13 convolutional and 3 fully connected layers.

VGGFace (Parkhi et al., 2015, Table 3) is this layout with 2622 identities; its face feature is the second fully
connected layer after its rectifier, 4096 wide. 138,357,544 parameters for 1000 classes without batch normalisation.

Dimension letters: B batch, S side of the picture in pixels, D features.

Parameters bear the names that published weights bear. `width` narrows every layer; 64 is the published one.
"""

from torch import Tensor, nn

from train.backbones.resnet import start

# Channels of the convolutions of each block in units of the first; a 2 x 2 maximum pooling ends each block.
BLOCKS = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


def _convolutions(width: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for block in BLOCKS:
        for factor in block:
            layers.append(nn.Conv2d(channels, factor * width, 3, 1, 1))
            channels = factor * width
            layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class VGG16(nn.Module):
    """Picture to features or class logits: (B, 3, S, S) float32 to (B, 64 * width) or (B, n_classes).

    Args:
        n_classes: Outputs of the last layer; None leaves the layer out and gives the features before it, the second
            fully connected layer after its rectifier.
        side_px: S, a multiple of 32; 224 is the published one. The first fully connected layer depends on it.
        width: Channels of the first block.
        batch_norm: Batch normalisation after every convolution, which the published layout has not.
        dropout: Rate after the first two fully connected layers.

    Raises:
        ValueError: If the side is no multiple of 32.
    """

    def __init__(
        self,
        n_classes: int | None = None,
        *,
        side_px: int = 224,
        width: int = 64,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if side_px <= 0 or side_px % 32:
            raise ValueError(f"expected a side of a multiple of 32 px, got {side_px}")
        self.n_features = 64 * width
        self.features = _convolutions(width, batch_norm)
        self.classifier = nn.Sequential(
            nn.Linear(8 * width * (side_px // 32) ** 2, self.n_features),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(self.n_features, self.n_features),
            nn.ReLU(),
        )
        if n_classes is not None:
            self.classifier.extend([nn.Dropout(dropout), nn.Linear(self.n_features, n_classes)])
        start(self)

    def forward(self, picture: Tensor) -> Tensor:
        return self.classifier(self.features(picture).flatten(1))
