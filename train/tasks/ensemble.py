"""Independent networks of segments as one recogniser of single windows: the mean of their posteriors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.models.temporal import AudioVisualNetwork


class Ensemble(nn.Module):
    """M networks under the names of one `AudioVisualNetwork`, so that it is exported like one.

    Features are those of all members side by side, (B, M * D). A head gives the logarithm of the members' mean
    posterior, (B, L), whose softmax is that mean.
    """

    def __init__(self, networks: Sequence[AudioVisualNetwork]) -> None:
        super().__init__()
        self.face = _SideBySide([network.face for network in networks])
        self.voice = _SideBySide([network.voice for network in networks])
        self.face_head = _MeanHead([network.face_head for network in networks], [networks[0].face.n_features])
        self.voice_head = _MeanHead([network.voice_head for network in networks], [networks[0].voice.n_features])
        widths = [networks[0].face.n_features, networks[0].voice.n_features]
        self.both_head = _MeanHead([network.both_head for network in networks], widths)


class _SideBySide(nn.Module):
    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class _MeanHead(nn.Module):
    """Members' features, those of the first kind of all members before those of the second."""

    def __init__(self, layers: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.widths = nn.ModuleList(layers), tuple(widths)

    def forward(self, features: Tensor) -> Tensor:
        n_members = len(self.layers)
        kinds = features.split([n_members * width for width in self.widths], 1)
        of_member = [kind.split(width, 1) for kind, width in zip(kinds, self.widths, strict=True)]
        scores = [layer(torch.cat(own, 1)).log_softmax(-1) for layer, *own in zip(self.layers, *of_member, strict=True)]
        return torch.stack(scores).logsumexp(0)
