"""The three attentions against loops written from equations 1 to 7."""

import math

import pytest
import torch
from torch import Tensor

from train.layers.attention import KINDS, MeanPooling, RelationAttention, SelfAttention, TransformerAttention, attention

D = 5


def material(n: int = 4) -> Tensor:
    return torch.randn(3, n, D, generator=torch.Generator().manual_seed(0)).double()


def rows(tensor: Tensor) -> list[list[float]]:
    values: list[list[float]] = tensor.tolist()
    return values


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def weighted(features: list[list[float]], weights: list[float]) -> list[float]:
    return [dot(weights, [f[j] for f in features]) / sum(weights) for j in range(len(features[0]))]


def self_attention(features: list[list[float]], w0: list[float]) -> tuple[list[float], list[float]]:
    alpha = [sigmoid(dot(f, w0)) for f in features]  # (1)
    return alpha, weighted(features, alpha)  # (2)


def by_loop(layer: torch.nn.Module, features: list[list[float]]) -> list[float]:
    if isinstance(layer, SelfAttention):
        return self_attention(features, rows(layer.score.weight)[0])[1]
    if isinstance(layer, RelationAttention):
        alpha, f_s = self_attention(features, rows(layer.score.weight)[0])
        pairs = [f + f_s for f in features]
        beta = [sigmoid(dot(pair, rows(layer.relation.weight)[0])) for pair in pairs]  # (3)
        return weighted(pairs, [a * b for a, b in zip(alpha, beta, strict=True)])  # (4)
    if isinstance(layer, TransformerAttention):
        gamma = []
        bias = layer.reduce.bias.tolist()
        for f in features:
            reduced = [dot(row, f) + b for row, b in zip(rows(layer.reduce.weight), bias, strict=True)]  # (5)
            gamma.append(math.exp(dot(rows(layer.score.weight)[0], [math.tanh(x) for x in reduced])))  # (6)
        return weighted(features, gamma)  # (7)
    return weighted(features, [1.0] * len(features))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_attention_is_its_equations(kind: str, n: int) -> None:
    torch.manual_seed(1)
    layer = attention(kind, D, hidden=3).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=1.5)  # far from even weights
    features = material(n)
    got = layer(features)
    assert got.shape == (3, layer.n_out)
    assert layer.n_out == (2 * D if kind == "relation" else D)
    expected = torch.tensor([by_loop(layer, rows(item)) for item in features], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_features_marked_as_padding_do_not_count(kind: str) -> None:
    layer = attention(kind, D).double()
    features = material(6)
    valid = torch.tensor([[True] * 6, [True, True, True, False, False, False], [False, True, False, True, True, False]])
    got = layer(features, valid)
    for item in range(3):
        alone = layer(features[item : item + 1, valid[item]])
        torch.testing.assert_close(got[item : item + 1], alone, atol=1e-12, rtol=1e-10)
    features[~valid] = 1e6
    torch.testing.assert_close(layer(features, valid), got, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_features_does_not_matter(kind: str) -> None:
    layer = attention(kind, D).double()
    features = material(6)
    torch.testing.assert_close(layer(features.flip(1)), layer(features), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", ["self", "relation"])
@pytest.mark.parametrize("level", [-300.0, 300.0])
def test_weights_that_underflow_still_make_a_mean(kind: str, level: float) -> None:
    layer = attention(kind, 2)
    for parameter in layer.parameters():
        torch.nn.init.constant_(parameter, level)
    got = layer(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    torch.testing.assert_close(got[:, :2], torch.full((1, 2), 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_every_feature(kind: str) -> None:
    layer = attention(kind, D)
    features = material().float().requires_grad_()
    torch.autograd.backward(layer(features).square().sum())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert features.grad is not None
    assert (features.grad != 0).all()


def test_sizes_are_those_of_the_text() -> None:
    count = {kind: sum(p.numel() for p in attention(kind, 512, hidden=128).parameters()) for kind in KINDS}
    assert count == {"self": 512, "relation": 512 + 1024, "transformer": 128 * 512 + 128 + 128, "mean": 0}
    assert isinstance(attention("mean", D), MeanPooling)


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an attention of self, relation, transformer, mean, got 'cross'"):
        attention("cross", D)
