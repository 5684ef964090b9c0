"""Recordings when something goes wrong: a killed process, a full disk, an encoder that is too slow, damaged files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from stream.line_file import LineFile
from stream.recording.files import RecordingError, new_files
from stream.recording.recorder import Recorder
from stream.recording.source import RecordedSource
from stream.records import AudioBlock, SourceEvent, VideoFrame
from stream.sources.media import MediaSource, Speed
from tests.media_files import truncate
from tests.recordings import assert_same, plain, record, recorded, settings
from tests.sessions import Item, MadeSource, frames, in_order, sound

SECOND_NS = 1_000_000_000
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(shared_clips: Path) -> Path:
    """3 s of a real talking face."""
    return sorted(shared_clips.glob("*.mpg"))[0]


def media_of(path: Path) -> list[Item]:
    with MediaSource(str(path), speed=Speed.MAX) as source:
        return list(source)


def recording(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.recording_process", *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# a killed process


@pytest.mark.parametrize("lossless", [True, False])
def test_after_kill_9_all_but_the_last_second_is_readable(clip: Path, tmp_path: Path, lossless: bool) -> None:
    path, reached_ns = tmp_path / "a.mkv", 0
    with recording(path, clip, "realtime", lossless) as process:
        assert process.stdout is not None
        for line in process.stdout:
            reached_ns = int(line)
            if reached_ns > 2.5 * SECOND_NS:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    *got, last = recorded(path)
    assert isinstance(last, SourceEvent)
    assert last.kind == "truncated"
    assert last.t_ns > reached_ns - SECOND_NS
    items = media_of(clip)[: len(got)]
    if lossless:
        assert_same(got, items)
    else:
        assert [plain(item)[:2] for item in got] == [plain(item)[:2] for item in items]
    for kind in ("video", "audio"):
        with av.open(str(path)) as film:  # any player
            *_, newest = film.decode(**{kind: 0})
            assert newest.time * SECOND_NS > reached_ns - SECOND_NS


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Item]]:
    """A lossless recording, and what it holds."""
    path = tmp_path_factory.mktemp("whole") / "a.mkv"
    items = media_of(clip)
    record(path, items)
    return path, items


@pytest.mark.parametrize("seed", range(15))
def test_cut_anywhere_what_is_whole_in_film_and_times_comes_back_and_nothing_else(
    whole: tuple[Path, list[Item]], tmp_path: Path, seed: int
) -> None:
    path, items = whole
    film, times = np.random.default_rng(seed).uniform(0.01, 1, 2)
    for name, fraction in ((path.name, film), ("a.times.jsonl", times), ("a.session.json", 1.0)):
        (tmp_path / name).write_bytes(path.with_name(name).read_bytes())
        truncate(tmp_path / name, fraction).replace(tmp_path / name)
    *got, last = recorded(tmp_path / "a.mkv")
    assert plain(last)[2] == "truncated"
    assert_same(got, items[: len(got)])
    assert len(got) / len(items) > min(film, times) - 0.15


def test_a_changed_picture_and_a_changed_sound_are_told_with_their_times(tmp_path: Path) -> None:
    items = in_order(frames([0.0, 0.04, 0.08], NOISE), sound(0.1))
    record(tmp_path / "a.mkv", items)
    altered = NOISE.copy()
    altered[3, 5, 1] ^= 1
    items[items.index(next(i for i in items if plain(i)[:2] == ("frame", 40_000_000)))] = VideoFrame(
        t_ns=40_000_000, image=altered
    )
    k = next(k for k, i in enumerate(items) if plain(i)[:2] == ("audio", 1024))
    block = items[k]
    assert isinstance(block, AudioBlock)
    samples = block.samples.copy()
    samples[100] = np.nextafter(samples[100], np.float32(1))
    items[k] = AudioBlock(first=1024, samples=samples)
    record(tmp_path / "b.mkv", items)
    (tmp_path / "b.mkv").replace(tmp_path / "a.mkv")
    got = recorded(tmp_path / "a.mkv")
    changed = [item for item in got if isinstance(item, SourceEvent)]
    assert [event.text for event in changed] == [
        "the picture at 0.040000 s is not the one that was recorded",
        "the sound at 0.096000 s is not the one that was recorded",
    ]
    assert_same([item for item in got if not isinstance(item, SourceEvent)], items)


# what cannot be written


def test_a_full_disk_ends_the_recording_with_one_event_and_leaves_it_playable(clip: Path, small_disk: Path) -> None:
    n_open = len(os.listdir("/proc/self/fd"))
    told = record(small_disk / "a.mkv", media_of(clip))
    assert [event.kind for event in told] == ["recording_ended"]
    assert "what it holds can be played: no space left on device; make room" in told[0].text
    assert len(os.listdir("/proc/self/fd")) == n_open
    *got, last = recorded(small_disk / "a.mkv")
    assert isinstance(last, SourceEvent)
    assert last.kind == "truncated"
    assert last.t_ns > SECOND_NS
    assert "no space left" in str(RecordedSource(small_disk / "a.mkv", speed=Speed.MAX).decisions.why)
    assert_same(got, media_of(clip)[: len(got)])


def test_a_limit_on_the_size_of_files_is_a_full_disk(clip: Path, tmp_path: Path) -> None:
    with recording(tmp_path / "a.mkv", clip, "max", True, 1_500_000) as process:
        assert process.stdout is not None
        told = [line for line in process.stdout if line.startswith("recording_ended")]
    assert process.returncode == 0
    assert len(told) == 1
    assert "file too large" in told[0]
    *got, last = recorded(tmp_path / "a.mkv")
    assert plain(last)[2] == "truncated"
    assert_same(got, media_of(clip)[: len(got)])
    assert len(got) > 20


def test_a_full_queue_ends_the_recording_with_one_event_and_keeps_what_was_queued(tmp_path: Path) -> None:
    items = in_order(sound(0.5), frames([0.5, 0.54], NOISE))
    told = record(tmp_path / "a.mkv", items, queue_bytes=NOISE.nbytes - 1)
    assert [(event.kind, event.t_ns) for event in told] == [("recording_ended", SECOND_NS // 2)]
    assert "record without --record-lossless" in told[0].text
    assert_same(recorded(tmp_path / "a.mkv"), items[:-1])
    source = RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX)
    assert source.decisions.ended
    assert not source.decisions.whole
    assert source.decisions.why is not None
    assert "more slowly" in source.decisions.why


def test_the_queue_is_bounded_in_media_time_too(tmp_path: Path) -> None:
    told = record(tmp_path / "a.mkv", frames([0.0, 0.04, 9.0], NOISE), queue_s=-1.0)  # nothing may wait
    assert [event.t_ns for event in told] == [0]
    assert len(recorded(tmp_path / "a.mkv")) == 1


def test_an_item_that_cannot_be_encoded_ends_the_recording_and_not_the_session(tmp_path: Path) -> None:
    grey = VideoFrame(t_ns=80_000_000, image=NOISE[:, :, 0])
    items = [*frames([0.0, 0.04], NOISE), grey, *frames([0.12], NOISE)]
    told = record(tmp_path / "a.mkv", items)
    assert [event.kind for event in told] == ["recording_ended"]
    got = recorded(tmp_path / "a.mkv")
    assert_same(got, items[:2])


def test_a_folder_that_cannot_be_written_is_refused_before_the_session(tmp_path: Path) -> None:
    files = new_files(tmp_path / "a.mkv")
    files.times.mkdir()  # another process was quicker
    recorder = Recorder(files, settings(MadeSource([]).info, lossless=True), told=lambda event: None)
    with pytest.raises(RecordingError, match="file exists; choose another name"), recorder:
        pass


# lines


def test_lines_are_written_when_they_have_waited_a_quarter_of_a_second(tmp_path: Path) -> None:
    now_s = [0.0]
    lines = LineFile(tmp_path / "a.jsonl", wait_s=0.25, now_s=lambda: now_s[0])
    lines.write(b"one")
    now_s[0] = 0.2
    lines.attend()
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    now_s[0] = 0.25
    lines.write(b"two")
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\ntwo\n"
    lines.write(b"x" * 70_000)
    assert (tmp_path / "a.jsonl").stat().st_size == 8 + 70_001
    lines.write(b"three")
    lines.close()
    lines.close()
    assert (tmp_path / "a.jsonl").read_bytes().endswith(b"x\nthree\n")


def test_a_full_disk_leaves_only_whole_lines_and_what_waits_is_written_once_there_is_room(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    lines, taken = LineFile(small_disk / "a.jsonl", wait_s=0.25), []

    def fill() -> None:
        for k in range(100):
            taken.append(b"%07d" % k * 10_000)
            lines.write(taken[-1])

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert (small_disk / "a.jsonl").read_bytes() == b"".join(line + b"\n" for line in taken[:-1])
    (small_disk / "ballast").unlink()
    lines.close()
    assert (small_disk / "a.jsonl").read_bytes() == b"".join(line + b"\n" for line in taken)
