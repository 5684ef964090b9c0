"""Temporal aggregation of audio-visual modalities (Birhala et al., 2020).

Section II: a video frame and the spectrogram of an asynchronous audio window go through one audio-visual network:
two convolutional branches with batch normalisation after each convolution, features concatenated, one fully
connected layer, softmax. The posteriors of N segments are summed (Fig. 1).

Dimension letters: B batch, N segments, L labels, S crop side in pixels, T audio samples, D features of a branch.

On purpose different from the text:
- One network is shared by the N segments unless `n_networks` says otherwise; the paper has N independent ones.
- The paper has one output, for both modalities. Each branch has an output of its own here too, so that a window
  without a face or without a voice is scored by a head that was trained for it. A row of one modality has that one's
  branch and head alone.
- Residual blocks, and grey crops of 48 pixels for 224 in colour: no face corpus at hand is larger than 48 pixels.
- The first figures of the two branches (Fig. 2) are not in the text; widths and depths are ours.

The accuracies of Fig. 5 for other numbers of segments are not in the text: those rows, the offsets b other than 0.01 s
and the single modalities have no published figure.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.frontends.grey_and_mel import GreyFace, LogMel, normalise_log_mel

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
Modality = Literal["both", "face", "voice"]


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Sizes of the audio-visual network.

    Attributes:
        n_labels: L.
        crop_px: S.
        n_samples: T, audio samples at 16 kHz.
        face_widths: Channels of the face branch's stages; the last is D of the face.
        face_blocks: Residual blocks in each stage of the face branch.
        voice_widths: Channels of the voice branch's stages; D of the voice is twice the last (mean and deviation).
        voice_blocks: Residual blocks in each stage of the voice branch.
        dropout: Rate before each head.
        n_networks: 1 shares one network between the segments; N gives each segment its own, as the paper does.
        modality: Which branches there are; one alone has one network.
        n_segments: N, into which a clip is divided for training and evaluation; a stream sums as many windows.
        jitter_s: b, the largest offset between a video frame and the centre of its audio window.

    Raises:
        ValueError: If one of the last four is out of its range.
    """

    n_labels: int = len(LABELS)
    crop_px: int = 48
    n_samples: int = 20_480
    face_widths: tuple[int, ...] = (32, 64, 128, 256)
    face_blocks: tuple[int, ...] = (1, 2, 2, 1)
    voice_widths: tuple[int, ...] = (32, 64, 128, 192)
    voice_blocks: tuple[int, ...] = (1, 1, 1, 1)
    dropout: float = 0.3
    n_networks: int = 1
    modality: Modality = "both"
    n_segments: int = 10
    jitter_s: float = 0.01

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ValueError(f"expected a modality of {', '.join(get_args(Modality))}, got {self.modality!r}")
        if self.n_networks < 1 or self.n_segments < 1 or self.jitter_s < 0:
            sizes = f"{self.n_networks}, {self.n_segments} and {self.jitter_s} s"
            raise ValueError(f"expected networks and segments, 1 or more, and an offset of 0 s or more, got {sizes}")
        if self.modality != "both" and self.n_networks != 1:
            raise ValueError(f"expected one network for the modality {self.modality} alone, got {self.n_networks}")


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation and a shortcut; (B, c_in, h, w) to (B, c_out, h/s, w/s)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _stages(c_in: int, widths: tuple[int, ...], blocks: tuple[int, ...], stem_stride: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, widths[0], 3, stem_stride, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    channels = widths[0]
    for stage, (width, n_blocks) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(n_blocks):
            layers.append(ResidualBlock(channels, width, 2 if stage > 0 and block == 0 else 1))
            channels = width
    return nn.Sequential(*layers)


class FaceBranch(nn.Module):
    """Crop to features: (B, S, S, 3) uint8 to (B, D)."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.frontend = GreyFace()
        self.stages = _stages(1, config.face_widths, config.face_blocks, stem_stride=1)
        self.n_features = config.face_widths[-1]

    def encode(self, grey: Tensor) -> Tensor:
        """Features of standardised grey pictures, (B, 1, S, S) to (B, D)."""
        return self.stages(grey).mean((2, 3))

    def forward(self, crop: Tensor) -> Tensor:
        return self.encode(self.frontend(crop))


class VoiceBranch(nn.Module):
    """Waveform to features: (B, T) float32 to (B, D)."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.frontend = LogMel()
        self.stages = _stages(2, config.voice_widths, config.voice_blocks, stem_stride=2)
        self.n_features = 2 * config.voice_widths[-1]

    def encode(self, views: Tensor) -> Tensor:
        """Features of the two log-mel views, (B, 2, n_mels, n_frames) to (B, D)."""
        bands = self.stages(views).mean(2)  # (B, C, frames): the mel axis is spent, the time axis is left
        mean = bands.mean(2)
        deviation = ((bands - mean.unsqueeze(2)).square().mean(2) + 1e-5).sqrt()
        return torch.cat([mean, deviation], 1)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encode(normalise_log_mel(self.frontend(waveform)))


class AudioVisualNetwork(nn.Module):
    """One segment's network: two branches, a head for each alone and one for both concatenated."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.face = FaceBranch(config)
        self.voice = VoiceBranch(config)
        self.dropout = nn.Dropout(config.dropout)
        self.face_head = nn.Linear(self.face.n_features, config.n_labels)
        self.voice_head = nn.Linear(self.voice.n_features, config.n_labels)
        self.both_head = nn.Linear(self.face.n_features + self.voice.n_features, config.n_labels)

    def forward(self, crop: Tensor, waveform: Tensor) -> Tensor:
        """Logits of both modalities: (B, S, S, 3) uint8 and (B, T) float32 to (B, L)."""
        return self.joint(self.face(crop), self.voice(waveform))

    def joint(self, face: Tensor, voice: Tensor) -> Tensor:
        """Logits from features, concatenated as in Fig. 2: (B, D_face) and (B, D_voice) to (B, L)."""
        return self.both_head(self.dropout(torch.cat([face, voice], 1)))


class TemporalAggregation(nn.Module):
    """N segments, each a (frame, audio window) pair, to the sum of their posteriors (Fig. 1).

    In: crops (B, N, S, S, 3) uint8 and waveforms (B, N, T) float32. Out: (B, L), rows sum to N.
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        self.networks = nn.ModuleList(AudioVisualNetwork(config) for _ in range(config.n_networks))

    @property
    def shared(self) -> AudioVisualNetwork:
        """The one network of a shared model; a model of independent networks has none."""
        if len(self.networks) != 1:
            raise ValueError(f"expected one shared network, this model has {len(self.networks)}")
        network = self.networks[0]
        assert isinstance(network, AudioVisualNetwork)
        return network

    def forward(self, crops: Tensor, waveforms: Tensor) -> Tensor:
        n = crops.shape[1]
        if len(self.networks) not in (1, n):
            raise ValueError(f"expected {len(self.networks)} segments, one for each network, got {n}")
        scores = [self.networks[k % len(self.networks)](crops[:, k], waveforms[:, k]).softmax(-1) for k in range(n)]
        return torch.stack(scores).sum(0)


class SingleModality(nn.Module):
    """N segments of one modality to the sum of their posteriors.

    In: crops (B, N, S, S, 3) uint8 or waveforms (B, N, T) float32. Out: (B, L), rows sum to N.
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        if config.modality == "both":
            raise ValueError("expected the modality face or voice, got both: take TemporalAggregation, or build()")
        self.config = config
        self.branch = FaceBranch(config) if config.modality == "face" else VoiceBranch(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.branch.n_features, config.n_labels)

    def forward(self, segments: Tensor) -> Tensor:
        features = self.branch(segments.flatten(0, 1))
        scores = self.head(self.dropout(features)).softmax(-1)
        return scores.unflatten(0, (-1, segments.shape[1])).sum(1)


def build(config: TemporalConfig) -> TemporalAggregation | SingleModality:
    """The recogniser of a configuration."""
    return TemporalAggregation(config) if config.modality == "both" else SingleModality(config)


class Row(NamedTuple):
    """A configuration to be trained and evaluated on CREMA-D, and its published accuracy in per cent, if any."""

    name: str
    config: TemporalConfig
    published: float | None


HUMAN = 63.6  # per cent: how often raters recognised what was meant, sections III and IV
QUOTED = (  # Table I, per cent: other systems on CREMA-D, and the paper's own
    ("Human accuracy", HUMAN),
    ("CNN-based approach", 55.8),
    ("RMA", 65.0),
    ("MERML", 66.5),
    ("Proposed method", 68.4),
)
N_CREMAD = 6  # labels
PUBLISHED_N = 10

TABLE: tuple[Row, ...] = (
    *(
        Row(
            f"N = {n}, independent networks",
            TemporalConfig(n_labels=N_CREMAD, n_segments=n, n_networks=n),
            68.4 if n == PUBLISHED_N else None,
        )
        for n in range(3, 11)
    ),
    *(Row(f"N = {n}, one shared network", TemporalConfig(n_labels=N_CREMAD, n_segments=n), None) for n in range(3, 11)),
    *(
        Row(f"b = {jitter_s:g} s, one shared network", TemporalConfig(n_labels=N_CREMAD, jitter_s=jitter_s), None)
        for jitter_s in (0.0, 0.05, 0.1, 0.25)
    ),
    *(
        Row(f"{modality} alone", TemporalConfig(n_labels=N_CREMAD, modality=modality), None)
        for modality in ("face", "voice")
    ),
)
