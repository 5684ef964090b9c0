"""What a run may be told besides: steps of several batches, when to stop, what to keep, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from tests.train.tiny_learner import CONFIG, Breaks, Steady, Tiny, assert_same, changed, fabric, lines
from train.loop import LoopConfig, fit, learning_rate, make_optimiser


def test_other_hyperparameters_are_refused_and_named(tmp_path: Path) -> None:
    fit(fabric(), Tiny(), CONFIG, tmp_path)
    before = (tmp_path / "config.json").read_text()
    other = changed(learning_rate=0.1, batch_size=16)
    expected = r"checkpoint\.pt was made with batch_size 8 and not 16, learning_rate 0\.05 and not 0\.1; give the same"
    with pytest.raises(ValueError, match=expected):
        fit(fabric(), Tiny(), other, tmp_path)
    with pytest.raises(ValueError, match="was made with precision 32-true and not bf16-mixed"):
        fit(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"), Tiny(), CONFIG, tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged \(.*\); delete it to begin again"):
        fit(fabric(), Tiny(), CONFIG, tmp_path)
    torch.save({"epoch": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of this version"):
        fit(fabric(), Tiny(), CONFIG, tmp_path)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_accumulated_batches_are_a_larger_one(tmp_path: Path, optimiser: str) -> None:
    whole = fit(fabric(), Steady(1), changed(optimiser=optimiser), tmp_path / "whole")
    parts = fit(fabric(), Steady(4), changed(optimiser=optimiser, batch_size=2, accumulate=4), tmp_path / "parts")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    for one, two in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_a_remainder_is_a_step_of_its_own_size(tmp_path: Path) -> None:
    # 3 batches by 2: the last one is a step alone, as it would be were it alone in the epoch
    learner = Steady(1)
    fit(fabric(), learner, changed(accumulate=2, epochs=1, warmup_epochs=0.0), tmp_path)
    plain = Steady(1)
    optimiser = make_optimiser(plain, CONFIG)
    batches = list(plain.batches(0))
    for first, group in ((0, batches[:2]), (2, batches[2:])):
        for settings in optimiser.param_groups:
            settings["lr"] = learning_rate(changed(epochs=1, warmup_epochs=0.0), first / 3)
        optimiser.zero_grad()
        torch.autograd.backward(plain(torch.cat([x for x, _ in group]), torch.cat([y for _, y in group])))
        optimiser.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(learner.state_dict()[name], value, atol=1e-6, rtol=1e-5)


class Watched(Tiny):
    """Its evaluations give these values, an epoch after another; what is kept is the epoch's weights."""

    values = (0.2, 0.5, 0.4, 0.5, 0.3, 0.9)

    def __init__(self, until: int | None = None) -> None:
        super().__init__(until)
        self.register_buffer("n_seen", torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.training:
            self.n_seen += 1 / 3  # type: ignore[operator, misc, assignment]
        return super().forward(x, y)

    def evaluate(self) -> dict[str, float]:
        return {"score": self.values[min(5, round(float(self.n_seen)) - 1)]}  # type: ignore[arg-type]


def watching(**changes: Any) -> LoopConfig:
    # averages are the weights themselves, so that a buffer counts epochs
    return changed(average=0.0, evaluate_every=1, epochs=6, watch="score", patience=3, **changes)


@pytest.mark.parametrize(("goal", "kept", "n_epochs"), [("highest", 2, 5), ("lowest", 1, 4)])
def test_training_stops_after_patience_and_the_best_weights_are_kept(
    tmp_path: Path, goal: str, kept: int, n_epochs: int
) -> None:
    averaged = fit(fabric(), Watched(), watching(goal=goal), tmp_path)
    assert [line["epoch"] for line in lines(tmp_path)] == list(range(1, n_epochs + 1))
    assert round(float(averaged.n_seen)) == kept  # type: ignore[arg-type]
    # a run that stopped is not repeated, and still gives its best
    again = fit(fabric(), Watched(until=0), watching(goal=goal), tmp_path)
    assert_same(averaged, again)


def test_early_stop_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    unbroken = fit(fabric(), Watched(), watching(), tmp_path / "unbroken")
    with pytest.raises(Breaks):
        fit(fabric(), Watched(until=4), watching(), tmp_path / "broken")
    resumed = fit(fabric(), Watched(), watching(), tmp_path / "broken")
    assert_same(unbroken, resumed)
    assert len(lines(tmp_path / "broken")) == 5


def test_the_best_is_kept_without_patience_too(tmp_path: Path) -> None:
    averaged = fit(fabric(), Watched(), replace(watching(goal="lowest"), patience=None), tmp_path)
    assert len(lines(tmp_path)) == 6
    assert round(float(averaged.n_seen)) == 1  # type: ignore[arg-type]


def test_wrong_loops_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="watch: expected a metric of error, got 'accuracy'"):
        fit(fabric(), Tiny(), changed(watch="accuracy", evaluate_every=1), tmp_path)
    with pytest.raises(ValueError, match="patience: expected 1 or more and a metric to watch, got 3, None"):
        changed(patience=3)
    with pytest.raises(ValueError, match="accumulate: expected 1 or more, got 0"):
        changed(accumulate=0)
    with pytest.raises(ValueError, match=r"the loss of epoch 1 is nan; lower the learning rate, in another folder"):
        fit(fabric(), Steady(1), changed(learning_rate=1e30, warmup_epochs=0.0), tmp_path / "far")


def test_mixed_precision_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def mixed() -> Fabric:
        return Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")

    unbroken = fit(mixed(), Tiny(), CONFIG, tmp_path / "unbroken")
    with pytest.raises(Breaks):
        fit(mixed(), Tiny(until=2), CONFIG, tmp_path / "broken")
    assert_same(unbroken, fit(mixed(), Tiny(), CONFIG, tmp_path / "broken"))
    whole = fit(fabric(), Tiny(), CONFIG, tmp_path / "whole")
    assert any(not torch.equal(a, b) for a, b in zip(unbroken.parameters(), whole.parameters(), strict=True))
