"""Recordings: what comes back is what went in, an ordinary player sees the same, and nothing is overwritten."""

from pathlib import Path

import av
import numpy as np
import pytest

from stream.clock import ManualClock
from stream.recording.files import RecordingError, new_files
from stream.recording.source import RecordedSource
from stream.records import AudioBlock, SourceEvent, VideoFrame
from stream.sources.media import MediaSource, Speed
from tests.recordings import assert_same, record, recorded
from tests.sessions import Item, frames, in_order, sound

MS = 1_000_000


def noise(t_ns: int, width_px: int = 64, height_px: int = 48) -> VideoFrame:
    """A picture that no codec can guess."""
    image = np.random.default_rng(t_ns).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    return VideoFrame(t_ns=t_ns, image=image)


def media_of(path: Path) -> list[Item]:
    with MediaSource(str(path), speed=Speed.MAX) as source:
        return list(source)


# what comes back


def test_a_real_clip_comes_back_bit_by_bit(shared_clips: Path, tmp_path: Path) -> None:
    items = media_of(sorted(shared_clips.glob("*.mpg"))[0])
    assert record(tmp_path / "a.mkv", items) == []
    assert len(items) > 100
    assert_same(recorded(tmp_path / "a.mkv"), items)


def test_odd_times_gaps_overlaps_and_events_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks, first = [], -30
    for n in (1, 700, 512, 333, 1600, 2, 4000):
        blocks.append(AudioBlock(first=first, samples=rng.uniform(-1, 1, n).astype(np.float32)))
        first += n + (9000 if n == 512 else 0) - (100 if n == 1600 else 0)
    pictures = [noise(t_ns) for t_ns in (3, 4, 33_333_333, 33_900_001, 71_234_567, 900 * MS, 901 * MS)]
    lost = SourceEvent(t_ns=2, kind="device_lost", text="gone — “for now”")
    items: list[Item] = [lost, *in_order(pictures, blocks)]
    record(tmp_path / "a.mkv", items)
    assert_same(recorded(tmp_path / "a.mkv"), items)


@pytest.mark.parametrize("track", ["video", "audio"])
def test_a_single_track_comes_back(tmp_path: Path, track: str) -> None:
    items: list[Item] = [noise(k * 40 * MS) for k in range(5)] if track == "video" else [*sound(0.5)]
    record(tmp_path / "a.mkv", items)
    assert_same(recorded(tmp_path / "a.mkv"), items)


def test_a_lossless_picture_of_another_size_begins_another_file(tmp_path: Path) -> None:
    sizes = [(64, 48), (64, 48), (131, 97), (131, 97), (1, 1), (64, 48)]
    pictures = [noise(k * 40 * MS, *size) for k, size in enumerate(sizes)]
    items = in_order(pictures, sound(0.24))
    record(tmp_path / "a.mkv", items)
    assert sorted(path.name for path in tmp_path.glob("*.mkv")) == ["a.2.mkv", "a.3.mkv", "a.4.mkv", "a.mkv"]
    assert_same(recorded(tmp_path / "a.mkv"), items)


def test_a_camera_that_comes_late_does_not_hold_up_the_sound(tmp_path: Path) -> None:
    items = in_order(sound(3.0), [noise(t_ms * MS) for t_ms in (2000, 2040)])
    record(tmp_path / "a.mkv", items)
    with av.open(str(tmp_path / "a.mkv")) as film:
        assert [stream.type for stream in film.streams] == ["audio"]
    assert_same(recorded(tmp_path / "a.mkv"), items)


def test_dropped_pictures_are_left_out_and_notes_come_back(tmp_path: Path) -> None:
    items = [noise(k * 40 * MS) for k in range(6)]
    notes = [("dropped_frame", 40 * MS), ("left_out_segment", 7), ("dropped_frame", 120 * MS), ("key", {"a": [1]})]
    record(tmp_path / "a.mkv", items, notes=notes)
    assert_same(recorded(tmp_path / "a.mkv"), [items[k] for k in (0, 2, 4, 5)])
    decisions = RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX).decisions
    assert decisions.dropped_frames == {40 * MS, 120 * MS}
    assert decisions.left_out_segments == {7}
    assert decisions.others == {"key": [{"a": [1]}]}
    assert (decisions.whole, decisions.end_ns) == (True, 200 * MS)


def test_it_is_paced_by_when_items_were_complete(tmp_path: Path) -> None:
    items: list[Item] = [noise(0), *sound(0.032, block=256), noise(33 * MS)]
    record(tmp_path / "a.mkv", items)
    clock = ManualClock(jumps=True)
    with RecordedSource(tmp_path / "a.mkv", speed=Speed.REALTIME, clock=clock) as source:
        assert_same(list(source), items)
        assert source.paced
    assert clock.waits_ns == [0, 16 * MS, 32 * MS, 33 * MS]


def test_stop_ends_it_at_the_next_item(tmp_path: Path) -> None:
    record(tmp_path / "a.mkv", [noise(k * 40 * MS) for k in range(5)])
    with RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX) as source:
        items = iter(source)
        next(items)
        source.stop()
        assert list(items) == []


