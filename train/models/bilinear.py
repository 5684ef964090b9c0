"""Attention and factorised bilinear pooling for audio-video emotion (Zhou et al., EmotiW 2019).

Section 2: a face network per video frame and AlexNet's last pooling over a spectrogram give two sets of features;
attention makes one vector of each set (equations 1-7), factorised bilinear pooling one of both (equations 8 and 9,
Fig. 2), softmax. Section 3: the variants of Tables 1 to 4.

Dimension letters: B batch, N video frames, S crop side in pixels, T audio samples at 16 kHz, n positions of the audio
map (H x W), D features of a face network, C channels of the map, o and k of the pooling, L labels.

What the text leaves open: m, o and k, dropout, N and T. Table 2's rows are read as visual, its columns as audio. Where
one modality stands alone, its features are averaged. Models of Table 4 are fused by the mean of their posteriors.
FER+ and AffectNet have 8 labels here (4,000 pictures are AffectNet's 8 x 500), RAF-DB 7. FG-Net (Tables 3 and 4,
submissions 1 and 3) is not described, so it has no row. The published class weights name neither their labels nor
whose clips they count; in the order of LABELS neutral is the most frequent and surprise the least, as in AFEW.
`train.losses.root_count_weights` makes such weights from any counts.

On purpose different from the text:
- IR50 sees the crop of 224 averaged to 112 pixels, the side its published weights were trained at.
- The speech spectrogram stands on all three input channels of AlexNet, so that weights for pictures load.
- Each of 40 mel bands is five rows high, as high as the 200 bins: 40 rows vanish in AlexNet's third pooling.
- VGGFace sees pixels less their published mean, divided by 127.5 as for the others; published weights see 127.5 times
  that, so a loader multiplies the first convolution's weights by 127.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.backbones.alexnet import AlexNetMaps, map_side
from train.backbones.resnet import IR50, ResNet18
from train.backbones.vgg import VGG16
from train.frontends.log_mel_deltas import KINDS as SPECTROGRAMS
from train.frontends.log_mel_deltas import RATE_HZ, SPEECH_HOP, SPEECH_WINDOW, SpectrogramPicture
from train.layers.attention import KINDS as ATTENTIONS
from train.layers.attention import attention
from train.layers.bilinear_pooling import Concatenation, FactorizedBilinearPooling
from train.layers.enhancement import ENHANCEMENTS, EnhancedFeatures
from train.losses import reweight

LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
CLASS_WEIGHTS = (0.15, 0.097, 0.129, 0.185, 0.138, 0.082, 0.215)  # section 3, "Results", in the order of LABELS
N_LABELS = {"FER+": 8, "RAF-DB": 7, "AffectNet": 8}
PIXEL_MEAN = {
    "VGGFace": (129.1863, 104.7624, 93.5940),
    "ResNet18": (127.5, 127.5, 127.5),
    "IR50": (127.5, 127.5, 127.5),
}


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """A face network that classifies single pictures (Table 1).

    Attributes:
        backbone: VGGFace, ResNet18 or IR50.
        corpus: FER+, RAF-DB or AffectNet, which settles L.
        crop_px: S, a multiple of 32.
        width: Channels of the first stage; 64 is the published network.
    """

    backbone: str = "IR50"
    corpus: str = "AffectNet"
    crop_px: int = 224
    width: int = 64

    def __post_init__(self) -> None:
        _one_of("backbone", self.backbone, tuple(PIXEL_MEAN))
        _one_of("corpus", self.corpus, tuple(N_LABELS))
        if self.crop_px <= 0 or self.crop_px % 32 or self.width < 1:
            raise ValueError(f"expected a crop of a multiple of 32 px and a width, got {self.crop_px}, {self.width}")


@dataclass(frozen=True, kw_only=True)
class BilinearConfig:
    """A recogniser of clips (Tables 2 and 3, and the single modalities of section 3).

    Attributes:
        modality: both, face or voice.
        faces: The face networks, pretrained as pictures' classifiers; one, or as many as the enhancement has.
        visual_attention: self, relation, transformer or mean.
        audio_attention: Likewise.
        fusion: FBP or concatenation.
        enhancement: A name of `train.layers.enhancement.ENHANCEMENTS`.
        spectrogram: speech or log-mel.
        n_samples: T.
        hidden: m of transformer attention.
        n_pooled: o.
        rank: k.
        dropout: Rate inside the pooling.
        audio_width: Channels of AlexNet's first layer; 64 is the published network.
        class_weights: One factor a label for the posterior; empty for none.
    """

    modality: str = "both"
    faces: tuple[FaceConfig, ...] = (FaceConfig(),)
    visual_attention: str = "transformer"
    audio_attention: str = "transformer"
    fusion: str = "FBP"
    enhancement: str = "Basic"
    spectrogram: str = "speech"
    n_samples: int = 3 * RATE_HZ
    hidden: int = 128
    n_pooled: int = 128
    rank: int = 4
    dropout: float = 0.3
    audio_width: int = 64
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _one_of("modality", self.modality, ("both", "face", "voice"))
        _one_of("visual_attention", self.visual_attention, ATTENTIONS)
        _one_of("audio_attention", self.audio_attention, ATTENTIONS)
        _one_of("fusion", self.fusion, ("FBP", "concatenation"))
        _one_of("enhancement", self.enhancement, tuple(ENHANCEMENTS))
        _one_of("spectrogram", self.spectrogram, SPECTROGRAMS)
        n_networks = ENHANCEMENTS[self.enhancement].n_networks
        if len(self.faces) != n_networks:
            raise ValueError(f"{self.enhancement} takes {n_networks} face networks, got {len(self.faces)}")
        if len({(face.backbone, face.crop_px, face.width) for face in self.faces}) != 1:
            raise ValueError("face networks put side by side must differ by their corpus alone")
        if len(self.class_weights) not in (0, len(LABELS)):
            raise ValueError(f"expected {len(LABELS)} class weights or none, got {len(self.class_weights)}")
        map_side(1 + (self.n_samples - SPEECH_WINDOW) // SPEECH_HOP)


class FaceNetwork(nn.Module):
    """Pixels to features: (B, 3, S, S) float32 in 0 to 255, RGB, to (B, D)."""

    mean: Tensor

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        mean = torch.tensor(PIXEL_MEAN[config.backbone]).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.halve = config.backbone == "IR50"
        self.backbone: ResNet18 | IR50 | VGG16
        if config.backbone == "IR50":
            self.backbone = IR50(side_px=config.crop_px // 2, width=config.width)
        elif config.backbone == "ResNet18":
            self.backbone = ResNet18(width=config.width)
        else:
            self.backbone = VGG16(side_px=config.crop_px, width=config.width)
        self.n_features = self.backbone.n_features

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels - self.mean) / 127.5
        return self.backbone(F.avg_pool2d(x, 2) if self.halve else x)


def _channels_first(crop: Tensor) -> Tensor:
    return crop.to(torch.float32).permute(0, 3, 1, 2)  # TensorRT takes uint8 to cast it, and for nothing else


class FaceClassifier(nn.Module):
    """Crop to logits of the face corpus: (B, S, S, 3) uint8 to (B, L)."""

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.network = FaceNetwork(config)
        self.classifier = nn.Linear(self.network.n_features, N_LABELS[config.corpus])

    def forward(self, crop: Tensor) -> Tensor:
        return self.classifier(self.network(_channels_first(crop)))


class VideoBranch(nn.Module):
    """Crops to one feature a video frame: (B, N, S, S, 3) uint8 to (B, N, n_features)."""

    def __init__(self, config: BilinearConfig) -> None:
        super().__init__()
        networks = [FaceNetwork(face) for face in config.faces]
        self.features = EnhancedFeatures(
            networks, networks[0].n_features, ENHANCEMENTS[config.enhancement], side_px=config.faces[0].crop_px
        )
        self.n_features = self.features.n_out

    def encode(self, crop: Tensor) -> Tensor:
        """The feature of one video frame, (B, S, S, 3) uint8 to (B, n_features)."""
        return self.features(_channels_first(crop))

    def forward(self, crops: Tensor) -> Tensor:
        return self.encode(crops.flatten(0, 1)).unflatten(0, (-1, crops.shape[1]))


class AudioBranch(nn.Module):
    """Waveform to one feature a position of AlexNet's map: (B, T) float32 to (B, n, C)."""

    def __init__(self, config: BilinearConfig) -> None:
        super().__init__()
        self.picture = SpectrogramPicture(config.spectrogram)
        self.maps = AlexNetMaps(width=config.audio_width)
        self.n_features = self.maps.n_channels

    def forward(self, waveform: Tensor) -> Tensor:
        return self.maps.vectors(self.picture(waveform))


