"""`emocast live` on a camera and a microphone that are real but no hardware: what a person at a laptop would see."""

import itertools
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from stream.feed.messages import Estimate, Status
from stream.feed.messages import Session as Opening
from stream.recording.source import RecordedSource
from stream.sources.media import Speed
from tests.live_process import Live, live_on
from tests.pulse import require_pulse
from tools.cli import run

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True, scope="module")
def devices() -> None:
    require_pulse()


@pytest.fixture
def clip(shared_clips: Path) -> Path:
    return shared_clips / "bbaf2n.mpg"


def has_face(estimate: Estimate) -> bool:
    return estimate.windows[-1].face


def has_voice(estimate: Estimate) -> bool:
    return estimate.windows[-1].voice == "present"


def by_voice_alone(estimate: Estimate) -> bool:
    return has_voice(estimate) and not has_face(estimate)


def handles(pid: int) -> tuple[int, int]:
    """Threads and open files of a process."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def test_both_modalities_come_and_the_session_says_what_it_is(short: Path, clip: Path) -> None:
    with live_on(short, clip) as (line, camera, _):
        opening = line.first(lambda message: isinstance(message, Opening))
        assert isinstance(opening, Opening)
        assert camera.url in opening.source
        assert "mic" in opening.source
        assert opening.alignment == "causal"  # it waits for no later sound
        for _ in range(8):
            both = line.estimate(lambda e: has_face(e) and has_voice(e))
        assert both.person == 1
        assert both.age_ms is not None
        status = line.first(lambda m: isinstance(m, Status) and m.drift_ppm is not None)
        assert isinstance(status, Status)
        assert status.drift_residual_ms is not None
        assert both.box is not None
        assert status.picture is not None
        assert all(0 < part < whole for part, whole in zip(both.box[2:], status.picture, strict=True))
        # A shell's background job ignores Ctrl-C, and so do the processes that it starts.
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert line.end(signal.SIGTERM if ignored else signal.SIGINT) == 0
        assert line.errors() == ""


def test_a_camera_that_goes_leaves_the_voice_and_comes_back(short: Path, clip: Path) -> None:
    with live_on(short, clip) as (line, camera, _):
        line.estimate(lambda e: has_face(e) and has_voice(e))
        camera.kill()
        assert "camera" in line.event("device_lost").text
        line.estimate(by_voice_alone)
        camera.start()
        back = line.event("device_back")
        assert "camera" in back.text
        line.estimate(has_face)
        assert line.end() == 0


def test_a_sound_server_that_goes_leaves_the_face_and_comes_back(short: Path, clip: Path) -> None:
    with live_on(short, clip) as (line, _, pulse):
        line.estimate(lambda e: has_face(e) and has_voice(e))
        pulse.stop()
        assert "microphone" in line.event("device_lost").text
        line.estimate(lambda e: has_face(e) and not has_voice(e))
        pulse.start()
        assert "microphone" in line.event("device_back").text
        line.estimate(lambda e: has_face(e) and has_voice(e))
        assert line.end() == 0


def test_devices_that_come_and_go_leave_nothing_behind(short: Path, clip: Path) -> None:
    def round_trip(line: Live) -> tuple[int, int]:
        camera.kill()
        line.event("device_lost")
        camera.start()
        line.event("device_back")
        line.estimate(has_face)
        return handles(line.pid)

    with live_on(short, clip) as (line, camera, _):
        line.estimate(lambda e: has_face(e) and has_voice(e))
        first, *others = [round_trip(line) for _ in range(4)]
        assert max(threads for threads, _ in others) <= first[0]
        assert max(files for _, files in others) <= first[1]
        assert line.end() == 0


def test_a_lossless_recording_replays_to_the_same_estimates(
    short: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = short / "talk.mkv"
    with live_on(short, clip, "--record", str(recording), "--record-lossless") as (line, camera, _):
        for _ in range(12):
            line.estimate(lambda e: has_face(e) and has_voice(e))
        camera.kill()
        line.event("device_lost")
        line.estimate(by_voice_alone)
        camera.start()
        line.event("device_back")
        line.estimate(has_face)
        assert line.end() == 0
    published = [json.loads(text) for text in (short / "talk.feed.jsonl").read_text().splitlines()]
    n = sum(message["type"] == "estimate" for message in published)
    assert n >= 14
    for speed in ("max", "realtime"):
        assert run(["replay", "--verify", str(recording), "--speed", speed]) == 0
        assert capsys.readouterr().out == f"talk.mkv: {n} of {n} estimates are identical at {speed} speed\n"


def test_a_killed_session_leaves_a_recording_up_to_its_last_second(short: Path, clip: Path) -> None:
    recording = short / "talk.mkv"
    with live_on(short, clip, "--record", str(recording)) as (line, _, _):
        for _ in range(16):
            last = line.estimate(lambda e: has_face(e) and has_voice(e))
        line.close()
    with RecordedSource(recording, speed=Speed.MAX) as source:
        items = list(source)
    assert max(getattr(item, "t_ns", 0) for item in items) / 1e9 > last.t - 1.0


def test_a_full_disk_ends_the_recording_and_not_the_session_and_is_told_at_the_end(short: Path, clip: Path) -> None:
    disk = short / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small file system, which only root may")
    try:
        with live_on(short, clip, "--record", str(disk / "talk.mkv"), "--record-lossless") as (line, _, _):
            assert "no space left on device" in line.event("recording_ended").text
            line.estimate(has_face)
            assert line.end() == 2
            errors = line.errors()
            assert errors.startswith(
                f"emocast: the recording {disk}/talk.mkv ended, what it holds can be played: no sp"
            )
            assert errors.count("\n") == 1
        with RecordedSource(disk / "talk.mkv", speed=Speed.MAX) as source:
            assert list(source)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_faults_are_injected_where_asked_for(short: Path, clip: Path) -> None:
    with live_on(short, clip, "--chaos", "camera-loss@4s+1s") as (line, _, _):
        line.event("device_lost")
        line.estimate(by_voice_alone)
        line.event("device_back")
        line.estimate(has_face)
        assert line.end() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--camera", "http://127.0.0.1:9/"], "http://127.0.0.1:9/"),
        (["--camera", "7"], "camera"),
        (["--camera", "none", "--microphone", "nobody's"], "expected a microphone"),
        (["--camera", "none", "--microphone", "none"], "expected one of them at least"),
        (["--chaos", "camera-los@1s"], "camera-loss"),
        (["--record", "talk.mp4"], "expected a recording's name to end in .mkv"),
        (["--record-lossless"], "expected --record FILE.mkv too"),
        (["--control", "tcp://127.0.0.1:*", "--keys"], "make it with emocast keys server"),
        (["--control", "tcp://*:*"], "is not a loopback address"),
        (["--record-folder", "."], "expected --control ADDRESS too"),
        (["--control", "tcp://127.0.0.1:*", "--record-folder", "/nowhere"], "expected a folder, /nowhere is none"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))  # no keys are there
    assert run(["live", "--no-feed", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("emocast: ")
    assert text in error
    assert error.count("\n") == 1


def test_a_running_session_is_controlled_from_outside(
    short: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*arguments: str) -> int:
        return run(["control", *arguments, "--address", f"ipc://{short}/control"])

    recorded = ["--record", str(short / "all.mkv"), "--record-lossless", "--record-folder", str(short)]
    with live_on(short, clip, "--control", f"ipc://{short}/control", *recorded) as (line, _, _):
        for _ in range(4):
            line.estimate(has_face)
        assert ask("status") == 0
        assert "status: running, recording all.mkv" in capsys.readouterr().out
        opening = line.messages[0]
        assert ask("set-hop", "0.5") == 0
        changed = line.first(lambda message: isinstance(message, Opening))
        assert isinstance(opening, Opening)
        assert isinstance(changed, Opening)
        assert (changed.session, changed.seq, changed.hop_s) == (opening.session, opening.seq + 1, 0.5)
        assert line.event("hop").text == "an estimate each 0.5 s"
        ends_s = [line.estimate(has_face).span[1] for _ in range(4)]
        assert {round((b - a) / 0.5, 6) % 1 for a, b in itertools.pairwise(ends_s)} == {0}
        assert ask("pause") == 0
        line.event("paused")
        status = line.first(lambda message: isinstance(message, Status) and message.hop_rate_hz == 0)
        assert isinstance(status, Status)
        n_dropped = status.drops.get("hops", 0)
        assert ask("resume") == 0
        line.event("resumed")
        line.estimate(has_face)
        status = line.first(lambda message: isinstance(message, Status))
        assert isinstance(status, Status)
        assert status.drops.get("hops", 0) <= n_dropped + 1  # a pause is no drop
        capsys.readouterr()
        for refused, text in (
            (["record", "talk.mkv"], "all.mkv is being recorded already"),
            (["set-hop", "0.3"], "the nearest is 0.25"),
        ):
            assert ask(*refused) == 2
            assert text in capsys.readouterr().err
        assert ask("stop-recording") == 0
        assert line.event("recording_stopped").text == "all.mkv is complete and can be played"
        assert ask("record", "../talk.mkv") == 2
        assert ask("record", "talk.mkv", "--lossless") == 0
        line.event("recording_started")
        assert ask("mark", "she laughs") == 0
        assert line.event("mark").text == "she laughs"
        for _ in range(3):
            line.estimate(has_face)
        assert ask("stop-recording") == 0
        line.event("recording_stopped")
        assert ask("shutdown") == 0
        assert (line.event("end").totals or {})["left_out_hops"] > 4
    capsys.readouterr()
    assert run(["replay", "--verify", str(short / "all.mkv")]) == 0
    counts = re.match(r"all.mkv: (\d+) of (\d+) estimates are identical", capsys.readouterr().out)
    assert counts is not None
    assert int(counts[1]) == int(counts[2]) >= 8
    said = [json.loads(text) for text in (short / "talk.feed.jsonl").read_text().splitlines()]
    assert (said[0]["type"], said[0]["hop_s"]) == ("session", 0.5)
    assert "she laughs" in [message.get("text") for message in said]
    assert run(["replay", "--verify", str(short / "talk.mkv")]) == 2
    assert "talk.mkv was begun in mid-session" in capsys.readouterr().err
    assert run(["replay", str(short / "talk.mkv"), "--speed", "max", "--no-feed"]) == 0
    assert "end: the source has ended" in capsys.readouterr().out
