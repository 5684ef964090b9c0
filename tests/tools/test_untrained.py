"""A bundle with fresh weights, made to measure speed."""

import sys
from pathlib import Path

import pytest

from engines.bundle import load
from tests import clip_corpora as made
from tests.clip_signals import scenes
from tests.sessions import played
from tools.measure.untrained import main


def test_a_full_size_recogniser_is_made_and_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [made.write_clip(tmp_path / f"{k}.mp4", scene, 2.5) for k, scene in enumerate(scenes("both", 2, 2, 3))]
    monkeypatch.setattr(sys, "argv", ["untrained", "emodal", str(tmp_path / "out"), *map(str, clips)])
    assert main() == 0
    assert "emodal-untrained" in capsys.readouterr().out
    bundle = load(tmp_path / "out")
    assert bundle.manifest.scores == bundle.manifest.trained == ()
    assert len(played(clips[0], bundles=[bundle]).estimates) >= 5  # the coded sound may end a little later
