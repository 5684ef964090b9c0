"""A protocol's folds: learned, resumed, not repeated, and all that a run leaves behind."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from matplotlib.image import imread

from engines.bundle import load
from engines.onnx_runtime import OnnxEngine
from tests.train.colour_task import LABELS, ColourConfig, ColourTask, corpus, store
from train.clips.evaluation import Summary
from train.clips.fold import Extras, hold_out
from train.clips.training import train_clips
from train.loop import LoopConfig
from train.plots import draw_confusion
from train.preparation.prepared import Prepared

LOOP = LoopConfig(
    epochs=20, batch_size=4, learning_rate=0.2, weight_decay=0.0, optimiser="adamw", average=0.8, evaluate_every=5
)


def fabric(precision: Any = "32-true") -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def trained(out: Path, *, clips: Any = None, loop: LoopConfig = LOOP, **changes: Any) -> Summary:
    settings = {"folds": ("odd",), "extras": Extras(command="emocast train colour"), **changes}
    made = corpus()
    return train_clips(
        settings.pop("task", ColourTask()), made, clips or store(made), out, loop=loop, fabric=fabric(), **settings
    )


@dataclass(frozen=True)
class Run:
    out: Path
    summary: Summary


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both folds, learned once for the whole module."""
    out = tmp_path_factory.mktemp("run")
    return Run(out, trained(out, folds=None))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_both_folds_are_learned_and_the_figure_is_their_mean(run: Run) -> None:
    assert run.summary.folds == ("odd", "even")
    assert run.summary.mean["accuracy"] == run.summary.mean["uar"] == 1.0
    assert run.summary.deviation["accuracy"] == 0.0
    assert run.summary.n == 18
    assert run.summary.confusion == ((6, 0, 0), (0, 6, 0), (0, 0, 6))
    written = json.loads((run.out / "result.json").read_text())
    assert written["mean"] == run.summary.mean
    assert (written["protocol"], written["seed"]) == ("mean of two halves", 0)


def test_what_a_fold_leaves_in_its_folder(run: Run) -> None:
    assert sorted(p.name for p in run.out.iterdir()) == ["confusion.png", "even", "odd", "result.json"]
    assert sorted(p.name for p in (run.out / "odd").iterdir()) == [
        "bundle", "checkpoint.pt", "config.json", "confusion.png", "curves.png", "metrics.jsonl", "result.json",
        "run.json", "weights.pt",
    ]  # fmt: skip
    note = json.loads((run.out / "odd" / "run.json").read_text())
    assert note["configuration"]["task"]["config"] == {"n_labels": 3, "dropout": 0.2}
    assert note["configuration"]["task"]["frame_hz"] == 12.5
    assert note["configuration"]["loop"]["learning_rate"] == 0.2
    assert note["configuration"]["corpus"]["n_train"] == 9
    assert note["versions"]["torch"] == torch.__version__
    assert note["machine"]["cores"] >= 1
    assert (note["seed"], note["command"]) == (0, "emocast train colour")
    result = json.loads((run.out / "odd" / "result.json").read_text())
    assert result["hash"] == note["hash"]
    assert result["result"]["n"] == 9
    assert result["seconds"] > 0


def test_pictures_are_drawn(run: Run) -> None:
    for path in (run.out / "confusion.png", run.out / "odd" / "confusion.png", run.out / "odd" / "curves.png"):
        picture = imread(path)[..., :3]
        assert min(picture.shape[:2]) >= 400
        assert 0.02 < (picture < 0.5).any(2).mean() < 0.6  # ink, on a page
        edge = np.concatenate(
            [picture[:3].ravel(), picture[-3:].ravel(), picture[:, :3].ravel(), picture[:, -3:].ravel()]
        )
        assert edge.min() == 1.0  # nothing is cut off


def test_long_labels_stay_in_the_picture(tmp_path: Path) -> None:
    draw_confusion(np.eye(8), ["anticipation"] * 8, tmp_path / "wide.png", title="wide")
    picture = imread(tmp_path / "wide.png")[..., :3]
    ink = (picture < 0.5).any(2)
    assert not ink[:, :5].any()
    left = np.flatnonzero(ink.any(0))[0]
    # the first ink is the axis's name, turned, some 30 pixels tall: not a label that is cut
    assert ink[:, left : left + 8].any(1).sum() < 60


