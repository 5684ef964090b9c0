"""Replay from the outside: names of streams, several files in one run, the same estimates at both speeds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.media_files import Audio, Video, truncate, write_media
from tools.cli import run
from tools.replaying.replay import stream_names


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lasting(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Estimates and events without the fields that the wall clock decides."""
    kept = [m for m in messages if m["type"] in ("estimate", "event")]
    return [{k: v for k, v in m.items() if k not in ("stamp", "age_ms")} for m in kept]


def test_streams_are_named_after_their_files_once_each() -> None:
    assert stream_names(["a/talk one.mp4", "b/talk one.mkv", "rtsp://host/cam?x=1", "ö.wav"]) == [
        "talk_one",
        "talk_one-2",
        "cam",
        "stream",
    ]


def test_a_bad_file_among_good_ones_is_one_line_and_costs_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, text, out = tmp_path / "good.mp4", tmp_path / "text.mp4", tmp_path / "out.jsonl"
    write_media(good, video=Video(n_frames=25), audio=Audio())
    text.write_text("this is not a film\n")
    files = [str(good), str(text), str(tmp_path / "missing.mp4"), str(tmp_path), str(good)]
    assert run(["replay", *files, "--speed", "max", "--no-feed", "--quiet", "--out", str(out)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "text.mp4" in errors[0]
    assert "missing.mp4" in errors[1]
    assert "directory" in errors[2]
    ends = [m["stream"] for m in lines(out) if m["type"] == "event" and m["kind"] == "end"]
    assert ends == ["good", "good-2"]


def test_a_truncated_file_is_scored_as_far_as_it_goes_and_says_so(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.jsonl"
    clip = truncate(write_media(whole, video=Video(n_frames=100), audio=Audio(duration_s=4.0)), 0.5)
    assert run(["replay", str(clip), "--speed", "max", "--no-feed", "--quiet", "--out", str(out)]) == 0
    messages = lines(out)
    events = [m for m in messages if m["type"] == "event"]
    assert [m["kind"] for m in events[-2:]] == ["truncated", "end"]
    assert "4.0" in events[-2]["text"]
    n_hops = sum(m["type"] == "estimate" for m in messages)
    assert 4 <= n_hops <= 12
    assert events[-1]["totals"]["hops"] == n_hops


def test_both_speeds_publish_the_same_of_a_real_clip(tmp_path: Path, shared_clips: Path) -> None:
    clip = sorted(shared_clips.glob("*.mpg"))[0]
    for speed in ("max", "realtime"):
        out = str(tmp_path / f"{speed}.jsonl")
        assert run(["replay", str(clip), "--speed", speed, "--no-feed", "--quiet", "--out", out]) == 0
    fast, paced = lines(tmp_path / "max.jsonl"), lines(tmp_path / "realtime.jsonl")
    assert lasting(fast) == lasting(paced)
    assert len(lasting(fast)) > 12
    ages = [m["age_ms"] for m in paced if m["type"] == "estimate"]
    assert all(age is not None and age >= 0 for age in ages)
    assert all(m["age_ms"] is None for m in fast if m["type"] == "estimate")


def test_an_address_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    clip = tmp_path / "clip.mp4"
    write_media(clip, video=Video(n_frames=5))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert run(["replay", str(clip), "--address", address]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert address in error
    assert "in use" in error


def test_who_stops_reading_the_lines_costs_the_recording_nothing(tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mkv", tmp_path / "out.jsonl"
    write_media(clip, video=Video(n_frames=100))
    command = [sys.executable, "-c", "from tools.cli import main; main()", "replay", str(clip)]
    with subprocess.Popen(
        [*command, "--speed", "max", "--no-feed", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does once it has enough
        errors = process.stderr.read().splitlines()
    assert errors == ["emocast: cannot print the feed: broken pipe"]
    assert process.returncode == 2
    messages = lines(out)
    assert sum(m["type"] == "estimate" for m in messages) == 16
    assert [m["kind"] for m in messages if m["type"] == "event"].count("end") == 1
