"""ICANet (Wu, Tian and Zhai, "ICANet: A Method of Short Video Emotion Recognition Driven by Multimodal Data").

Fig. 1: I3D on RGB, I3D on optical flow (section III-B-1) and CA-VGG16 on the LFCC spectrogram (III-A-1, III-B-2) each
score the utterance; the three prediction scores are averaged with weights and go through softmax (III-C).

Dimension letters: B batch, N video frames, S picture side in pixels, T audio samples, L labels.

On purpose different from the text, or left open by it:
- "Prediction scores" are read as logits, since softmax comes after their average. `scores="posteriors"` averages the
  posteriors instead, as decision fusion of separate recognisers must.
- Section IV-D names four ratios for five accuracies; 4:2:4 is the fourth, with 80.77.
- The flow of 79 pictures has 79 fields here, as in I3D: the caller makes the first from the picture before, or
  repeats it. The text's flow is sparse, I3D's input is dense; see `FlowClip` for its unit.
- The clip length of Table II's C3D is not said: 16 pictures of 112 pixels, as its authors have it.
- Fig. 5's bars are not in the text, except CA-VGG16-3; positions of SE and CBAM are not said: blocks 1, 4, 5.
- Table II's 1D Music CNN and ResNet50+LSTM are other people's networks, of which the paper says no more than that.
- Audio has a fixed length T; the caller cuts or pads. Each branch is trained by itself; fusion has no parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from train.backbones import c3d, i3d
from train.backbones.vgg_attention import Vgg16, VggConfig
from train.frontends.lfcc import LfccPicture

LABELS = ("happiness", "sadness", "neutral", "anger")  # Table I's order
MODALITIES = ("rgb", "flow", "audio")  # the order of the paper's ratios
Scores = Literal["logits", "posteriors"]


@dataclass(frozen=True, kw_only=True)
class IcanetConfig:
    """Sizes of the three branches and the weights of their fusion.

    Attributes:
        n_labels: L.
        weights: Of RGB, flow and audio; only their ratio counts. A modality of weight 0 has no branch.
        scores: What is averaged.
        video: Network of the RGB and flow branches.
        crop_px: S of pictures and flow.
        n_frames: N.
        narrow: Divides the widths of the video networks; 1 is the published size.
        n_samples: T, audio samples at 16 kHz.
        vgg: The audio branch.

    Raises:
        ValueError: If a value is out of its range.
    """

    n_labels: int = len(LABELS)
    weights: tuple[float, float, float] = (4.0, 2.0, 4.0)
    scores: Scores = "logits"
    video: Literal["i3d", "c3d"] = "i3d"
    crop_px: int = 224
    n_frames: int = i3d.N_FRAMES
    narrow: int = 1
    n_samples: int = 64_000
    vgg: VggConfig = field(default_factory=VggConfig)

    def __post_init__(self) -> None:
        if len(self.weights) != 3 or min(self.weights) < 0 or not 0 < sum(self.weights) < float("inf"):
            raise ValueError(f"weights: expected three of 0 or more, not all 0, got {self.weights}")
        if self.scores not in ("logits", "posteriors"):
            raise ValueError(f"scores: expected logits or posteriors, got {self.scores}")
        if self.video not in ("i3d", "c3d"):
            raise ValueError(f"video: expected i3d or c3d, got {self.video}")
        if self.n_labels < 2 or self.n_frames < 1 or self.crop_px < 16:
            raise ValueError(
                f"expected 2 labels, 1 frame and 16 px or more, got {self.n_labels}, {self.n_frames}, {self.crop_px}"
            )
        if self.n_samples < 400:
            raise ValueError(f"n_samples: expected one analysis window of 400 or more, got {self.n_samples}")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those with a branch, in the order of `MODALITIES`."""
        return tuple(name for name, weight in zip(MODALITIES, self.weights, strict=True) if weight > 0)


