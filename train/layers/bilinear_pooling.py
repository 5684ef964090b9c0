"""Factorised bilinear pooling of two feature vectors (Zhou et al., 2019), section 2, equations 8 and 9, Fig. 2.

Dimension letters: B batch, m and n widths of the two vectors, o outputs, k rank of each output's matrix W_i.

z_i = a' W_i v with W_i = U_i V_i' of rank k is the sum of k products, so all o outputs are one element-wise product
of two fully connected layers, summed over windows of k. Then z is divided by its Euclidean length.

What the text leaves open: o and k are not given; dropout goes on the product before the sum, where the pooling that
the text builds on has it. The layers have no bias, as in equation 9.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FactorizedBilinearPooling(nn.Module):
    """Two vectors to one of unit length: (B, m) and (B, n) float32 to (B, o).

    Args:
        n_first: m, width of the first vector (audio in the text).
        n_second: n, width of the second (visual in the text).
        n_out: o.
        rank: k, the window of the sum pooling.
        dropout: Rate, on the element-wise product.

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(self, n_first: int, n_second: int, *, n_out: int, rank: int, dropout: float = 0.0) -> None:
        super().__init__()
        if min(n_first, n_second, n_out, rank) < 1:
            raise ValueError(f"expected positive sizes, got {n_first}, {n_second}, {n_out} and rank {rank}")
        self.n_out, self.rank = n_out, rank
        self.first = nn.Linear(n_first, n_out * rank, bias=False)
        self.second = nn.Linear(n_second, n_out * rank, bias=False)
        self.dropout = nn.Dropout(dropout)

    def matrices(self) -> Tensor:
        """W of equation 8, the full bilinear form of the same map before normalisation: (o, m, n)."""
        u = self.first.weight.reshape(self.n_out, self.rank, -1)  # (o, k, m)
        v = self.second.weight.reshape(self.n_out, self.rank, -1)  # (o, k, n)
        return torch.matmul(u.transpose(1, 2), v)

    def pooled(self, first: Tensor, second: Tensor) -> Tensor:
        """z of equation 9, before normalisation."""
        product = self.dropout(self.first(first) * self.second(second))  # (B, o * k)
        return product.unflatten(1, (self.n_out, self.rank)).sum(2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return F.normalize(self.pooled(first, second), dim=1)


class Concatenation(nn.Module):
    """The two vectors side by side, the text's comparison: (B, m) and (B, n) to (B, m + n)."""

    def __init__(self, n_first: int, n_second: int) -> None:
        super().__init__()
        self.n_out = n_first + n_second

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second], 1)