# in an ordinary player


@pytest.mark.parametrize("lossless", [True, False])
def test_a_player_sees_picture_and_sound_when_they_were(tmp_path: Path, lossless: bool) -> None:
    times_s = np.cumsum(np.random.default_rng(1).uniform(0.005, 0.08, 60)).tolist()
    blocks = [block for block in sound(3.0) if not 16_000 <= block.first < 24_000]
    record(tmp_path / "a.mkv", in_order(frames(times_s, noise(0).image), blocks), lossless=lossless)
    with av.open(str(tmp_path / "a.mkv")) as film:
        assert film.duration == pytest.approx(3_000_000, abs=40_000)
        shown = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
        assert film.streams.video[0].codec_context.name == ("ffv1" if lossless else "h264")
    with av.open(str(tmp_path / "a.mkv")) as film:
        heard = [float(frame.pts * frame.time_base) for frame in film.decode(audio=0)]
    assert shown == pytest.approx(times_s, abs=0.000_501)
    assert heard == pytest.approx([block.first / 16_000 for block in blocks], abs=0.000_501)


def test_an_ordinary_replay_of_the_film_still_tells_a_gap_from_silence(tmp_path: Path) -> None:
    blocks = [block for block in sound(2.0) if not 8_192 <= block.first < 20_480]
    record(tmp_path / "a.mkv", blocks, lossless=False)
    played = [item for item in media_of(tmp_path / "a.mkv") if isinstance(item, AudioBlock)]
    places = np.concatenate([np.arange(len(b.samples)) + b.first for b in played])
    assert places[0] == 0
    assert np.flatnonzero(np.diff(places) > 1).tolist() == [8_191]
    assert places[8_192] == 20_480


def test_h264_is_close_and_has_a_key_picture_each_second(shared_clips: Path, tmp_path: Path) -> None:
    items = media_of(sorted(shared_clips.glob("*.mpg"))[0])
    record(tmp_path / "a.mkv", items, lossless=False)
    got = recorded(tmp_path / "a.mkv")
    assert [type(item) for item in got] == [type(item) for item in items]
    for one, other in zip(got, items, strict=True):
        if isinstance(one, VideoFrame) and isinstance(other, VideoFrame):
            assert one.t_ns == other.t_ns
            assert np.abs(one.image.astype(int) - other.image).mean() < 5
        if isinstance(one, AudioBlock) and isinstance(other, AudioBlock):
            np.testing.assert_allclose(one.samples, other.samples, atol=0.6 / 32767)
    with av.open(str(tmp_path / "a.mkv")) as film:
        keys = [float(frame.pts * frame.time_base) for frame in film.decode(video=0) if frame.key_frame]
    assert keys == pytest.approx([0.0, 1.0, 2.0], abs=0.001)


def test_h264_fits_other_sizes_into_the_first(tmp_path: Path) -> None:
    grey = [VideoFrame(t_ns=k * 40 * MS, image=np.full(shape, 128, np.uint8)) for k, shape in
            enumerate([(47, 63, 3), (94, 63, 3), (47, 126, 3)])]  # fmt: skip
    record(tmp_path / "a.mkv", grey, lossless=False)
    images = [item.image for item in recorded(tmp_path / "a.mkv") if isinstance(item, VideoFrame)]
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    assert [int(image[24, 32, 0]) for image in images] == pytest.approx([128] * 3, abs=2)
    assert images[1][24, 4, 0] < 20  # black beside the tall one
    assert images[2][4, 32, 0] < 20  # and above the wide one


# names


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    for name in ("a.mkv", "a.2.mkv", "a.times.jsonl", "a.feed.jsonl", "a.session.json"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(RecordingError, match=rf"{name} exists; choose another name"):
            new_files(path)
        (tmp_path / name).unlink()
    assert new_files(path).part(2) == tmp_path / "a.2.mkv"


@pytest.mark.parametrize(("name", "text"), [("a.mp4", "name it a.mkv"), ("no/a.mkv", "create it first")])
def test_a_name_that_cannot_be_is_one_clear_line(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(RecordingError, match=text):
        new_files(tmp_path / name)


def test_what_is_no_recording_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"made with --record"):
        RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX)
    (tmp_path / "a.session.json").write_text('{"format": 2}')
    with pytest.raises(RecordingError, match="no settings of a recording of format 1"):
        RecordedSource(tmp_path / "a.mkv", speed=Speed.MAX)


def test_a_film_that_is_gone_or_another_is_one_clear_line(tmp_path: Path) -> None:
    record(tmp_path / "a.mkv", [noise(0)])
    (tmp_path / "a.mkv").write_text("not a film")
    with pytest.raises(RecordingError, match="FFmpeg cannot read"):
        recorded(tmp_path / "a.mkv")
    (tmp_path / "a.mkv").unlink()
    with pytest.raises(RecordingError, match="copy all files"):
        recorded(tmp_path / "a.mkv")
