"""Two processes that train together are one with batches twice as large."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from engines.bundle import load
from tests.train.two_ranks import LOOP, STILL, learner
from train.loop import fit


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.train.two_ranks", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert sorted(line for line in done.stdout.splitlines() if line.endswith("is done")) == [
        "rank 0 of 2 is done", "rank 1 of 2 is done",
    ]  # fmt: skip
    return folder


def weights(out: Path, rank: int, run: str) -> dict[str, torch.Tensor]:
    return torch.load(out / f"rank-{rank}.pt", weights_only=True)[run]  # type: ignore[no-any-return]


@pytest.mark.parametrize("run", ["still", "accumulated"])
def test_two_of_a_batch_are_one_of_a_batch_twice_as_large(out: Path, tmp_path: Path, run: str) -> None:
    alone = fit(Fabric(accelerator="cpu", devices=1), learner(STILL, 4), replace(LOOP, batch_size=4), tmp_path)
    for name, value in alone.state_dict().items():
        for rank in (0, 1):
            torch.testing.assert_close(weights(out, rank, run)[name], value, atol=1e-6, rtol=1e-5)
    lines, ours = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (out / run, tmp_path)
    )
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    for line, own in zip(lines, ours, strict=True):
        assert line["loss"] == pytest.approx(own["loss"], rel=1e-4)
        assert ("nll" in line) == ("nll" in own) == (line["epoch"] % 2 == 0)
        assert line.get("nll", 0.0) == pytest.approx(own.get("nll", 0.0), rel=1e-4)


def test_a_resumed_run_ends_as_an_unbroken_one_with_the_dropout_of_each_rank(out: Path) -> None:
    for rank in (0, 1):
        unbroken, resumed = weights(out, rank, "unbroken"), weights(out, rank, "resumed")
        assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    random = torch.load(out / "broken" / "checkpoint.pt", weights_only=True)["random"]
    assert random.shape[0] == 2
    assert not torch.equal(random[0], random[1])


def test_a_checkpoint_of_two_is_not_resumed_by_one(out: Path) -> None:
    with pytest.raises(ValueError, match=r"was made with ranks 2 and not 1; give the same settings"):
        fit(Fabric(accelerator="cpu", devices=1), learner(STILL, 2), LOOP, out / "still")


def test_a_protocol_of_two_ranks_leaves_one_folder(out: Path) -> None:
    assert load(out / "folds" / "odd" / "bundle").manifest.name == "colour"
    note = json.loads((out / "folds" / "odd" / "run.json").read_text())
    assert note["machine"]["devices_used"] == note["configuration"]["ranks"] == 2
    assert len((out / "folds" / "odd" / "metrics.jsonl").read_text().splitlines()) == 4
