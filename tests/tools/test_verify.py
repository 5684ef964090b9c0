"""Verification: a recorded session, analysed again, says the same, or where and why it does not."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from msgspec.structs import replace

from engines.bundle import BundleError
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Message
from stream.feed.publisher import Feed
from stream.recording.files import RecordingError, files_of
from stream.recording.settings import RecordedSession
from stream.recording.source import RecordedSource
from stream.recording.switch import RecordingSwitch
from stream.records import AudioBlock, SourceInfo, VideoFrame
from stream.session import Session
from stream.source import Item, complete_ns
from stream.sources.media import MediaSource, Speed
from tests.media_files import truncate
from tests.recordings import record, record_session, settings
from tests.sessions import BUNDLE, MadeSource, frames, in_order, sound
from tools.cli import run
from tools.replaying.compare_estimates import difference
from tools.replaying.verify import verify


@pytest.fixture(scope="module")
def clip(shared_clips: Path) -> Path:
    """3 s of a real talking face."""
    return sorted(shared_clips.glob("*.mpg"))[0]


@pytest.fixture(scope="module")
def original(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded session of it."""
    path = tmp_path_factory.mktemp("original") / "talk.mkv"
    record_session(path, MediaSource(str(clip), speed=Speed.MAX))
    return path


@pytest.fixture
def talk(original: Path, tmp_path: Path) -> Path:
    """A copy of the recording, to be changed."""
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / original.name


def change_settings(path: Path, **settings: Any) -> None:
    session = files_of(path).session
    session.write_text(json.dumps({**json.loads(session.read_text()), **settings}))