def fuse(given: Mapping[str, Tensor], weights: Mapping[str, float], scores: Scores = "logits") -> Tensor:
    """Posterior of the weighted average of scores (section III-C).

    Args:
        given: Logits of each modality, (B, L).
        weights: Of each of these modalities at least; those of modalities not given do not count.
        scores: Average logits and then take the softmax, or average posteriors.

    Returns:
        (B, L), rows sum to 1.

    Raises:
        ValueError: If nothing is given, or what is given has no weight.
    """
    total = sum(weights.get(name, 0.0) for name in given)
    if total <= 0:
        raise ValueError(f"expected scores of a modality that has a weight, got {sorted(given)}")
    shares = [weights.get(name, 0.0) / total for name in given]
    terms = [logits if scores == "logits" else logits.softmax(-1) for logits in given.values()]
    average = torch.stack([share * term for share, term in zip(shares, terms, strict=True)]).sum(0)
    return average.softmax(-1) if scores == "logits" else average


class Icanet(nn.Module):
    """The branches that have a weight, and their fusion.

    In: `rgb` (B, N, S, S, 3) uint8; `flow` (B, N, S, S, 2) float32, pixels a frame; `audio` (B, T) float32 in [-1, 1].
    Out: posterior (B, L). `branches[name]` takes one of these to its logits, to be trained alone.
    """

    def __init__(self, config: IcanetConfig) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.ModuleDict({name: _branch(name, config) for name in config.modalities})

    def logits(
        self, rgb: Tensor | None = None, flow: Tensor | None = None, audio: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each branch's scores, (B, L).

        Raises:
            ValueError: If the modalities given are not those of the configuration.
        """
        given = {name: x for name, x in zip(MODALITIES, (rgb, flow, audio), strict=True) if x is not None}
        if tuple(given) != self.config.modalities:
            raise ValueError(f"expected {self.config.modalities}, got {tuple(given)}")
        return {name: self.branches[name](x) for name, x in given.items()}

    def forward(self, rgb: Tensor | None = None, flow: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        weights = dict(zip(MODALITIES, self.config.weights, strict=True))
        return fuse(self.logits(rgb, flow, audio), weights, self.config.scores)


def _branch(name: str, config: IcanetConfig) -> nn.Module:
    if name == "audio":
        return nn.Sequential(LfccPicture(config.vgg.picture_px), Vgg16(config.n_labels, config.vgg))
    frontend, n_channels = (i3d.RgbClip(), 3) if name == "rgb" else (i3d.FlowClip(), 2)
    if config.video == "i3d":
        network: nn.Module = i3d.I3d(config.n_labels, n_channels=n_channels, narrow=config.narrow)
    else:
        network = c3d.C3d(
            config.n_labels,
            n_channels=n_channels,
            n_frames=config.n_frames,
            crop_px=config.crop_px,
            narrow=config.narrow,
        )
    return nn.Sequential(frontend, network)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table or figure: its name, our configuration and the published accuracy in percent, if any."""

    name: str
    config: IcanetConfig
    published: float | None


def _table() -> tuple[Row, ...]:
    whole = IcanetConfig()
    rgb, flow, audio = (replace(whole, weights=weights) for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    small_clip = replace(rgb, video="c3d", n_frames=c3d.N_FRAMES, crop_px=c3d.CROP_PX)
    rows: list[tuple[str, IcanetConfig, float | None]] = [
        ("IV-D: 1:1:1", replace(whole, weights=(1, 1, 1)), 77.50),
        ("IV-D: 3:2:5", replace(whole, weights=(3, 2, 5)), 78.85),
        ("IV-D: 4:3:3", replace(whole, weights=(4, 3, 3)), 79.04),
        ("IV-D: 4:2:4", whole, 80.77),
        ("IV-D: 5:3:2", replace(whole, weights=(5, 3, 2)), 67.66),
        ("Fig. 5: VGG16", replace(audio, vgg=VggConfig(attention="none", after_blocks=())), None),
        ("Fig. 5: SE-VGG16", replace(audio, vgg=VggConfig(attention="se")), None),
        ("Fig. 5: CBAM-VGG16", replace(audio, vgg=VggConfig(attention="cbam")), None),
        ("Fig. 5: CA-VGG16-3", audio, 58.96),
        ("Fig. 5: CA-VGG16-5", replace(audio, vgg=VggConfig(after_blocks=(1, 2, 3, 4, 5))), None),
        ("Table II: I3D, RGB", rgb, 64.88),
        ("Table II: I3D, flow", flow, 60.12),
        ("Table II: C3D, RGB", small_clip, 61.33),
        ("Table II: ours", whole, 80.77),
    ]
    return tuple(Row(name=name, config=config, published=published) for name, config, published in rows)


TABLE = _table()
