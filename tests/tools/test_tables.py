"""`emocast tables` from its arguments to its lines, files and exit codes."""

import io
import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import clip_corpora
from tools.recognisers.tables import tables
from tools.recognisers.train_options import TableOptions

SETTINGS = ("crop_px=24", "image_widths=4,6,8", "image_hidden=16", "loop.batch_size=8")
KEY = "Table 1: image-only"


def call(root: Path, *, rows: str | None = "image-only", data: Sequence[str] | None = None, **options: Any) -> int:
    given = [f"folders={root / 'corpus'}"] if data is None else data
    paper = options.pop("paper", "emodal")
    settings = {"epochs": 2, "set": SETTINGS, "threads": 1, "workers": 1, "accelerator": "cpu", **options}
    return tables(paper, given, rows=rows, options=TableOptions(out=root / "out", **settings))


@dataclass(frozen=True)
class Call:
    root: Path
    printed: list[str]  # the last two lines
    code: int


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """A row of a real miniature corpus: encoded clips, faces found, trained, exported."""
    root = tmp_path_factory.mktemp("tables")
    clip_corpora.folders(root / "corpus", "both", 12, 4, duration_s=0.4)
    with redirect_stdout(io.StringIO()) as printed:
        code = call(root)
    return Call(root, printed.getvalue().splitlines()[-2:], code)


def run_files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "out" / "runs").rglob("*") if path.is_file()}