class FusionHead(nn.Module):
    """Two sets of features to logits: (B, N, D) and (B, n, C) to (B, L); `*_valid` as in `train.layers.attention`."""

    def __init__(self, config: BilinearConfig, *, n_visual: int, n_audio: int) -> None:
        super().__init__()
        self.visual = attention(config.visual_attention, n_visual, hidden=config.hidden)
        self.audio = attention(config.audio_attention, n_audio, hidden=config.hidden)
        self.fusion: FactorizedBilinearPooling | Concatenation
        a, v = self.audio.n_out, self.visual.n_out
        if config.fusion == "FBP":
            self.fusion = FactorizedBilinearPooling(
                a, v, n_out=config.n_pooled, rank=config.rank, dropout=config.dropout
            )
        else:
            self.fusion = Concatenation(a, v)
        self.classifier = nn.Linear(self.fusion.n_out, len(LABELS))

    def forward(
        self, visual: Tensor, audio: Tensor, visual_valid: Tensor | None = None, audio_valid: Tensor | None = None
    ) -> Tensor:
        a, v = self.audio(audio, audio_valid), self.visual(visual, visual_valid)
        return self.classifier(self.fusion(a, v))


class BilinearRecogniser(nn.Module):
    """Clip to logits: crops (B, N, S, S, 3) uint8 and waveform (B, T) float32 to (B, L)."""

    def __init__(self, config: BilinearConfig) -> None:
        super().__init__()
        self.video, self.audio = VideoBranch(config), AudioBranch(config)
        self.head = FusionHead(config, n_visual=self.video.n_features, n_audio=self.audio.n_features)

    def forward(self, crops: Tensor, waveform: Tensor) -> Tensor:
        return self.head(self.video(crops), self.audio(waveform))


