"""The command line: what a person can mend is one line and exit code 2, whatever is wrong."""

from pathlib import Path

import pytest

from tools.cli import run

WRONG = {
    "unknown command": (["repaly"], "repaly"),
    "unknown option": (["replay", "a.mp4", "--sped", "max"], "--sped"),
    "bad choice": (["replay", "a.mp4", "--speed", "fast"], "fast"),
    "nothing to replay": (["replay"], "expected one or more files"),
    "missing file": (["replay", "/nowhere/a.mp4", "--no-feed"], "/nowhere/a.mp4"),
    "missing bundle": (["models", "show", "nobody"], "nobody"),
    "missing model": (["replay", "a.mp4", "--no-feed", "--model", "nobody"], "nobody"),
    "missing engine": (["replay", "a.mp4", "--no-feed", "--engine", "tensorrt"], "available: onnx"),
    "unknown engine": (["replay", "a.mp4", "--no-feed", "--engine", "caffe"], "caffe"),
    "bad setting": (["replay", "a.mp4", "--no-feed", "--threads", "0"], "threads"),
    "bad rate": (["replay", "a.mp4", "--no-feed", "--analysis-hz", "1"], "analysis_hz"),
    "open address": (["replay", "a.mp4", "--address", "tcp://0.0.0.0:5599"], "--insecure"),
    "no folder to write to": (["replay", "a.mp4", "--no-feed", "--out", "/nowhere/a.jsonl"], "/nowhere"),
    "missing settings": (["replay", "a.mp4", "--config", "/nowhere/a.toml"], "/nowhere/a.toml"),
    "malformed corpus": (["evaluate", "--faces", "ferplus"], "ferplus"),
    "malformed data": (["train", "default", "--data", "ferplus"], "ferplus"),
    "unknown recipe": (["train", "nothing"], "nothing"),
}


@pytest.mark.parametrize(("arguments", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("emocast: ")
    assert named in shown.err


def test_settings_come_from_a_file_and_the_command_line_goes_before_it(tmp_path: Path) -> None:
    from stream.config import SessionConfig
    from tools import cli

    taken: list[SessionConfig] = []
    settings = tmp_path / "emocast.toml"
    settings.write_text('seed = 7\nthreads = 2\nalignment = "causal"\n')

    @cli.app.command(name="probe-settings")
    def probe(*, session: cli.Session = SessionConfig()) -> int:
        taken.append(session)
        return 0

    try:
        assert run(["probe-settings", "--config", str(settings), "--seed", "9"]) == 0
    finally:
        del cli.app["probe-settings"]
    assert taken == [SessionConfig(seed=9, threads=2, alignment="causal")]  # type: ignore[arg-type]


def test_an_unknown_key_in_the_settings_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "emocast.toml"
    settings.write_text("sed = 7\n")
    assert run(["replay", "a.mp4", "--config", str(settings)]) == 2
    assert "sed" in capsys.readouterr().err


def test_models_lists_and_shows_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "default" in capsys.readouterr().out
    assert run(["models", "show", "default"]) == 0
    shown = capsys.readouterr().out
    assert "neutral, happiness, surprise, sadness, anger, disgust, fear" in shown
    assert "CC BY-NC-SA 4.0" in shown


def test_recipes_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--list"]) == 0
    assert "default" in capsys.readouterr().out
