"""Recipes on real data, run on miniature corpora: what they leave, that nothing is repeated, what they refuse."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import corpora_files as made
from tests.train.test_paired_features import arrays, written
from train.corpora.items import CorpusError
from train.real_data import matched_pairs, paired_networks
from train.real_data import recipes as real_recipes
from train.real_data.recipes import train_bilinear_faces, train_bilinear_features, train_emodal_matched
from train.real_data.runs import runs

Train = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Run:
    data: dict[str, Path]
    out: Path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two seeds, few batches, for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_recipes, "REPEATS", 2)
        patch.setattr(matched_pairs, "LOOP", replace(matched_pairs.LOOP, batch_size=4))
        patch.setattr(matched_pairs, "N_BATCHES", 1)
        patch.setattr(matched_pairs, "N_VIEWS", 2)
        patch.setattr(paired_networks, "LOOP", replace(paired_networks.LOOP, epochs=1))
        yield tmp_path_factory.mktemp("real")


def trial(train: Train, run: Run, **more: Any) -> Path:
    settings = {"seed": 4, "epochs": 1, "precision": "32-true", "threads": 1, **more}
    return train(run.data, run.out, **settings)


def results(out: Path) -> Any:
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def matched(small: Path) -> Run:
    data = {
        "ferplus": made.even_ferplus(small / "ferplus", train=2, valid=1),
        "ravdess": made.ravdess(small / "voices"),
    }
    run = Run(data=data, out=small / "matched")
    assert trial(train_emodal_matched, run) == run.out
    return run


@pytest.fixture(scope="module")
def features(small: Path) -> Run:
    folder = small / "features"
    folder.mkdir()
    run = Run(data={"ravdess-features": written(folder, arrays(n_each=1))}, out=small / "paired")
    with pytest.MonkeyPatch.context() as patch:
        kept = {k: v for k, v in paired_networks.rows().items() if k.startswith(("face", "self-self"))}
        for name in ("relation", "transformer"):  # rows of a comparison, of small work
            kept |= {
                f"{name}-{name}-{f}": paired_networks.rows()[f"{name}-{name}-{f}"] for f in ("fbp", "concatenation")
            }
        patch.setattr(paired_networks, "rows", lambda: kept)
        assert trial(train_bilinear_features, run) == run.out
    return run


def test_every_row_and_seed_of_matched_pairs_is_measured(matched: Run) -> None:
    found = results(matched.out)
    assert list(found["rows"]) == ["audio", "image", "both", "both-without-common-loss"]
    assert [row["published_per_cent"] for row in found["rows"].values()] == [52.2, 63.73, 66.02, None]
    assert "class-matched" in found["protocol"]
    for name, row in found["rows"].items():
        assert row["seeds"] == [4, 5]
        assert row["n"] == 4
        own = [run["accuracy"] for run in runs(matched.out / name)]
        assert row["accuracy"] == {"mean": pytest.approx(np.mean(own)), "std": pytest.approx(np.std(own, ddof=1))}
        assert np.sum(row["confusion"]) == 2 * 4
        assert np.trace(row["confusion"]) / 8 == pytest.approx(row["accuracy"]["mean"])
        assert (matched.out / name / "confusion.png").read_bytes().startswith(b"\x89PNG")
        assert (matched.out / name / "seed4" / "curves.png").is_file()


def test_a_complete_run_is_not_repeated_and_another_one_is_refused(matched: Run) -> None:
    path = matched.out / "audio" / "seed4" / "result.json"
    before = path.stat().st_mtime_ns
    trial(train_emodal_matched, matched, stage="audio")
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds a run with other settings"):
        trial(train_emodal_matched, matched, stage="audio", epochs=2)


def test_features_are_measured_by_fold_and_actor(features: Run) -> None:
    found = results(features.out)
    row = found["rows"]["self-self-fbp"]
    assert (row["n"], row["published_per_cent"], row["seeds"]) == (80, 54.6, [4, 5])
    for run in runs(features.out / "self-self-fbp"):
        assert np.mean(run["folds"]) == pytest.approx(run["accuracy"])
        assert np.mean(run["actors"]) == pytest.approx(run["accuracy"])
        assert (len(run["folds"]), len(run["actors"])) == (5, 10)
    assert set(found["differences"]) == {
        "FBP - concatenation, same attention twice", "both with FBP - face alone", "both concatenated - face alone",
    }  # fmt: skip


def test_the_table_says_what_the_result_says(features: Run) -> None:
    lines = (features.out / "table.md").read_text().splitlines()
    rows = results(features.out)["rows"]
    assert len(lines) == 2 + len(rows)
    for line, (name, row) in zip(lines[2:], rows.items(), strict=True):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[0] == name
        assert float(re.split(" ", cells[1])[0]) == pytest.approx(100 * row["accuracy"]["mean"], abs=0.051)
        assert cells[4] == "4, 5"


def test_faces_leave_weights_and_a_figure(small: Path) -> None:
    run = Run(data={"ferplus": made.even_ferplus(small / "faces", train=1, valid=1)}, out=small / "faces-run")
    trial(train_bilinear_faces, run)
    assert (run.out / "faces" / "weights.pt").is_file()
    row = results(run.out)["rows"]["polish"]
    assert (row["published_per_cent"], row["n"], row["seeds"]) == (88.65, 7, [4])
    assert len(row["confusion"]) == 8
    assert (run.out / "polish" / "weights.pt").is_file()


@pytest.mark.parametrize(
    ("train", "data", "stage", "text"),
    [
        (train_emodal_matched, {"ferplus": Path(".")}, None, "one or more of ravdess=DIR"),
        (
            train_emodal_matched,
            {"ferplus": Path("."), "ravdess": Path(".")},
            "voice",
            "expected a stage of audio, image",
        ),
        (train_bilinear_features, {"ravdess": Path(".")}, None, "expected --data ravdess-features=DIR, got ravdess"),
        (train_bilinear_faces, {}, None, "expected --data ferplus=DIR, got nothing"),
        (train_bilinear_faces, {"ferplus": Path(".")}, "voices", "expected a stage of faces"),
    ],
)
def test_wrong_corpora_and_stages_are_refused(
    train: Train, data: dict[str, Path], stage: str | None, text: str, tmp_path: Path
) -> None:
    with pytest.raises((CorpusError, ValueError), match=text):
        train(data, tmp_path / "out", stage=stage, precision="32-true", threads=1)
    assert not (tmp_path / "out").exists()
