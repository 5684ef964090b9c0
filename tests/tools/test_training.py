"""`emocast train` from its arguments to its lines and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import corpora_files as made
from tools.cli import run
from tools.recognisers.train_options import TrainOptions
from tools.recognisers.training import list_recipes, train

# Stands for an environment without the package: Python then says that there is no such module.
WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; from tools.cli import run; sys.exit(run(sys.argv[2:]))"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {
        "ferplus": made.even_ferplus(root / "ferplus", train=1, valid=1),
        "ravdess": made.ravdess(root / "ravdess", seconds=0.3),
    }


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of standard error; nothing may be on standard output."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    return printed.err[:-1]


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes() == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["recipe", "corpora", "makes"]
    names = [line.split()[0] for line in printed.splitlines()[1:] if not line.startswith(" ")]
    assert names == [
        "default", "default-int8", "emodal-matched", "bilinear-features", "bilinear-faces",
        "icanet", "skeleton", "emodal", "bilinear", "temporal",
    ]  # fmt: skip
    assert run(["train", "--list"]) == run(["train"]) == 0
    assert capsys.readouterr().out == printed * 2


def test_a_stage_is_trained_and_its_place_is_printed(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [f"--data={name}={folder}" for name, folder in folders.items()]
    options = ["--stage", "faces", "--epochs", "1", "--precision", "32-true", "--threads", "1", "--seed", "5"]
    assert run(["train", "default", *data, *options, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"stage faces: {tmp_path / 'out' / 'faces'}"
    assert (tmp_path / "out" / "faces" / "weights.pt").is_file()
    note = json.loads((tmp_path / "out" / "run.jsonl").read_text())
    assert (note["stage"], note["seed"], note["data"]) == ("faces", 5, ["ferplus", "ravdess"])
    config = json.loads((tmp_path / "out" / "faces" / "config.json").read_text())
    assert (config["epochs"], config["seed"]) == (1, 5)


def test_a_run_lies_in_runs_where_no_folder_is_given(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [f"{name}={folder}" for name, folder in folders.items()]
    code = train("default", data, TrainOptions(stage="faces", epochs=1, precision="32-true", threads=1))
    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"stage faces: {Path('runs/default/faces')}"
    assert (tmp_path / "runs" / "default" / "faces" / "weights.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["defualt"], "expected a recipe of default, "),
        (["default"], "expected --data ferplus=DIR and one or more of ravdess=DIR, emodb=DIR, nemo=DIR, cremad=DIR, "),
        (["default", "--data", "ferplus"], "--data: expected CORPUS=DIR, got 'ferplus'"),
        (["default", "--data", "ferplus="], "--data: expected CORPUS=DIR, got 'ferplus='"),
        (["default", "--data", "=."], "--data: expected CORPUS=DIR, got '=.'"),
        (
            ["default", "--data", "fer=."],
            "--data: expected a corpus of ferplus, ravdess, emodb, nemo, cremad, got 'fer'",
        ),
        (["default", "--data", "emodb=.", "--data", "emodb=.."], "--data: expected emodb once, got . and .."),
        (["default", "--data", "emodb=nowhere"], "--data: expected the folder of emodb, nowhere is none"),
        (["default", "--epochs", "0"], "--epochs: expected 1 or more, got 0"),
        (["default", "--threads", "-1"], "--threads: expected 1 or more, got -1"),
        (["default", "--fold", "0"], "recipe default takes no --fold; leave it out"),
        (["emodal", "--stage", "faces"], "recipe emodal takes no --stage; leave it out"),
        (["emodal"], "expected --data NAME=DIR with one corpus of folders, "),
        (["emodal", "--data", "fer=."], "--data: expected a corpus of folders, "),
        (["emodal", "--data", "folders=.", "--set", "width"], "--set: expected NAME=VALUE, got 'width'"),
        (["emodal", "--leave-out", "nowhere"], "--leave-out: expected a file of clip names, nowhere is none"),
        (["emodal", "--valid-share", "1"], "--valid-share: expected a share from 0 to below 1, got 1.0"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", *arguments]) == 2
    assert one_line(capsys).startswith(f"emocast: {text}")
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_in_another_layout_is_one_line(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    data = [f"--data=ferplus={tmp_path / 'empty'}", f"--data=ravdess={folders['ravdess']}"]
    options = ["--stage", "faces", "--precision", "32-true", "--out", str(tmp_path / "out")]
    assert run(["train", "default", *data, *options]) == 2
    expected = f"emocast: expected FER+ with its table at {tmp_path / 'empty' / 'fer2013new.csv'}, found none"
    assert one_line(capsys).startswith(expected)


def test_an_unknown_stage_and_an_unknown_precision_are_one_line(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [f"--data={name}={folder}" for name, folder in folders.items()]
    assert run(["train", "default", *data, "--stage", "head", "--out", str(tmp_path / "out")]) == 2
    assert one_line(capsys) == "emocast: expected a stage of faces, polish, voices, pairs, bundle, got 'head'"
    assert run(["train", "default", *data, "--precision", "7-bit", "--out", str(tmp_path / "out")]) == 2
    assert "7-bit" in one_line(capsys)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("torch", ["train", "--list"]), ("lightning", ["train", "default"]), ("onnx", ["train", "--list"])],
)
def test_a_missing_extra_is_one_line(package: str, arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, package, *arguments], capture_output=True, text=True)
    assert done.stderr == "emocast: the train extra is missing; in emocast's folder run: pip install '.[train]'\n"
    assert (done.returncode, done.stdout) == (2, "")
