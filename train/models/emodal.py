"""EMODal: common and modality-specific information of face and voice (Zhang et al., 2018).

Section 2: a grey face of 128 x 128 pixels goes through three 3 x 3 convolutions, each before a max pooling, and two
fully connected layers with dropout between; 68 audio features go through fully connected layers of 128, 64 and 10
units (Fig. 1). Each modality is left with 10 features. The loss is `train.losses.bimodal_losses`: negative Soft-HGR
score of the two, cross entropy of the softmax over both combined, and of one over each alone. Adam trains it.

Dimension letters: B batch, S crop side in pixels, T audio samples, K features of a modality, L labels.

On purpose different from the text:
- Each picture is standardised, and the audio features are standardised with running statistics, which are learnt in
  training and fixed after: their scales differ ten thousandfold, and the text says nothing of it.
- A row of one modality is the same network, head and specific loss without the other one.

Left open by the text, settled here: the widths of the convolutions, the first fully connected layer's width and the
dropout rate; ReLU after every layer but the last of each network, whose features are linear, because the score takes
their sign; features are combined by concatenation; frames of 50 ms every 25 ms for the audio features. Pictures are
to be upright crops of the largest face; turning them to the front is left to who crops.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from train.frontends.grey_and_mel import GreyFace
from train.frontends.short_term_features import NAMES, ShortTermFeatures
from train.losses import BimodalOutputs

LABELS = ("anger", "happiness", "neutral", "sadness")  # in the order of Table 2

Modality = Literal["audio", "image", "both"]

N_POOLINGS = 3
N_AUDIO = 2 * len(NAMES)


@dataclass(frozen=True, kw_only=True)
class EmodalConfig:
    """Sizes of the networks.

    Attributes:
        modality: Which networks there are (Table 1).
        n_labels: L.
        crop_px: S, a multiple of 8.
        n_samples: T, audio samples at 16 kHz, at least the 800 of one short-term frame.
        n_features: K.
        image_widths: Channels of the three convolutions.
        image_hidden: Units of the image network's first fully connected layer.
        audio_hidden: Units of the audio network's first two fully connected layers.
        dropout: Rate between the image network's fully connected layers.

    Raises:
        ValueError: If one of these is out of its range.
    """

    modality: Modality = "both"
    n_labels: int = len(LABELS)
    crop_px: int = 128
    n_samples: int = 32_000
    n_features: int = 10
    image_widths: tuple[int, int, int] = (16, 32, 64)
    image_hidden: int = 128
    audio_hidden: tuple[int, int] = (128, 64)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ValueError(f"expected a modality of {', '.join(get_args(Modality))}, got {self.modality!r}")
        if self.crop_px < 8 or self.crop_px % 2**N_POOLINGS:
            raise ValueError(f"expected crop_px a multiple of 8, which three poolings halve, got {self.crop_px}")
        if self.n_samples < 800:
            raise ValueError(f"expected n_samples of 800 or more, one short-term frame, got {self.n_samples}")
        if len(self.image_widths) != N_POOLINGS or len(self.audio_hidden) != 2:
            raise ValueError(f"expected 3 image_widths and 2 audio_hidden, got {self.image_widths, self.audio_hidden}")
        sizes = (self.n_labels, self.n_features, *self.image_widths, self.image_hidden, *self.audio_hidden)
        if min(sizes) < 1:
            raise ValueError(f"expected counts and widths of 1 or more, got {sizes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"expected a dropout in [0, 1), got {self.dropout}")


# Table 1: name, configuration, published accuracy in per cent.
TABLE: tuple[tuple[str, EmodalConfig, float], ...] = (
    ("audio-only", EmodalConfig(modality="audio"), 52.20),
    ("image-only", EmodalConfig(modality="image"), 63.73),
    ("audio+image", EmodalConfig(modality="both"), 66.02),
)

# Table 2: of the row audio+image, per cent; rows are the truth, columns the prediction, both in the order of LABELS.
CONFUSION = (
    (69.74, 8.55, 9.21, 12.5),
    (9.09, 76.97, 9.70, 4.24),
    (15.13, 17.11, 55.26, 12.5),
    (11.64, 9.59, 17.81, 60.96),
)


class ImageNetwork(nn.Module):
    """Crop to features: (B, S, S, 3) uint8 RGB to (B, K)."""

    def __init__(self, config: EmodalConfig) -> None:
        super().__init__()
        self.frontend = GreyFace()
        layers: list[nn.Module] = []
        channels = 1
        for width in config.image_widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        side = config.crop_px // 2**N_POOLINGS
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * side * side, config.image_hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.image_hidden, config.n_features),
        )

    def encode(self, grey: Tensor) -> Tensor:
        """Features of standardised grey pictures, (B, 1, S, S) to (B, K)."""
        return self.dense(self.convolutions(grey))  # by way of (B, widths[-1], S/8, S/8)

    def forward(self, crop: Tensor) -> Tensor:
        return self.encode(self.frontend(crop))


class AudioNetwork(nn.Module):
    """Waveform to features: (B, T) float32 at 16 kHz to (B, K). Training needs a batch of 2 or more."""

    def __init__(self, config: EmodalConfig) -> None:
        super().__init__()
        self.frontend = ShortTermFeatures()
        first, second = config.audio_hidden
        # Over RAVDESS mean deltas deviate by 1e-4 to 0.3; the usual 1e-5 beside the variance would flatten most.
        self.standardise = nn.BatchNorm1d(N_AUDIO, eps=1e-12, affine=False)
        self.dense = nn.Sequential(
            nn.Linear(N_AUDIO, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, config.n_features),
        )

    def encode(self, features: Tensor) -> Tensor:
        """Features of short-term averages, (B, 68) to (B, K)."""
        return self.dense(self.standardise(features))

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encode(self.frontend(waveform))


class Emodal(nn.Module):
    """Both networks, a head for each and one for both.

    In: crops (B, S, S, 3) uint8 and waveforms (B, T) float32. Out: joint logits (B, L).
    """

    def __init__(self, config: EmodalConfig) -> None:
        super().__init__()
        if config.modality != "both":
            raise ValueError(f"expected the modality both, got {config.modality}: take Unimodal, or build()")
        self.config = config
        self.image, self.audio = ImageNetwork(config), AudioNetwork(config)
        self.image_head = nn.Linear(config.n_features, config.n_labels)
        self.audio_head = nn.Linear(config.n_features, config.n_labels)
        self.both_head = nn.Linear(2 * config.n_features, config.n_labels)

    def forward(self, crop: Tensor, waveform: Tensor) -> Tensor:
        return self.joint(self.image(crop), self.audio(waveform))

    def joint(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of the combined features, (B, K) twice to (B, L)."""
        return self.both_head(torch.cat([image, audio], 1))

    def outputs(self, image: Tensor, audio: Tensor) -> BimodalOutputs:
        """All that the losses take, from the features of both networks, (B, K) each."""
        return BimodalOutputs(image, audio, self.joint(image, audio), self.image_head(image), self.audio_head(audio))


class Unimodal(nn.Module):
    """One network and its head: crops (B, S, S, 3) uint8 or waveforms (B, T) float32 to logits (B, L)."""

    def __init__(self, config: EmodalConfig) -> None:
        super().__init__()
        if config.modality == "both":
            raise ValueError("expected the modality audio or image, got both: take Emodal, or build()")
        self.config = config
        self.network = ImageNetwork(config) if config.modality == "image" else AudioNetwork(config)
        self.head = nn.Linear(config.n_features, config.n_labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.network(x))


def build(config: EmodalConfig) -> Emodal | Unimodal:
    """The recogniser of a row of Table 1."""
    return Emodal(config) if config.modality == "both" else Unimodal(config)
