"""`emocast evaluate` from its arguments to its object, its tables and exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import load
from tests import corpora_files as made
from tests.tools.test_training import WITHOUT, one_line
from tools.cli import run
from train.evaluate import evaluate
from train.metrics import Metrics

LABELS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {
        "ferplus": made.even_ferplus(root / "ferplus", train=1, valid=2),
        "ravdess": made.ravdess(root / "rav:dess", actors=(1, 17)),  # a colon in a folder's name is no separator
        "emodb": made.emodb(root / "emodb", speakers=("03", "12", "15")),
    }


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", "default", *arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    report: dict[str, Any] = json.loads(printed.out)
    return report


def assert_reported(result: dict[str, Any], metrics: Metrics) -> None:
    assert result["n"] == metrics.n
    assert result["confusion"] == metrics.confusion.tolist()
    for name in ("accuracy", "uar", "ece"):
        assert result[name] == getattr(metrics, name)


def test_faces_as_json(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle = load("default")
    report = as_json(capsys, "--faces", f"ferplus:{folders['ferplus']}")
    expected = evaluate(bundle, faces=[("ferplus", folders["ferplus"])])["face"]
    assert list(report["results"]) == ["face"]
    assert_reported(report, expected)
    assert_reported(report["results"]["face"], expected)
    assert report["results"]["face"]["labels"] == LABELS
    assert (report["bundle"], report["sha256"]) == ("default", bundle.sha256)
    assert (report["split"], report["seed"], report["main"]) == ("valid", 0, "face")
    assert np.sum(report["confusion"]) == report["n"] == 14


def test_voices_as_json(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--voices={name}:{folders[name]}" for name in ("ravdess", "emodb")]
    report = as_json(capsys, *options, "--split", "all", "--seed", "4")
    voices = [(name, folders[name]) for name in ("ravdess", "emodb")]
    expected = evaluate(load("default"), voices=voices, split="all", seed=4)
    assert list(report["results"]) == ["voice", "ravdess", "emodb"]
    assert_reported(report, expected["voice"])
    for name, metrics in expected.items():
        assert_reported(report["results"][name], metrics)
    assert (report["split"], report["seed"], report["main"], report["n"]) == ("all", 4, "voice", 16 + 18)


def test_both_as_json_are_named_class_matched(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    faces, voices = f"ferplus:{folders['ferplus']}", f"ravdess:{folders['ravdess']}"
    report = as_json(capsys, "--faces", faces, "--voices", voices)
    expected = evaluate(
        load("default"), faces=[("ferplus", folders["ferplus"])], voices=[("ravdess", folders["ravdess"])]
    )
    assert list(report["results"]) == ["both", "face", "voice"]
    assert_reported(report, expected["both"])
    assert_reported(report["results"]["voice"], expected["voice"])
    assert report["main"] == "both"
    assert report["protocol"].startswith("class-matched pairs: a face and an utterance of two different people")


def test_tables_hold_the_same_numbers_and_the_labels(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["evaluate", "default", "--voices", f"emodb:{folders['emodb']}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    metrics = evaluate(load("default"), voices=[("emodb", folders["emodb"])])["voice"]
    numbers = ["6", f"{metrics.accuracy:.1%}", f"{metrics.uar:.1%}", f"{metrics.ece:.3f}"]
    assert ["result", "n", "accuracy", "uar", "ece"] in lines
    assert ["voice", *numbers] in lines
    assert ["emodb", *numbers] in lines
    assert [*LABELS, "recall"] in lines
    for label, row in zip(LABELS, metrics.confusion, strict=True):
        recall = f"{row[LABELS.index(label)] / row.sum():.1%}" if label != "surprise" else "-"
        assert [label, *map(str, row), recall] in lines


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["default"], "expected --faces ferplus:DIR, --voices CORPUS:DIR or both, got neither"),
        (["nobody", "--voices", "emodb:."], "expected a bundle folder or one of default, default-int8, got nobody"),
        (["default", "--faces", "ferplus"], "--faces: expected CORPUS:DIR, got 'ferplus'"),
        (["default", "--faces", "emodb:."], "--faces: expected a corpus of ferplus, got 'emodb'"),
        (
            ["default", "--voices", "ferplus:."],
            "--voices: expected a corpus of ravdess, emodb, nemo, cremad, got 'ferp",
        ),
        (["default", "--voices", "emodb:nowhere"], "--voices: expected the folder of emodb, nowhere is none"),
        (["default", "--voices", "emodb:."], "expected wav/[0-9][0-9]*.wav, .flac or .opus below ., found none"),
        (["default", "--faces", "ferplus:."], "expected FER+ with its table at fer2013new.csv, found none"),
        (["default", "--voices", "emodb:.", "--engine", "tensorrt"], "engine 'tensorrt' is not available"),
        (["default", "--voices", "emodb:.", "--split", "dev"], ""),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", *arguments]) == 2
    assert one_line(capsys).startswith(f"emocast: {text}")


def test_an_empty_split_is_one_line(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "default", "--voices", f"ravdess:{folders['ravdess']}", "--split", "test"]) == 2
    assert one_line(capsys).endswith("holds no speaker of split 'test'; try --split all")


@pytest.mark.parametrize("package", ["torch", "torchmetrics"])
def test_a_missing_extra_is_one_line(package: str) -> None:
    arguments = ["evaluate", "default", "--voices", "emodb:."]
    done = subprocess.run([sys.executable, "-c", WITHOUT, package, *arguments], capture_output=True, text=True)
    assert done.stderr == "emocast: the train extra is missing; in emocast's folder run: pip install '.[train]'\n"
    assert (done.returncode, done.stdout) == (2, "")
