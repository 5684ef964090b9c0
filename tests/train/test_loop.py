"""The training loop: learning rate, decay, averaged weights, and a run that is broken off at any point."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.train.tiny_learner import CONFIG, Breaks, Tiny, assert_same, fabric, lines
from train.loop import LoopConfig, fit, learning_rate, make_optimiser


def test_the_learning_rate_at_points() -> None:
    config = LoopConfig(epochs=11, learning_rate=0.2, weight_decay=0.0, optimiser="sgd", warmup_epochs=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.002)  # a hundredth
    assert learning_rate(config, 0.5) == pytest.approx(0.2 * 0.505)
    assert learning_rate(config, 1) == pytest.approx(0.2)
    assert learning_rate(config, 6) == pytest.approx(0.1)  # the middle of the cosine
    assert learning_rate(config, 3.5) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(config, 11) == pytest.approx(0.0)
    assert learning_rate(config, 12) == pytest.approx(0.0)
    short = LoopConfig(epochs=1, learning_rate=0.2, weight_decay=0.0, optimiser="sgd")
    assert learning_rate(short, 0.9) == pytest.approx(0.2 * (0.01 + 0.99 * 0.9))


def test_weights_decay_and_one_dimensional_parameters_do_not() -> None:
    module = Tiny()
    module.first.weight.requires_grad_(False)
    optimiser = make_optimiser(module, CONFIG)
    decayed, kept = optimiser.param_groups
    assert [id(p) for p in decayed["params"]] == [id(module.last.weight)]
    assert decayed["weight_decay"] == 0.01
    assert kept["weight_decay"] == 0.0
    expected = {id(p) for p in (module.first.bias, module.norm.weight, module.norm.bias, module.last.bias)}
    assert {id(p) for p in kept["params"]} == expected
    assert isinstance(optimiser, torch.optim.SGD)
    assert optimiser.defaults["momentum"] == 0.9
    assert optimiser.defaults["nesterov"] is True


def test_optimisers_by_name() -> None:
    def config(optimiser: str) -> LoopConfig:
        return LoopConfig(epochs=1, learning_rate=0.1, weight_decay=0.3, optimiser=optimiser)

    adamw = make_optimiser(Tiny(), config("adamw"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.3, 0.0]
    with pytest.raises(ValueError, match="expected optimiser 'sgd' or 'adamw', got 'adam'"):
        make_optimiser(Tiny(), config("adam"))


def test_one_run_as_plain_torch_would_do_it(tmp_path: Path) -> None:
    averaged = fit(fabric(), (learner := Tiny()), CONFIG, tmp_path)

    plain = Tiny().train()
    weights = [p for p in plain.parameters() if p.ndim > 1]
    others = [p for p in plain.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    mean: dict[str, Tensor] = {}
    for epoch in range(4):
        for step, (x, y) in enumerate(plain.batches(epoch)):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(CONFIG, epoch + step / 3)
            optimiser.zero_grad()
            torch.autograd.backward(plain(x, y))
            optimiser.step()
            for name, value in plain.state_dict().items():
                if not value.is_floating_point():
                    continue
                # the first step's weights begin the average
                mean[name] = value.clone() if name not in mean else 0.8 * mean[name] + 0.2 * value
    assert_same(plain, learner)
    assert not averaged.training
    for name, value in mean.items():
        torch.testing.assert_close(averaged.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_what_a_run_leaves_in_its_folder(tmp_path: Path) -> None:
    averaged = fit(fabric(), Tiny(), CONFIG, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "config.json", "metrics.jsonl"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["learning_rate"] == 0.05
    found = lines(tmp_path / "run")
    assert [line["epoch"] for line in found] == [1, 2, 3, 4]
    assert ["error" in line for line in found] == [False, True, False, True]
    assert found[-1]["error"] == pytest.approx(averaged.evaluate()["error"])  # type: ignore[operator]
    assert found[-1]["loss"] < found[0]["loss"]


@pytest.mark.parametrize("until", [1, 3])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path: Path, until: int, optimiser: str) -> None:
    config = LoopConfig(**{**CONFIG.__dict__, "optimiser": optimiser})
    unbroken = Tiny()
    averaged = fit(fabric(), unbroken, config, tmp_path / "unbroken")
    with pytest.raises(Breaks):
        fit(fabric(), Tiny(until=until), config, tmp_path / "broken")
    resumed = Tiny()
    averaged_again = fit(fabric(), resumed, config, tmp_path / "broken")
    assert_same(unbroken, resumed)
    assert_same(averaged, averaged_again)
    assert [line["epoch"] for line in lines(tmp_path / "broken")] == [1, 2, 3, 4]
    for one, two in zip(lines(tmp_path / "unbroken"), lines(tmp_path / "broken"), strict=True):
        assert one["loss"] == two["loss"]


def test_a_run_killed_while_saving_goes_on_from_the_epoch_before(tmp_path: Path) -> None:
    unbroken = fit(fabric(), Tiny(), CONFIG, tmp_path / "unbroken")
    with pytest.raises(Breaks):
        fit(fabric(), Tiny(until=2), CONFIG, tmp_path / "killed")
    whole = (tmp_path / "killed" / "checkpoint.pt").read_bytes()
    (tmp_path / "killed" / "checkpoint.partial").write_bytes(whole[: len(whole) // 2])
    assert_same(unbroken, fit(fabric(), Tiny(), CONFIG, tmp_path / "killed"))


def test_a_checkpoint_without_a_random_state_still_loads(tmp_path: Path) -> None:
    with pytest.raises(Breaks):
        fit(fabric(), Tiny(until=2), CONFIG, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("random")}, tmp_path / "checkpoint.pt")
    fit(fabric(), Tiny(), CONFIG, tmp_path)
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    averaged = fit(fabric(), Tiny(), CONFIG, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert_same(averaged, fit(fabric(), Tiny(until=0), CONFIG, tmp_path))
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_fewer_epochs_than_a_run_has_are_refused(tmp_path: Path) -> None:
    fit(fabric(), Tiny(), CONFIG, tmp_path)
    config = LoopConfig(**{**CONFIG.__dict__, "epochs": 2})
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt was made with epochs 4 and not 2; give the same settings, or "
    ):
        fit(fabric(), Tiny(), config, tmp_path)