def test_forty_rows_and_more_are_listed_with_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables(None, []) == tables(None, [], list_=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    lines = lines[: len(lines) // 2]
    assert lines[0].split() == ["paper", "row", "published", "ours"]
    rows, figures = lines[1:-1], [line for line in lines[1:-1] if " % " in line]
    assert {line.split()[0] for line in rows} == {"temporal", "icanet", "skeleton", "emodal", "bilinear"}
    assert len(figures) >= 40
    assert lines[-1].startswith(f"{len(rows)} rows, {len(figures)} with a published figure; ")
    assert sum("not run" not in line for line in figures) == int(lines[-1].split("; ")[1].split()[0]) >= 40
    assert "icanet IV-D: 4:2:4 80.77 % 3 trainings, fused" in (" ".join(line.split()) for line in rows)
    assert any("Table 1: IR50, RAF-DB" in line and line.endswith("no reader for this corpus: RAF-DB") for line in rows)


def test_a_paper_and_a_pattern_are_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables("emodal", [], list_=True) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "emodal  Table 1: audio-only      52.2 %  one training",
        "emodal  Table 1: image-only     63.73 %  one training",
        "emodal  Table 1: audio+image    66.02 %  one training",
        "3 rows, 3 with a published figure; 3 of these can be run here",
    ]
    assert tables(None, [], list_=True, rows="ResNet18, FER+") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 rows, 1 with")


def test_a_row_is_run_and_written_beside_its_figure(done: Call) -> None:
    assert done.code == 0
    out = done.root / "out"
    assert {path.name for path in out.iterdir()} == {"cache", "runs", "emodal.json", "emodal.md", "emodal.png"}
    (outcome,) = json.loads((out / "emodal.json").read_text())["outcomes"]
    (run,) = (out / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert outcome["accuracy"] == pytest.approx(100 * result["mean"]["accuracy"])
    assert outcome["uar"] == pytest.approx(100 * result["mean"]["uar"])
    assert (outcome["row"], outcome["n"], outcome["runs"]) == (KEY, 4, [f"runs/{run.name}"])
    trial = "2 epochs, not 60; with " + ", ".join(SETTINGS)
    line = f"emodal, {KEY}, folders: {outcome['accuracy']:.2f} % (published 63.73 %), a trial: {trial}"
    assert done.printed == [line, f"tables: {out / 'emodal.md'}"]
    text = (out / "emodal.md").read_text()
    figures = f"| image-only | 63.73 | {outcome['accuracy']:.2f} | – | {outcome['uar']:.2f} | 4 | 1 | 2 | 0 | "
    assert figures in text
    assert f"folders; **trial**: {trial} |" in text
    assert result["protocol"] in text
    assert "cores of " in text
    bundle = json.loads((run / "split" / "bundle" / "bundle.json").read_text())
    options = " ".join(f"--set {setting}" for setting in SETTINGS)
    assert bundle["command"] == f"emocast tables emodal --data folders=DIR --epochs 2 {options}"


def test_a_second_call_repeats_nothing(done: Call, capsys: pytest.CaptureFixture[str]) -> None:
    before = run_files(done.root)
    assert call(done.root) == 0
    assert capsys.readouterr().out.splitlines() == done.printed
    assert run_files(done.root) == before
    # of all papers, that with a corpus of its own
    assert call(done.root, paper=None) == 0
    assert capsys.readouterr().out.splitlines() == done.printed
    assert run_files(done.root) == before


def test_a_row_that_fails_says_why_and_clips_can_be_left_out_on_purpose(
    done: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done.root / "corpus", tmp_path / "corpus")
    clip = tmp_path / "corpus" / "angry" / "clip 004.mp4"
    clip.write_bytes(clip.read_bytes()[:2000])  # a download that broke off
    assert call(tmp_path) == 2
    begin = f"emodal, {KEY}, folders: no result: 1 of 12 clips of folders cannot be used: folders/angry/clip 004 ("
    assert any(line.startswith(begin) for line in capsys.readouterr().out.splitlines())
    out = tmp_path / "out"
    assert "| image-only | 63.73 |" + " – |" * 8 + " no result: 1 of 12 clips" in (out / "emodal.md").read_text()
    assert call(tmp_path, leave_out=out / "cache" / "folders-bad-clips.txt") == 0
    text = (out / "emodal.md").read_text()
    assert "; clips left out: 1 |" in text
    assert "no result" not in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"paper": "emodial"}, "expected a paper of temporal, icanet, skeleton, emodal, bilinear, got 'emodial'"),
        ({"data": ["iemocap"]}, "--data: expected CORPUS=DIR, got 'iemocap'"),
        ({"data": ["ravdess=."]}, "--data: expected a corpus of folders, "),
        ({"data": ["folders=nowhere"]}, "--data: expected the folder of folders, nowhere is none"),
        ({"data": []}, "expected --data NAME=DIR with corpora of folders, "),
        ({"rows": "Table 9"}, "--rows: expected a pattern of rows of emodal"),
        ({"rows": "Table 9", "paper": None}, "--rows: expected a pattern of rows, none matches 'Table 9'"),
        ({"epochs": 0}, "--epochs: expected 1 or more, got 0"),
        ({"fold": ("fold1",)}, "expected folds of folders: split; got fold1"),
        ({"set": ("crop_px",)}, "--set: expected NAME=VALUE, got 'crop_px'"),
        ({"set": ("crop_px=24", "crop_px=32")}, "--set: expected crop_px once, got it twice"),
        ({"set": ("crop=24",)}, "expected settings of emodal: "),
        ({"set": ("loop.speed=2",)}, "expected a setting of batch_size, "),
        ({"weights": ("FER+=nowhere",)}, "emodal takes no networks that were trained before, got weights of FER+"),
        ({"leave_out": Path("nowhere")}, "--leave-out: expected a file of clip names, nowhere is none"),
    ],
)
def test_wrong_use_is_one_line(options: dict[str, Any], text: str, done: Call) -> None:
    before = run_files(done.root)
    with pytest.raises(ValueError) as error:
        call(done.root, **options)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)
    assert run_files(done.root) == before


def test_names_to_leave_out_must_be_of_the_corpus(done: Call, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# a comment\nfolders/angry/unknown\n")
    with pytest.raises(ValueError, match="got 1 that it does not have: folders/angry/unknown"):
        call(done.root, leave_out=tmp_path / "names.txt")
