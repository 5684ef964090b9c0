"""NeXtVLAD (Lin, Xiao and Fan, ECCV workshops 2018, section 3), as "Multi-modality Fusion" (2023), 2.2, uses it.

Each of M feature vectors x is expanded to x' = W x of lambda N values and cut in G groups. A group g has an attention
a_g(x') = sigmoid(w_g x' + b_g), and softly belongs to cluster k by a_gk(x') = softmax over k of (w_gk x' + b_gk). Then

    y_jk = sum over i and g of a_g(x'_i) a_gk(x'_i) (x'_ij^g - c_kj)

with centres c shared by the groups; y is scaled to length 1 for each k (intra-normalisation).

Dimension letters: B batch, M vectors, N values of each, E = lambda N expanded values, G groups, K clusters.

As in the authors' code, beyond the equations: batch normalisation takes the place of b_gk, and follows the flattening.
Left out: their layer to H hidden values; the three-stream text joins the streams first and reduces then (its W_1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NextVlad(nn.Module):
    """Vectors to their aggregate: (B, M, N) to (B, K*E/G), the clusters one after another.

    Args:
        n_in: N.
        expansion: lambda; `n_in * expansion` must be a multiple of `n_groups`.
        n_groups: G.
        n_clusters: K.

    Raises:
        ValueError: If a size is not positive or the groups do not divide the expanded vector.
    """

    def __init__(self, n_in: int, *, n_groups: int = 8, n_clusters: int = 4, expansion: int = 2) -> None:
        super().__init__()
        if min(n_in, n_groups, n_clusters, expansion) < 1:
            raise ValueError(f"expected positive sizes, got {n_in}, {n_groups}, {n_clusters}, {expansion}")
        n_expanded = n_in * expansion
        if n_expanded % n_groups:
            raise ValueError(f"expected a multiple of {n_groups} groups, got {n_in} x {expansion} = {n_expanded}")
        self.n_groups, self.n_clusters, self.n_group = n_groups, n_clusters, n_expanded // n_groups
        self.n_out = n_clusters * self.n_group
        self.expand = nn.Linear(n_in, n_expanded)
        self.attention = nn.Linear(n_expanded, n_groups)
        self.assign = nn.Linear(n_expanded, n_groups * n_clusters, bias=False)
        self.assign_norm = nn.BatchNorm1d(n_groups * n_clusters)
        # Expanded values spread by about 0.6 for inputs of deviation 1; centres begin inside that.
        self.centres = nn.Parameter(torch.randn(n_clusters, self.n_group) * self.n_group**-0.5)
        self.out_norm = nn.BatchNorm1d(self.n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_norm(self.aggregate(x).flatten(1))

    def aggregate(self, x: Tensor) -> Tensor:
        """The clusters' residuals, each of length 1: (B, M, N) to (B, K, E/G)."""
        n = x.shape[1]
        expanded = self.expand(x)  # (B, M, E)
        weights = self._weights(expanded)  # (B, M*G, K)
        groups = expanded.reshape(-1, n * self.n_groups, self.n_group)
        # The sum of w (x - c) as the sum of w x less the sum of w times c: no tensor of all residuals.
        sums = torch.matmul(weights.transpose(1, 2), groups)
        residuals = sums - weights.sum(1).unsqueeze(2) * self.centres
        return F.normalize(residuals, dim=2)

    def _weights(self, expanded: Tensor) -> Tensor:
        """a_g times a_gk: (B, M, E) to (B, M*G, K)."""
        n = expanded.shape[1]
        logits = self.assign_norm(self.assign(expanded).transpose(1, 2)).transpose(1, 2)
        shares = logits.reshape(-1, n, self.n_groups, self.n_clusters).softmax(-1)
        attention = torch.sigmoid(self.attention(expanded)).unsqueeze(-1)  # (B, M, G, 1)
        return (attention * shares).reshape(-1, n * self.n_groups, self.n_clusters)