class SingleModality(nn.Module):
    """One modality's features, their attention and softmax: crops or waveform of a clip to logits (B, L)."""

    def __init__(self, config: BilinearConfig) -> None:
        super().__init__()
        face = config.modality == "face"
        self.branch: VideoBranch | AudioBranch = VideoBranch(config) if face else AudioBranch(config)
        kind = config.visual_attention if face else config.audio_attention
        self.attention = attention(kind, self.branch.n_features, hidden=config.hidden)
        self.classifier = nn.Linear(self.attention.n_out, len(LABELS))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classifier(self.attention(self.branch(clip)))


def network(config: BilinearConfig) -> BilinearRecogniser | SingleModality:
    """The network of a configuration; its posterior is `posterior([logits], config.class_weights)`."""
    return BilinearRecogniser(config) if config.modality == "both" else SingleModality(config)


def posterior(logits: Sequence[Tensor], class_weights: Sequence[float] = ()) -> Tensor:
    """Mean of the models' posteriors, times class weights where there are any: k times (B, L) to (B, L)."""
    mean = torch.stack([item.softmax(-1) for item in logits]).mean(0)
    return reweight(mean, mean.new_tensor(list(class_weights))) if class_weights else mean


class Row(NamedTuple):
    """A published figure: where it stands, the configuration (several models are fused), accuracy in per cent."""

    name: str
    config: FaceConfig | BilinearConfig | tuple[BilinearConfig, ...]
    published: float


def _faces(*corpora: str) -> tuple[FaceConfig, ...]:
    return tuple(FaceConfig(corpus=corpus) for corpus in corpora)


def _enhanced(name: str, class_weights: tuple[float, ...] = ()) -> BilinearConfig:
    faces = _faces("AffectNet", "RAF-DB") if name == "F-AR-Mean" else _faces("AffectNet")
    return BilinearConfig(enhancement=name, faces=faces, class_weights=class_weights)


def _fused(*names: str) -> tuple[BilinearConfig, ...]:
    return tuple(_enhanced(name, CLASS_WEIGHTS) for name in names)


_TABLE_1 = {
    "VGGFace": (88.84, 86.93, 51.425),
    "ResNet18": (88.65, 86.696, 52.075),
    "IR50": (89.257, 89.075, 53.925),
}
_TABLE_2 = {
    "self": (54.6, 56.9, 60.3),
    "relation": (54.0, 57.2, 60.0),
    "transformer": (54.8, 58.0, 61.1),
}
_TABLE_3 = {
    "Basic": 61.1,
    "F-Mean": 62.14,
    "F-MeanStd": 63.7,
    "F-MeanStd-2": 62.4,
    "F-NormFFT": 61.35,
    "F-AR-Mean": 62.92,
}
_FIVE = _fused("F-Mean", "F-MeanStd", "F-NormFFT", "F-MeanStd-2", "F-AR-Mean")

TABLE: tuple[Row, ...] = (
    *(
        Row(f"Table 1: {backbone}, {corpus}", FaceConfig(backbone=backbone, corpus=corpus), figure)
        for backbone, figures in _TABLE_1.items()
        for corpus, figure in zip(N_LABELS, figures, strict=True)
    ),
    *(
        Row(
            f"Section 3: IR50 of {corpus} alone",
            BilinearConfig(modality="face", visual_attention="mean", faces=_faces(corpus)),
            figure,
        )
        for corpus, figure in zip(N_LABELS, (50.13, 51.436, 53.78), strict=True)
    ),
    Row("Section 3: speech spectrogram alone", BilinearConfig(modality="voice", audio_attention="mean"), 38.0),
    *(
        Row(
            f"Table 2: visual {visual}, audio {audio}",
            BilinearConfig(visual_attention=visual, audio_attention=audio),
            figure,
        )
        for visual, figures in _TABLE_2.items()
        for audio, figure in zip(_TABLE_2, figures, strict=True)
    ),
    Row("Section 3: concatenation", BilinearConfig(fusion="concatenation"), 58.0),
    *(Row(f"Table 3: {name}", _enhanced(name), figure) for name, figure in _TABLE_3.items()),
    Row("Table 3: Basic, RAF-DB", BilinearConfig(faces=_faces("RAF-DB")), 58.5),
    Row("Table 4: submission 2, test", _fused("F-MeanStd-2", "F-MeanStd-2", "F-AR-Mean", "F-AR-Mean"), 59.112),
    Row("Table 4: submission 4, validation", _fused(*["F-MeanStd"] * 4), 64.5),
    Row("Table 4: submission 4, test", _fused(*["F-MeanStd"] * 4), 61.41),
    Row("Table 4: submission 5, validation", _FIVE, 65.5),
    Row("Table 4: submission 5, test", _FIVE, 62.328),
)