def change_feed(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    feed = files_of(path).feed
    messages = change([json.loads(line) for line in feed.read_text().splitlines()])
    feed.write_text("".join(f"{json.dumps(message)}\n" for message in messages))


def estimates(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == "estimate"]


# the same


@pytest.mark.parametrize("speed", list(Speed))
def test_every_estimate_is_identical_at_either_speed(
    original: Path, capsys: pytest.CaptureFixture[str], speed: Speed
) -> None:
    assert verify(original, speed=speed) == 0
    assert capsys.readouterr().out == f"talk.mkv: 12 of 12 estimates are identical at {speed} speed\n"


class Watched(MediaSource):
    """A file at its own pace; `await_ns` waits until it has come so far, or has ended."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), speed=Speed.REALTIME)
        self._changed, self._reached_ns = threading.Condition(), 0

    def __iter__(self) -> Iterator[Item]:
        for item in super().__iter__():
            self._reach(complete_ns(item))
            yield item
        self._reach(10**18)

    def _reach(self, t_ns: int) -> None:
        with self._changed:
            self._reached_ns = t_ns
            self._changed.notify_all()

    def await_ns(self, t_ns: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._reached_ns >= t_ns)


def test_the_segments_that_a_slow_live_session_left_out_are_left_out_again(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Watched(clip)

    def slowly(message: Message) -> None:
        if isinstance(message, Estimate):  # four hops' time for each
            source.await_ns((message.span[1] + 1.25) * 1e9)

    totals = record_session(tmp_path / "slow.mkv", source, delivery=Delivery.DROP_OLDEST, before=slowly)
    assert totals["dropped_hops"] >= 3
    decisions = RecordedSource(tmp_path / "slow.mkv", speed=Speed.MAX).decisions
    assert totals["dropped_hops"] == len(decisions.left_out_segments)
    assert verify(tmp_path / "slow.mkv") == 0
    n = 12 - len(decisions.left_out_segments)
    assert f"{n} of {n} estimates are identical" in capsys.readouterr().out


def test_the_segments_that_somebody_asked_to_leave_out_are_left_out_again(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def steer(session: Session, message: Message) -> None:
        if isinstance(message, Estimate):
            session.choice.set_hop({0.75: 0.5, 2.25: 0.25}.get(message.span[1], session.choice.hop_s))

    totals = record_session(tmp_path / "set.mkv", MediaSource(str(clip), speed=Speed.MAX), steer=steer)
    assert (totals["hops"], totals["left_out_hops"]) == (9, 3)
    decisions = RecordedSource(tmp_path / "set.mkv", speed=Speed.MAX).decisions
    assert decisions.left_out_segments == {3, 5, 7}
    assert verify(tmp_path / "set.mkv") == 0
    assert capsys.readouterr().out == "set.mkv: 9 of 9 estimates are identical at max speed\n"


class Gated(MediaSource):
    """A file that stands still at 2.25 s until it is let on."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), speed=Speed.MAX)
        self.opened = threading.Event()

    def __iter__(self) -> Iterator[Item]:
        for item in super().__iter__():
            if complete_ns(item) > 2_250_000_000:
                assert self.opened.wait(60)
            yield item


def recorded_in_part(path: Path, clip: Path, steer: Callable[[RecordingSwitch], None], **first: Any) -> None:
    """Analyses a clip of which 2.25 s come, then calls `steer`, and then the rest of it comes."""
    config = SessionConfig(engine="onnx")

    def make(info: SourceInfo, *, lossless: bool, began_s: float | None) -> RecordedSession:
        return replace(settings(info, lossless=lossless, config=config), began_s=began_s)

    switch = RecordingSwitch(path.parent, make, tell=lambda event: session.tell(event), **first)

    with Feed([switch], delivery=Delivery.WAIT) as feed:

        def publish(message: Message) -> None:
            feed.publish(message)
            if isinstance(message, Estimate) and message.span[1] == 1.5:
                steer(switch)
                source.opened.set()

        source = Gated(clip)
        session = Session(source, [BUNDLE], publish, config, witness=switch.witness)
        session.run()


def test_a_recording_that_was_stopped_is_compared_as_far_as_it_goes(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "part.mkv"
    recorded_in_part(path, clip, lambda switch: switch.stop(t_ns=0), first=files_of(path), lossless=True)
    assert 2.0 < RecordedSource(path, speed=Speed.MAX).decisions.end_ns / 1e9 <= 2.25
    assert verify(path) == 0
    head = capsys.readouterr().out.splitlines()[0]
    counts = re.fullmatch(r"part.mkv: (\d+) of (\d+) estimates are identical at max speed", head)
    assert counts is not None
    assert 4 <= int(counts[1]) == int(counts[2]) <= 6


def test_a_recording_begun_in_mid_session_is_refused_in_one_line_and_replays(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "late.mkv"
    recorded_in_part(path, clip, lambda switch: switch.record("late.mkv", lossless=True, t_ns=2_250_000_000))
    with pytest.raises(RecordingError, match=r"late.mkv was begun in mid-session, after 2\.250 s: what came before"):
        verify(path)
    assert json.loads(files_of(path).feed.read_text().splitlines()[0])["type"] == "session"
    capsys.readouterr()
    assert run(["replay", str(path), "--speed", "max", "--no-feed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "end: the source has ended" in lines[-1]
    assert not any("truncated" in line for line in lines)


def test_the_pictures_that_a_live_session_dropped_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portrait = np.asarray(skimage.data.astronaut())[:256, 96:352]
    pictures = [
        VideoFrame(t_ns=frame.t_ns, image=np.roll(portrait, k % 40, axis=1))
        for k, frame in enumerate(frames((np.arange(600) / 25 + 0.001).tolist(), portrait))
    ]
    blocks = [block for block in sound(24.0) if not 80_000 <= block.first < 120_000]
    source = MadeSource(in_order(pictures, blocks))  # 24 s at once, a few seconds of work
    totals = record_session(tmp_path / "live.mkv", source, delivery=Delivery.DROP_OLDEST)
    decisions = RecordedSource(tmp_path / "live.mkv", speed=Speed.MAX).decisions
    assert totals["dropped_frames"] == len(decisions.dropped_frames) > 100
    assert totals["dropped_audio_samples"] == 0
    assert verify(tmp_path / "live.mkv") == 0
    n = int(totals["estimates"])
    assert f"{n} of {n} estimates are identical" in capsys.readouterr().out


def test_left_out_segments_are_left_out_again(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = files_of(talk).times
    note = '{"type":"note","kind":"left_out_segment","value":3}\n'
    times.write_text(note + times.read_text())
    assert verify(talk) == 2
    parting = capsys.readouterr().out.splitlines()[1]
    assert re.fullmatch(r"  they part first at t 0\.\d+ s, person 1, t: recorded 0\.\d+, replayed 1\.\d+", parting)


def test_a_recording_whose_process_was_killed_is_compared_as_far_as_it_goes(
    talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (talk, files_of(talk).times):
        truncate(file, 0.6).rename(file)
    change_feed(talk, lambda messages: messages[:-3])  # its last second was not written, nor its end
    assert verify(talk) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = re.fullmatch(r"talk.mkv: (\d+) of (\d+) estimates are identical at max speed", lines[0])
    assert counts is not None
    assert counts[1] == counts[2]
    assert 2 <= int(counts[1]) <= 6
    assert "after the end of what was recorded" in lines[1]


def test_an_interrupted_session_may_have_said_less_than_its_media_hold(talk: Path) -> None:
    def interrupted(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = estimates(messages)[-1]
        return [{**m, "text": "interrupted"} if m.get("kind") == "end" else m for m in messages if m is not last]

    change_feed(talk, interrupted)
    assert verify(talk) == 0


def test_another_engine_is_compared_within_its_tolerance(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def a_little_off(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for estimate in estimates(messages):
            estimate["confidence"] = max(estimate["confidence"] - 0.01, 0)
            estimate["label"] = "fear"
        return messages

    change_settings(talk, engine="tensorrt")
    change_feed(talk, a_little_off)
    assert verify(talk) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "talk.mkv: 12 of 12 estimates are the same within 0.02 at max speed"
    assert lines[1].startswith("  recorded on tensorrt (cpu), which is not here")


# not the same


def test_a_changed_estimate_is_named_with_both_values(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def altered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        estimates(messages)[4]["posterior"]["anger"] = 0.5
        estimates(messages)[7]["windows"][2]["voice"] = "gap"
        return messages

    change_feed(talk, altered)
    change_settings(talk, versions={"onnxruntime": "1.0.0"})
    assert verify(talk) == 2
    head, parting, version = capsys.readouterr().out.splitlines()
    assert head == "talk.mkv: 10 of 12 estimates are identical at max speed"
    assert re.fullmatch(
        r"  they part first at t 1\.\d+ s, person 1, posterior\.anger: recorded 0\.5, replayed 0\.\d+", parting
    )
    assert version.startswith("  recorded with onnxruntime 1.0.0, replayed with ")


@pytest.mark.parametrize(("change", "text"), [
    (lambda messages: [m for m in messages if m is not estimates(messages)[-1]], "replayed, but not in the recorded"),
    (lambda messages: [*messages, estimates(messages)[-1]], "recorded, but not replayed"),
])  # fmt: skip
def test_one_too_many_or_too_few_is_a_parting(
    talk: Path, capsys: pytest.CaptureFixture[str], change: Any, text: str
) -> None:
    change_feed(talk, change)
    assert verify(talk) == 2
    assert text in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize("what", ["picture", "sound"])
def test_a_changed_pixel_or_sample_is_found_and_named(
    talk: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    with MediaSource(str(clip), speed=Speed.MAX) as source:
        items = list(source)
    for k, item in enumerate(items):
        if what == "picture" and isinstance(item, VideoFrame) and item.t_ns == 1_000_000_000:
            image = item.image.copy()
            image[0, 0, 0] ^= 1
            items[k] = VideoFrame(t_ns=item.t_ns, image=image)
        if what == "sound" and isinstance(item, AudioBlock) and item.first == 512 * 31:
            items[k] = AudioBlock(first=item.first, samples=item.samples + np.float32(2**-20))
    record(tmp_path / "other.mkv", items)
    (tmp_path / "other.mkv").replace(talk)
    assert verify(talk) == 2
    at = "1.000000" if what == "picture" else "1.024000"
    assert f"  the {what} at {at} s is not the one that was recorded" in capsys.readouterr().out.splitlines()


# refused


def test_a_lossy_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    record(tmp_path / "a.mkv", [*sound(0.1)], lossless=False)
    with pytest.raises(RecordingError, match="made with --record-lossless"):
        verify(tmp_path / "a.mkv")


@pytest.mark.parametrize(("settings", "text"), [
    ({"bundles": [{"model": "default", "name": "default", "sha256": "0" * 64}]}, "with SHA-256 0000000000000000"),
    ({"bundles": []}, "expected 0 models"),
    ({"config": {"model": ["default"], "mood": 1}, "versions": {"emocast": "9.1"}}, "has mood of emocast 9.1"),
    ({"config": {"model": ["default"], "analysis_hz": 1}}, "analysis_hz: expected 4 to 1000"),
])  # fmt: skip
def test_settings_that_cannot_be_repeated_are_refused_in_one_line(
    talk: Path, settings: dict[str, Any], text: str
) -> None:
    change_settings(talk, **settings)
    with pytest.raises(RecordingError, match=text) as error:
        verify(talk)
    assert "\n" not in str(error.value)


def test_the_recogniser_may_lie_elsewhere_by_now(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_settings(talk, config={"model": ["/gone/bundle"], "engine": "onnx"})
    with pytest.raises(BundleError, match="/gone/bundle"):
        verify(talk)
    assert verify(talk, models=["default"]) == 0
    assert "12 of 12" in capsys.readouterr().out


def test_a_feed_that_is_gone_or_empty_is_refused(talk: Path) -> None:
    change_feed(talk, lambda messages: [])
    with pytest.raises(RecordingError, match="holds none"):
        verify(talk)
    files_of(talk).feed.unlink()
    with pytest.raises(RecordingError, match="copy all files"):
        verify(talk)


@pytest.mark.parametrize(("recorded", "replayed", "tolerance", "text"), [
    ({"a": 1.0, "stamp": "x"}, {"a": 1.0, "stamp": "y"}, 0.0, ""),
    ({"a": {"b": (1, 2)}}, {"a": {"b": [1, 3]}}, 0.0, "a.b[1]: recorded 2, replayed 3"),
    ({"a": [1]}, {"a": [1, 2]}, 0.0, "a: recorded [1], replayed [1, 2]"),
    ({"a": 1, "label": "x"}, {"a": 1, "label": None}, 0.0, "label: recorded x, replayed None"),
    ({"p": 0.5, "label": "x"}, {"p": 0.51, "label": None}, 0.02, ""),
    ({"p": 0.5}, {"p": 0.53}, 0.02, "p: recorded 0.5, replayed 0.53"),
    ({"p": {}}, {"p": {"age_ms": 1}}, 0.0, "p.age_ms: recorded None, replayed 1"),
])  # fmt: skip
def test_the_first_difference(recorded: Any, replayed: Any, tolerance: float, text: str) -> None:
    assert difference(recorded, replayed, tolerance=tolerance) == text


def test_the_settings_are_all_that_was_asked_for(tmp_path: Path) -> None:
    config = SessionConfig(engine="onnx", seed=7, analysis_hz=5, alignment=None)
    record_session(tmp_path / "a.mkv", MadeSource([*sound(0.5)]), config=config)
    settings = RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX).settings
    assert settings.session_config() == config
    assert (settings.stream, settings.has_video, settings.has_audio) == ("a", False, True)
    assert settings.labels[:2] == ("neutral", "happiness")
    assert settings.versions["emocast"] == "0.1.0"
