"""The losses against loops, and the Soft-HGR score against the best that theory allows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from train.losses import BimodalOutputs, LossWeights, bimodal_losses, reweight, root_count_weights, soft_hgr_score

# Joint counts of two dependent discrete variables, x of 3 values down and y of 4 across.
COUNTS = np.array([[9, 1, 3, 0], [2, 8, 1, 5], [1, 1, 6, 3]])


def loop_score(f: np.ndarray, g: np.ndarray) -> float:
    n, k = f.shape
    f = [[f[b, i] - sum(f[:, i]) / n for i in range(k)] for b in range(n)]
    g = [[g[b, i] - sum(g[:, i]) / n for i in range(k)] for b in range(n)]
    common = sum(f[b][i] * g[b][i] for b in range(n) for i in range(k)) / n
    trace = 0.0
    for i in range(k):
        for j in range(k):
            cov_f = sum(f[b][i] * f[b][j] for b in range(n)) / n
            cov_g = sum(g[b][j] * g[b][i] for b in range(n)) / n
            trace += cov_f * cov_g
    return common - trace / 2


def ascend(score: Callable[[list[Tensor]], Tensor], parameters: list[Tensor]) -> float:
    """The highest score that L-BFGS finds from where the parameters are."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = -score(parameters)
        torch.autograd.backward(loss)
        return loss

    optimiser.step(step)
    return score(parameters).item()


def start(*shapes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).mul_(0.5).requires_grad_() for s in shapes]


def discrete_items() -> tuple[Tensor, Tensor]:
    """One-hot x and y, each pair as often as COUNTS has it: the batch is the whole distribution."""
    x, y = np.nonzero(COUNTS)
    times = COUNTS[x, y]
    eye = [torch.eye(n, dtype=torch.float64) for n in COUNTS.shape]
    return eye[0][np.repeat(x, times)], eye[1][np.repeat(y, times)]


def dependence(counts: np.ndarray) -> np.ndarray:
    """Canonical dependence matrix of a joint distribution, entry by entry."""
    joint = counts / counts.sum()
    p_x, p_y = joint.sum(1), joint.sum(0)
    matrix = np.zeros(joint.shape)
    for i in range(joint.shape[0]):
        for j in range(joint.shape[1]):
            matrix[i, j] = joint[i, j] / (p_x[i] * p_y[j]) ** 0.5 - (p_x[i] * p_y[j]) ** 0.5
    return matrix


