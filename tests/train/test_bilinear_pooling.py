"""Factorised bilinear pooling against loops from equation 9 and against the full form of equation 8."""

import math

import pytest
import torch
from torch import Tensor

from train.layers.bilinear_pooling import Concatenation, FactorizedBilinearPooling

M, N = 6, 5


def material() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, M, generator=generator).double(), torch.randn(3, N, generator=generator).double()


def layer(n_out: int, rank: int, dropout: float = 0.0) -> FactorizedBilinearPooling:
    torch.manual_seed(0)
    return FactorizedBilinearPooling(M, N, n_out=n_out, rank=rank, dropout=dropout).double()


def by_loop(pooling: FactorizedBilinearPooling, a: list[float], v: list[float]) -> list[float]:
    u, w, k = pooling.first.weight.tolist(), pooling.second.weight.tolist(), pooling.rank
    z = []
    for i in range(pooling.n_out):
        total = 0.0
        for j in range(i * k, (i + 1) * k):  # windows do not overlap
            left = sum(u[j][p] * a[p] for p in range(M))
            right = sum(w[j][q] * v[q] for q in range(N))
            total += left * right
        z.append(total)
    return z


@pytest.mark.parametrize(("n_out", "rank"), [(1, 1), (4, 1), (1, 3), (4, 3)])
def test_pooling_is_equation_9(n_out: int, rank: int) -> None:
    pooling = layer(n_out, rank).eval()
    audio, video = material()
    got, pooled = pooling(audio, video), pooling.pooled(audio, video)
    assert got.shape == (3, n_out)
    for item in range(3):
        z = by_loop(pooling, audio[item].tolist(), video[item].tolist())
        assert pooled[item].tolist() == pytest.approx(z, abs=1e-12)
        length = math.sqrt(sum(x * x for x in z))
        assert got[item].tolist() == pytest.approx([x / length for x in z], abs=1e-10)


@pytest.mark.parametrize(("n_out", "rank"), [(4, 1), (4, 3), (2, 7)])
def test_pooling_is_the_full_bilinear_form_of_its_matrices(n_out: int, rank: int) -> None:
    pooling = layer(n_out, rank).eval()
    matrices = pooling.matrices().detach()
    assert matrices.shape == (n_out, M, N)
    assert all(int(torch.linalg.matrix_rank(matrix)) == min(rank, M, N) for matrix in matrices)
    audio, video = material()
    pooled = pooling.pooled(audio, video)
    for item in range(3):
        for i in range(n_out):
            z = sum(
                float(audio[item, p] * matrices[i, p, q] * video[item, q]) for p in range(M) for q in range(N)
            )  # fmt: skip
            assert pooled[item, i].item() == pytest.approx(z, abs=1e-12)


def test_any_bilinear_form_of_that_rank_can_be_written() -> None:
    generator = torch.Generator().manual_seed(3)
    full = torch.randn(2, M, N, generator=generator).double()
    pooling = layer(2, min(M, N)).eval()
    u, s, vh = torch.linalg.svd(full, full_matrices=False)
    with torch.no_grad():
        pooling.first.weight.copy_((u * s.unsqueeze(1)).transpose(1, 2).reshape(-1, M))
        pooling.second.weight.copy_(vh.reshape(-1, N))
    audio, video = material()
    expected = torch.einsum("bm,omn,bn->bo", audio, full, video)
    torch.testing.assert_close(pooling.pooled(audio, video), expected)


def test_outputs_have_unit_length_whatever_the_input_and_zero_stays_zero() -> None:
    pooling = layer(4, 2).eval()
    audio, video = material()
    torch.testing.assert_close(pooling(audio, video).square().sum(1), torch.ones(3).double())
    torch.testing.assert_close(pooling(30 * audio, 0.2 * video), pooling(audio, video))
    assert torch.equal(pooling(0 * audio, video), torch.zeros(3, 4).double())


def test_dropout_falls_on_the_product_before_the_sum() -> None:
    pooling = layer(4, 3, dropout=0.4)
    audio, video = material()
    torch.manual_seed(5)
    got = pooling.train().pooled(audio, video)
    torch.manual_seed(5)
    kept = torch.nn.functional.dropout(torch.ones(3, 12).double(), 0.4)
    product = pooling.first(audio) * pooling.second(video) * kept
    expected = torch.stack([product[:, 3 * i : 3 * i + 3].sum(1) for i in range(4)], 1)
    torch.testing.assert_close(got, expected)
    assert torch.equal(pooling.eval().pooled(audio, video), pooling.pooled(audio, video))
    assert not torch.allclose(pooling.pooled(audio, video), got)


def test_gradients_reach_both_layers() -> None:
    pooling = layer(4, 2)
    torch.autograd.backward(pooling(*material())[:, 0].sum())
    assert all(p.grad is not None and (p.grad != 0).any() for p in pooling.parameters())


def test_concatenation_puts_the_first_before_the_second() -> None:
    fusion = Concatenation(M, N)
    audio, video = material()
    assert fusion.n_out == M + N
    assert torch.equal(fusion(audio, video)[:, :M], audio)
    assert torch.equal(fusion(audio, video)[:, M:], video)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="expected positive sizes, got 6, 5, 4 and rank 0"):
        FactorizedBilinearPooling(6, 5, n_out=4, rank=0)