def test_the_bundle_loads_and_gives_the_posteriors_that_were_measured(run: Run) -> None:
    bundle = load(run.out / "odd" / "bundle")
    manifest = bundle.manifest
    assert (manifest.name, manifest.labels, manifest.posteriors) == ("colour", LABELS, {"both": "head.posterior"})
    assert manifest.command == "emocast train colour"
    made = corpus()
    task, clips = ColourTask(), [store(made)[k] for k in made.folds[0].test]
    items = [task.inputs(clip, None) for clip in clips]
    engine = OnnxEngine(bundle.stage("head"))
    found = engine.run({name: np.stack([item[name] for item in items]) for name in items[0]})["posterior"]
    right = found.argmax(1) == [made.clips[k].label for k in made.folds[0].test]
    (score,) = manifest.scores
    assert (score.corpus, score.split, score.modality, score.n) == ("made", "odd", "both", 9)
    assert score.accuracy == right.mean() == 1.0
    result = json.loads((run.out / "odd" / "result.json").read_text())["result"]
    assert manifest.temperature.both == result["temperature"] < 1.0  # right on all, and less sure than it may be
    assert (manifest.temperature.face, manifest.temperature.voice) == (1.0, 1.0)
    assert score.ece == pytest.approx(result["ece_calibrated"], abs=6e-5)
    card = (bundle.folder / "README.md").read_text()
    assert "odd: 9 clips of 3 people; 9 to measure" in card
    assert "| made | odd | both | 9 | 100.0% | 100.0% |" in card


def test_a_complete_run_is_not_repeated(run: Run, tmp_path: Path) -> None:
    out = shutil.copytree(run.out, tmp_path / "again")
    before = files(out)

    class Gone:
        def __getitem__(self, index: int) -> Prepared:
            raise AssertionError("a clip was asked for")

    assert trained(out, clips=Gone(), folds=None) == run.summary
    assert {k: v for k, v in files(out).items() if k != "confusion.png"} == {
        k: v for k, v in before.items() if k != "confusion.png"
    }


def test_another_configuration_is_refused_and_says_what_differs(run: Run, tmp_path: Path) -> None:
    out = shutil.copytree(run.out, tmp_path / "again")
    other = ColourTask(config=ColourConfig(dropout=0.5))
    with pytest.raises(ValueError, match=r"holds a run with task\.config\.dropout 0\.2 and not 0\.5; use another"):
        trained(out, task=other)
    with pytest.raises(ValueError, match=r"holds a run with loop\.seed 0 and not 1"):
        trained(out, loop=replace(LOOP, seed=1))
    assert files(out) == files(run.out)


def test_an_interrupted_run_ends_with_the_same_bytes(run: Run, tmp_path: Path) -> None:
    class Fails(list[Prepared]):
        n_left = 90  # some epochs

        def __getitem__(self, index: Any) -> Any:
            self.n_left -= 1
            if self.n_left < 0:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="the disk is gone"):
        trained(tmp_path, clips=Fails(store(corpus())))
    n_done = len((tmp_path / "odd" / "metrics.jsonl").read_text().splitlines())
    assert 1 <= n_done < LOOP.epochs
    trained(tmp_path)
    unbroken = torch.load(run.out / "odd" / "weights.pt", weights_only=True)
    resumed = torch.load(tmp_path / "odd" / "weights.pt", weights_only=True)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    one, two = (json.loads((o / "odd" / "result.json").read_text()) for o in (run.out, tmp_path))
    assert {**one, "seconds": 0, "finished": 0} == {**two, "seconds": 0, "finished": 0}


def test_early_stop_watches_clips_that_nothing_is_learned_from(tmp_path: Path) -> None:
    loop = replace(LOOP, epochs=40, watch="accuracy", patience=2, evaluate_every=1)
    trained(tmp_path, loop=loop, extras=Extras(valid_share=0.3))
    result = json.loads((tmp_path / "odd" / "result.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "odd" / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["accuracy"])["epoch"]  # the first of the best
    assert result["kept_epoch"] == best
    assert result["epochs"] == len(lines) == best + 2 < 40
    assert result["result"]["calibrated_on"] == "valid"
    with pytest.raises(ValueError, match="expected a valid_share, clips to watch accuracy on, got 0"):
        trained(tmp_path / "other", loop=loop)


def test_held_out_are_whole_persons() -> None:
    made = corpus(n_people=10)
    fold = made.folds[0]
    train, valid = hold_out(made, fold, 0.3, seed=1)
    assert sorted(train + valid) == list(fold.train)
    assert not {made.clips[k].person for k in train} & {made.clips[k].person for k in valid}
    assert len(valid) == 6  # 2 of 5 people
    assert hold_out(made, fold, 0.3, seed=1) == (train, valid)
    assert hold_out(made, fold, 0.0, seed=1) == (fold.train, ())
    with pytest.raises(ValueError, match="people enough to hold 90% out, got 1"):
        hold_out(corpus(2), corpus(2).folds[0], 0.9, seed=0)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected folds of odd, even, got third"):
        trained(tmp_path, folds=("third",))
    with pytest.raises(ValueError, match=r"expected the labels of made, .* got those of the task, \('a', 'b', 'c'\)"):
        trained(tmp_path, task=ColourTask(labels=("a", "b", "c")))
    assert not list(tmp_path.iterdir())