@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 1000))
def test_the_score_is_its_formula(n: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    f, g = generator.normal(1, 2, (n, k)), generator.normal(-3, 1, (n, k))
    got = soft_hgr_score(torch.from_numpy(f), torch.from_numpy(g)).item()
    assert got == pytest.approx(loop_score(f, g), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_best_score_of_discrete_variables_is_half_the_squared_singular_values(k: int) -> None:
    x, y = discrete_items()
    left, values, right = np.linalg.svd(dependence(COUNTS))
    best = 0.5 * (values[:k] ** 2).sum()
    joint = COUNTS / COUNTS.sum()
    f = left[:, :k] * values[:k] ** 0.5 / joint.sum(1)[:, None] ** 0.5
    g = right[:k].T * values[:k] ** 0.5 / joint.sum(0)[:, None] ** 0.5
    assert soft_hgr_score(x @ torch.from_numpy(f), y @ torch.from_numpy(g)).item() == pytest.approx(best, abs=1e-12)
    found = ascend(lambda w: soft_hgr_score(x @ w[0], y @ w[1]), start((3, k), (4, k)))
    assert found == pytest.approx(best, abs=1e-7)
    assert values[0] > 0.5  # the variables do depend on each other
    assert values[2] < 1e-9  # three values less their mean leave two dimensions, so k = 3 gains nothing


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_best_linear_score_of_gaussians_is_half_the_squared_canonical_correlations(k: int) -> None:
    # Samples whose moments are exactly those of the Gaussian; a linear feature sees no others.
    correlations = np.array([0.9, 0.6, 0.2])
    white = np.random.default_rng(0).normal(size=(200, 6))
    white, _ = np.linalg.qr(white - white.mean(0))
    white *= 200**0.5
    u = white[:, :3]
    v = u * correlations + white[:, 3:] * (1 - correlations**2) ** 0.5
    mix = np.random.default_rng(1).normal(size=(2, 3, 3))  # the score's best is the same however they are mixed
    x, y = torch.from_numpy(u @ mix[0] + 5), torch.from_numpy(v @ mix[1] - 2)
    found = ascend(lambda w: soft_hgr_score(x @ w[0], y @ w[1]), start((3, k), (3, k)))
    assert found == pytest.approx(0.5 * (correlations[:k] ** 2).sum(), abs=1e-6)


def test_the_score_of_hermite_features_of_a_gaussian_pair_is_the_sum_of_powers() -> None:
    # Singular values of a Gaussian pair are ρ, ρ², ρ³ with Hermite polynomials; quadrature is exact for these.
    rho = 0.8
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()

    def features(z: np.ndarray) -> np.ndarray:
        return np.stack([z * rho**0.5, (z**2 - 1) / 2**0.5 * rho, (z**3 - 3 * z) / 6**0.5 * rho**1.5], -1)

    x = nodes[:, None] * np.ones(8)
    y = rho * x + (1 - rho**2) ** 0.5 * nodes
    f, g, weight = features(x).reshape(-1, 3), features(y).reshape(-1, 3), np.outer(weights, weights).ravel()
    expected = 0.5 * (rho**2 + rho**4 + rho**6)
    cov_f, cov_g = (f.T * weight) @ f, (g.T * weight) @ g
    assert (f * g * weight[:, None]).sum() - 0.5 * np.trace(cov_f @ cov_g) == pytest.approx(expected, abs=1e-12)

    drawn = np.random.default_rng(0).normal(size=(2, 400_000))
    second = rho * drawn[0] + (1 - rho**2) ** 0.5 * drawn[1]
    got = soft_hgr_score(torch.from_numpy(features(drawn[0])), torch.from_numpy(features(second))).item()
    assert got == pytest.approx(expected, abs=0.02)


def test_independent_variables_have_nothing_in_common() -> None:
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    x, y = torch.eye(3, dtype=torch.float64)[pairs[:, 0]], torch.eye(4, dtype=torch.float64)[pairs[:, 1]]
    w = start((3, 2), (4, 2), seed=3)
    before = soft_hgr_score(x @ w[0], y @ w[1]).item()
    assert before < -1e-3
    assert ascend(lambda v: soft_hgr_score(x @ v[0], y @ v[1]), w) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("first", "second"), [((3, 2), (3, 4)), ((3, 2), (4, 2)), ((1, 2), (1, 2)), ((3,), (3,))])
def test_features_that_do_not_pair_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected two \(batch, features\) of one shape, batch 2 or more"):
        soft_hgr_score(torch.zeros(first), torch.zeros(second))


def loop_cross_entropy(logits: np.ndarray, labels: list[int], weights: list[float]) -> float:
    total, norm = 0.0, 0.0
    for row, label in zip(logits, labels, strict=True):
        total -= weights[label] * float(np.log(np.exp(row[label]) / np.exp(row).sum()))
        norm += weights[label]
    return total / norm


@pytest.mark.parametrize("class_weights", [None, [0.5, 0.1, 0.4]])
def test_the_losses_are_their_formulas(class_weights: list[float] | None) -> None:
    torch.manual_seed(0)
    outputs = BimodalOutputs(*(torch.randn(5, size, dtype=torch.float64) for size in (2, 2, 3, 3, 3)))
    labels = [0, 2, 1, 1, 0]
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    weights = LossWeights(common=0.3, joint=2.0, specific=0.7)
    got = bimodal_losses(outputs, torch.tensor(labels), weights, weight)
    image, audio, *logits = (tensor.numpy() for tensor in outputs)
    common = -loop_score(image, audio)
    entropies = [loop_cross_entropy(item, labels, class_weights or [1.0] * 3) for item in logits]
    total = 0.3 * common + 2.0 * entropies[0] + 0.7 * entropies[1] + 0.7 * entropies[2]
    assert [loss.item() for loss in got] == pytest.approx([total, common, *entropies], rel=1e-9)


@pytest.mark.parametrize(
    "weights", [{"joint": -1.0}, {"common": float("nan")}, {"common": 0, "joint": 0, "specific": 0}]
)
def test_weights_below_zero_or_all_zero_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected weights of 0 or more, at least one above 0"):
        LossWeights(**weights)


def test_class_weights_are_the_square_roots_of_the_counts() -> None:
    torch.testing.assert_close(root_count_weights([1, 4, 9, 0]), torch.tensor([1, 2, 3, 0]) / 6)
    # The seven weights that Zhou et al. print, to the last digit or so; they print no counts, these fit.
    printed = [0.15, 0.097, 0.129, 0.185, 0.138, 0.082, 0.215]
    assert root_count_weights([98, 40, 70, 144, 80, 28, 193]).tolist() == pytest.approx(printed, abs=0.0031)


@pytest.mark.parametrize("counts", [[], [3, -1], [0, 0]])
def test_counts_that_weigh_nothing_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="expected counts of 0 or more, at least one above 0"):
        root_count_weights(counts)


def test_a_reweighted_posterior_favours_frequent_classes_and_sums_to_one() -> None:
    posterior = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    got = reweight(posterior, root_count_weights([1, 9, 4]))
    torch.testing.assert_close(got, torch.tensor([[5 / 18, 9 / 18, 4 / 18], [1 / 20, 3 / 20, 16 / 20]]))
    with pytest.raises(ValueError, match=r"expected 3 class weights, got shape \(2,\)"):
        reweight(posterior, torch.ones(2))
