"""Residual picture networks: ResNet18 (He et al., 2016) and IR50 (Deng et al., 2018, "ArcFace").

ResNet18: He et al., section 4.1 and Table 1, two 3 x 3 convolutions a block. IR50: ArcFace, section 3.1, the
BN-Conv-BN-PReLU-Conv-BN block of 3-4-14-3 and the BN-Dropout-FC-BN end that gives a 512-wide embedding.

Dimension letters: B batch, C channels, S side of the picture in pixels, D features.

Parameters bear the names that published weights bear, so that a file of them loads as it is. On purpose different:
the last batch normalisation of IR50 learns its scale, which ArcFace fixes at 1 because it normalises the embedding
afterwards; here the embedding goes on to other layers. `width` narrows every layer for small corpora and tests.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, the first one strided; (B, c_in, h, w) to (B, c_out, h/s, w/s)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = _shortcut(c_in, c_out, stride) if stride != 1 or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ImprovedBlock(nn.Module):
    """BN-Conv-BN-PReLU-Conv-BN and a shortcut, the second convolution strided; nothing after the sum."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.prelu = nn.PReLU(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = _shortcut(c_in, c_out, stride) if stride != 1 or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


def _stage(block: type[BasicBlock | ImprovedBlock], c_in: int, c_out: int, n: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*(block(c_out if k else c_in, c_out, 1 if k else stride) for k in range(n)))


class ResNet18(nn.Module):
    """Picture to features or class logits: (B, 3, S, S) float32 to (B, 8 * width) or (B, n_classes).

    Args:
        n_classes: Outputs of the last layer; None leaves the layer out and gives the pooled features.
        width: Channels of the first stage; 64 is the published one.
    """

    def __init__(self, n_classes: int | None = None, *, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(BasicBlock, width, width, 2, 1)
        self.layer2 = _stage(BasicBlock, width, 2 * width, 2, 2)
        self.layer3 = _stage(BasicBlock, 2 * width, 4 * width, 2, 2)
        self.layer4 = _stage(BasicBlock, 4 * width, 8 * width, 2, 2)
        self.n_features = 8 * width
        self.fc: nn.Module = nn.Identity() if n_classes is None else nn.Linear(self.n_features, n_classes)
        start(self)

    def maps(self, picture: Tensor) -> Tensor:
        """Feature maps before pooling, (B, 3, S, S) to (B, 8 * width, S / 32, S / 32)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(picture))))  # (B, width, S/4, S/4)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, picture: Tensor) -> Tensor:
        return self.fc(self.maps(picture).mean((2, 3)))


class IR50(nn.Module):
    """Face to embedding: (B, 3, S, S) float32 to (B, 8 * width).

    Args:
        side_px: S, a multiple of 16; 112 is the published one. The fully connected layer depends on it.
        width: Channels of the first stage; 64 is the published one, whose embedding is 512 wide.
        dropout: Rate before the fully connected layer.

    Raises:
        ValueError: If the side is no multiple of 16.
    """

    def __init__(self, *, side_px: int = 112, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        if side_px <= 0 or side_px % 16:
            raise ValueError(f"expected a side of a multiple of 16 px, got {side_px}")
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.layer1 = _stage(ImprovedBlock, width, width, 3, 2)
        self.layer2 = _stage(ImprovedBlock, width, 2 * width, 4, 2)
        self.layer3 = _stage(ImprovedBlock, 2 * width, 4 * width, 14, 2)
        self.layer4 = _stage(ImprovedBlock, 4 * width, 8 * width, 3, 2)
        self.bn2 = nn.BatchNorm2d(8 * width)
        self.dropout = nn.Dropout(dropout)
        self.n_features = 8 * width
        self.fc = nn.Linear(8 * width * (side_px // 16) ** 2, self.n_features)
        self.features = nn.BatchNorm1d(self.n_features)
        start(self)

    def maps(self, picture: Tensor) -> Tensor:
        """Feature maps before the fully connected layer, (B, 3, S, S) to (B, 8 * width, S / 16, S / 16)."""
        x = self.prelu(self.bn1(self.conv1(picture)))  # (B, width, S, S)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, picture: Tensor) -> Tensor:
        x = self.dropout(self.bn2(self.maps(picture)).flatten(1))
        return self.features(self.fc(x))


def start(network: nn.Module) -> None:
    """He initialisation of every convolution and fully connected layer: without it VGG16 does not begin to learn."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
