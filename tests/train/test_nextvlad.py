"""NeXtVLAD: against loops over its definition, size, gradients, refusals."""

import math

import pytest
import torch
from torch import Tensor, nn

from train.layers.nextvlad import NextVlad


def layer(n_in: int = 6, *, n_groups: int = 4, n_clusters: int = 3, seed: int = 0) -> NextVlad:
    """A layer whose norms are not neutral, in evaluation mode."""
    torch.manual_seed(seed)
    vlad = NextVlad(n_in, n_groups=n_groups, n_clusters=n_clusters)
    for norm in (vlad.assign_norm, vlad.out_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return vlad.double().eval()


def normalised(value: Tensor, norm: nn.BatchNorm1d, place: int) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scaled = (value - norm.running_mean[place]) / (norm.running_var[place] + norm.eps).sqrt()
    return scaled * norm.weight[place] + norm.bias[place]


def by_loops(vlad: NextVlad, x: Tensor) -> Tensor:
    """One item, (M, N) to (K, E/G): the sum over i and g of a_g a_gk (x_ij^g - c_kj), each row of length 1."""
    n_groups, n_clusters, n_group = vlad.n_groups, vlad.n_clusters, vlad.n_group
    y = torch.zeros(n_clusters, n_group, dtype=torch.float64)
    for vector in x:
        expanded = vlad.expand.weight @ vector + vlad.expand.bias
        for g in range(n_groups):
            attention = 1 / (1 + torch.exp(-(vlad.attention.weight[g] @ expanded + vlad.attention.bias[g])))
            logits = []
            for k in range(n_clusters):
                place = g * n_clusters + k
                logits.append(normalised(vlad.assign.weight[place] @ expanded, vlad.assign_norm, place))
            total = sum(math.exp(logit.item()) for logit in logits)
            for k in range(n_clusters):
                share = math.exp(logits[k].item()) / total
                for j in range(n_group):
                    y[k, j] += attention * share * (expanded[g * n_group + j] - vlad.centres[k, j])
    return torch.stack([row / (row**2).sum().sqrt() for row in y])


@pytest.mark.parametrize(("n_in", "n_groups", "n_clusters"), [(6, 4, 3), (5, 1, 2), (4, 8, 1)])
@torch.no_grad()
def test_the_aggregate_is_the_papers_double_sum(n_in: int, n_groups: int, n_clusters: int) -> None:
    vlad = layer(n_in, n_groups=n_groups, n_clusters=n_clusters)
    x = torch.randn(2, 7, n_in, dtype=torch.float64)
    aggregate, out = vlad.aggregate(x), vlad(x)
    assert aggregate.shape == (2, n_clusters, 2 * n_in // n_groups)
    assert out.shape == (2, vlad.n_out) == (2, n_clusters * 2 * n_in // n_groups)
    for item in range(2):
        expected = by_loops(vlad, x[item])
        torch.testing.assert_close(aggregate[item], expected, atol=1e-10, rtol=1e-8)
        for place, value in enumerate(expected.flatten()):
            torch.testing.assert_close(out[item, place], normalised(value, vlad.out_norm, place), atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize(("n_in", "n_clusters"), [(768, 4), (128, 2), (128, 16)])
def test_the_size_is_the_authors_formula(n_in: int, n_clusters: int) -> None:
    vlad = NextVlad(n_in, n_groups=8, n_clusters=n_clusters)
    weights = [vlad.expand.weight, vlad.attention.weight, vlad.assign.weight, vlad.centres]
    # lambda N (N + G + K (G + (H + 1) / G)) of Lin et al., without their layer to H values.
    expected = 2 * n_in * (n_in + 8 + n_clusters * 8) + 2 * n_in * n_clusters // 8
    assert sum(w.numel() for w in weights) == expected
    beside = 2 * n_in + 8 + 2 * 8 * n_clusters + 2 * vlad.n_out  # biases, and scale and shift of both norms
    assert sum(p.numel() for p in vlad.parameters()) == expected + beside
    assert vlad.n_out == n_clusters * 2 * n_in // 8


def test_the_order_of_the_vectors_does_not_matter() -> None:
    vlad = layer()
    x = torch.randn(1, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(vlad(x), vlad(x[:, torch.randperm(9)]))
    assert (vlad(x) - vlad(x[:, :5])).abs().max() > 0.01


def test_training_normalises_assignments_over_batch_and_vectors() -> None:
    vlad = layer().train()
    x = torch.randn(5, 9, 6, dtype=torch.float64)
    logits = vlad.assign(vlad.expand(x)).flatten(0, 1)
    expected = (logits - logits.mean(0)) / (logits.var(0, unbiased=False) + vlad.assign_norm.eps).sqrt()
    seen: list[Tensor] = []
    vlad.assign_norm.register_forward_hook(lambda *call: seen.append(call[-1]))
    vlad(x)
    got = seen[0].transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(got, expected * vlad.assign_norm.weight + vlad.assign_norm.bias)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    vlad = NextVlad(6, n_groups=4, n_clusters=3)
    out = vlad(torch.randn(5, 9, 6))
    torch.autograd.backward((out * torch.randn_like(out)).sum())
    for name, parameter in vlad.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 8 groups, got 99 x 2 = 198"):
        NextVlad(99)
    with pytest.raises(ValueError, match="expected positive sizes, got 8, 8, 0, 2"):
        NextVlad(8, n_clusters=0)
