"""A replay that is asked something while it runs: a pause holds it, and what would change it is refused."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from stream.feed.control_messages import Reply
from stream.feed.subscriber import Subscriber
from tests.media_files import Audio, Video, write_media
from tools.cli import run
from tools.feeds.control import ask, request_of


@pytest.fixture
def clip(short: Path) -> Path:
    """Five seconds."""
    return write_media(short / "clip.mkv", video=Video(n_frames=125), audio=Audio(duration_s=5.0))


class Replay:
    """A replay at real-time speed in a thread of its own, from its first estimate on, and its control."""

    def __init__(self, clip: Path) -> None:
        self._address, self._out = f"ipc://{clip.parent}/control", clip.parent / "out.jsonl"
        feed = f"ipc://{clip.parent}/feed"
        arguments = ["--quiet", "--out", str(self._out), "--address", feed, "--control", self._address]
        self._code: list[int] = []
        self._thread = threading.Thread(
            target=lambda: self._code.append(run(["replay", str(clip), *arguments])), daemon=True
        )
        self._thread.start()
        with Subscriber(feed, topics=["estimate/"]) as subscriber:
            assert subscriber.receive(30.0) is not None

    def ask(self, command: str, text: str | None = None) -> Reply:
        return ask(request_of(command, text), self._address)

    def end(self) -> list[dict[str, Any]]:
        """Its messages, once it has ended."""
        self._thread.join(60)
        assert self._code == [0]
        return [json.loads(line) for line in self._out.read_text().splitlines()]


def estimates(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    plain = [{k: v for k, v in m.items() if k not in ("stamp", "age_ms")} for m in messages]
    return [m for m in plain if m["type"] == "estimate"]


def test_a_pause_holds_the_replay_and_changes_no_estimate(clip: Path) -> None:
    replay = Replay(clip)
    paused = replay.ask("pause")
    assert paused.paused
    assert paused.recording is None
    for command, text, refused in (
        ("set-hop", "0.5", "a replay scores every hop"),
        ("record", "talk.mkv", "a replay is not recorded, its file is there already"),
        ("stop-recording", None, "a replay is not recorded, so there is nothing to stop"),
    ):
        assert refused in (replay.ask(command, text).error or "")
    assert replay.ask("mark", "here").t == replay.ask("status").t  # time stands still
    assert not replay.ask("resume").paused
    messages = replay.end()
    events = [message["kind"] for message in messages if message["type"] == "event"]
    assert [kind for kind in events if not kind.startswith("face")] == ["paused", "mark", "resumed", "end"]
    out = clip.parent / "plain.jsonl"
    assert run(["replay", str(clip), "--speed", "max", "--no-feed", "--quiet", "--out", str(out)]) == 0
    plain = [json.loads(line) for line in out.read_text().splitlines()]
    assert estimates(messages) == estimates(plain)
    assert len(estimates(plain)) == 20


def test_a_paused_replay_ends_when_it_is_told_to(clip: Path) -> None:
    replay = Replay(clip)
    replay.ask("pause")
    assert replay.ask("shutdown").error is None
    last = replay.end()[-1]
    assert (last["kind"], last["text"]) == ("end", "the source has ended")
    assert last["totals"]["media_s"] < 5.0


def test_what_cannot_be_controlled_is_one_line(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))
    for arguments, text in (
        ([str(clip), "--control", "tcp://127.0.0.1:*"], "control: expected one file to replay, got 2"),
        (["--control", "tcp://*:*"], "is not a loopback address"),
        (["--control", "tcp://127.0.0.1:*", "--keys"], "there is no key in"),
    ):
        assert run(["replay", str(clip), "--no-feed", "--quiet", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
