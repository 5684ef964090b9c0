"""Batches of clips: the same whatever threads, ranks and breaks there are; and what mixed precision leaves alone."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from tests.train.colour_task import ColourTask, corpus, store
from train.clips.learner import Batch, ClipLearner, Material, collate, in_order, keep_single_precision, posteriors
from train.loop import LoopConfig, fit


def material(**changes: Any) -> Material:
    made = corpus()
    settings: dict[str, Any] = {
        "task": ColourTask(), "labels": np.array([clip.label for clip in made.clips]), "store": store(made),
        "train": made.folds[0].train, "valid": made.folds[0].test, "seed": 5, "batch_size": 4, "n_threads": 2,
    }  # fmt: skip
    return Material(**{**settings, **changes})


def learner(**changes: Any) -> ClipLearner:
    torch.manual_seed(0)
    return ClipLearner(ColourTask().network(), material(**changes))


def drawn(of: ClipLearner, epoch: int, *ranks: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    return [(batch.inputs, labels) for batch, labels in of.batches(epoch, *ranks)]


def joined(batches: list[tuple[dict[str, Tensor], Tensor]], name: str) -> Tensor:
    return torch.cat([inputs[name] for inputs, _ in batches])


def test_every_clip_once_and_the_last_batch_filled_up() -> None:
    nine = learner()
    assert nine.n_batches() == 3
    batches = drawn(nine, 0)
    assert [len(labels) for _, labels in batches] == [4, 4, 4]
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels[:9].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(labels[9:], labels[:3])
    # the repeated clips are seen otherwise: their views are drawn anew
    waves = joined(batches, "waveform")
    assert not torch.equal(waves[9:], waves[:3])
    assert learner(batch_size=50).n_batches() == 1


def test_threads_and_seeds() -> None:
    one = drawn(learner(n_threads=0), 3)
    for n_threads in (1, 3):
        for (a, la), (b, lb) in zip(one, drawn(learner(n_threads=n_threads), 3), strict=True):
            assert torch.equal(la, lb)
            assert all(torch.equal(a[name], b[name]) for name in ("crops", "waveform"))
    for other in (drawn(learner(), 4), drawn(learner(seed=6), 3)):
        assert not torch.equal(joined(one, "waveform"), joined(other, "waveform"))


def test_two_ranks_of_a_batch_are_one_of_a_batch_twice_as_large() -> None:
    whole = drawn(learner(batch_size=4), 1)
    ranks = [drawn(learner(batch_size=2), 1, rank, 2) for rank in (0, 1)]
    assert learner(batch_size=2).n_batches(2) == len(whole) == len(ranks[0]) == len(ranks[1])
    for (inputs, labels), (first, la), (second, lb) in zip(whole, *ranks, strict=True):
        for name in inputs:
            assert torch.equal(inputs[name][0::2], first[name])
            assert torch.equal(inputs[name][1::2], second[name])
        assert torch.equal(labels[0::2], la)
        assert torch.equal(labels[1::2], lb)


def test_it_learns_and_measures(tmp_path: Path) -> None:
    config = LoopConfig(
        epochs=30, batch_size=4, learning_rate=0.2, weight_decay=0.0, optimiser="adamw", average=0.8, evaluate_every=30
    )
    torch.manual_seed(0)
    first = learner()
    before = first.eval().evaluate()
    averaged = fit(Fabric(accelerator="cpu", devices=1), first, config, tmp_path)
    found = averaged.evaluate()  # type: ignore[operator]
    assert found["accuracy"] == found["uar"] == 1.0
    assert found["nll"] < 0.3 < before["nll"]
    own = material()
    single = posteriors(own, averaged.network, own.valid[:1])  # type: ignore[arg-type]
    many = posteriors(own, averaged.network, own.valid)  # type: ignore[arg-type]
    np.testing.assert_allclose(single[0], many[0], atol=1e-6)
    nll = -np.log(many[np.arange(9), own.labels[list(own.valid)]]).mean()
    assert found["nll"] == pytest.approx(nll, rel=1e-5)


def test_in_order_whichever_thread_is_first_and_never_far_ahead() -> None:
    second_is_done = threading.Event()
    begun: list[int] = []

    def make(k: int) -> int:
        begun.append(k)
        if k == 0:
            assert second_is_done.wait(30)
        if k == 1:
            second_is_done.set()
        return k * k

    made = in_order(make, range(20), n_threads=2, n_ahead=3)
    assert next(made) == 0
    assert max(begun) <= 3
    assert list(made) == [k * k for k in range(1, 20)]


def test_what_fails_in_a_thread_fails_where_it_is_wanted() -> None:
    def make(k: int) -> int:
        if k == 2:
            raise ValueError("clip 2 is gone")
        return k

    made = in_order(make, range(5), n_threads=2, n_ahead=4)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="clip 2 is gone"):
        next(made)


def test_items_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected items alike, got arrays of .*\(2,\).* and .*\(3,\)"):
        collate([{"x": np.zeros(2)}, {"x": np.zeros(3)}])
    with pytest.raises(ValueError, match="one clip or more to learn from"):
        learner(train=())


class Spectrum(nn.Module):
    """Stands for a front end: a basis, and nothing to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.linspace(-1, 1, 64 * 8).reshape(64, 8))

    def forward(self, waveform: Tensor) -> Tensor:
        return waveform @ self.basis  # type: ignore[no-any-return, operator]


class Heard(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum, self.line = Spectrum(), nn.Linear(8, 2)
        self.seen: list[tuple[Tensor, torch.dtype]] = []

    def forward(self, batch: Batch) -> Tensor:
        spectrum = self.spectrum(batch.inputs["waveform"])
        scores = self.line(spectrum)
        self.seen.append((spectrum.detach(), scores.dtype))
        return scores.float().sum()


def test_mixed_precision_leaves_waveforms_and_front_ends_whole() -> None:
    waveform = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 64)).astype(np.float32))
    expected = waveform @ Spectrum().basis  # type: ignore[operator]
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    for kept in (False, True):
        network = Heard()
        if kept:
            keep_single_precision(network)
        module = fabric.setup_module(network)
        module(*fabric.to_device((Batch({"waveform": waveform}),)))
        spectrum, scored = network.seen[0]
        assert scored == torch.bfloat16
        assert torch.equal(spectrum, expected) == kept
        assert not torch.is_autocast_enabled("cpu")
