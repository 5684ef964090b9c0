"""Files of known content through the media source."""

import io
import itertools
import math
import os
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from stream.clock import ManualClock
from stream.records import RATE_HZ, AudioBlock, SourceEvent, VideoFrame
from stream.sources.media import Item, MediaSource, SourceError, Speed
from tests.media_files import Audio, Video, damage, number_of, quadrants, tone, truncate, write_media

TIMEOUT_S = 20.0


def played(path: Path | str, **options: object) -> list[Item]:
    """All items of a file at full speed."""
    with MediaSource(str(path), speed=Speed.MAX, **options) as source:  # type: ignore[arg-type]
        return list(source)


def frames_of(items: Sequence[Item]) -> list[VideoFrame]:
    """The video frames among them."""
    return [item for item in items if isinstance(item, VideoFrame)]


def events_of(items: Sequence[Item]) -> list[SourceEvent]:
    """The events among them."""
    return [item for item in items if isinstance(item, SourceEvent)]


def audio_of(items: Sequence[Item], n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) samples of the timeline, and (n,) whether each was handed out; every place at most once."""
    samples, n_given = np.zeros(n, np.float32), np.zeros(n, np.int64)
    for block in items:
        if isinstance(block, AudioBlock):
            span = slice(block.first, block.first + len(block.samples))
            assert 0 <= span.start < span.stop <= n
            samples[span] = block.samples
            n_given[span] += 1
    assert n_given.max(initial=0) <= 1
    return samples, n_given.astype(bool)


def due_ns(item: VideoFrame | AudioBlock) -> int:
    """When an item is complete."""
    if isinstance(item, VideoFrame):
        return item.t_ns
    return -(-(item.first + len(item.samples)) * 1_000_000_000 // RATE_HZ)


def grid_tone(n: int) -> np.ndarray:
    """The first n samples of `tone` at 16 kHz."""
    return tone(np.arange(n) / RATE_HZ)


@pytest.mark.parametrize("suffix", ["mkv", "mov", "avi"])
def test_frames_and_audio_lie_where_the_file_puts_them(tmp_path: Path, suffix: str) -> None:
    codec = {"codec": "mpeg4", "options": ()} if suffix == "avi" else {}
    path = write_media(tmp_path / f"a.{suffix}", video=Video(**codec), audio=Audio(layout="stereo"))  # type: ignore[arg-type]
    items = played(path)
    assert [frame.t_ns for frame in frames_of(items)] == [40_000_000 * i for i in range(25)]
    assert [number_of(frame.image) for frame in frames_of(items)] == list(range(25))
    assert {frame.image.shape for frame in frames_of(items)} == {(48, 64, 3)}
    samples, given = audio_of(items, RATE_HZ)
    assert given.all()
    np.testing.assert_allclose(samples[400:-400], grid_tone(RATE_HZ)[400:-400], atol=2e-3)
    assert events_of(items) == []


def test_items_come_in_ascending_order_of_time_audio_first(tmp_path: Path) -> None:
    items = played(write_media(tmp_path / "a.mkv", video=Video(), audio=Audio(rate_hz=16_000, packet=777)))
    keys = [(due_ns(i), isinstance(i, VideoFrame)) for i in items if not isinstance(i, SourceEvent)]
    assert keys == sorted(keys)
    assert len(keys) == 25 + math.ceil(RATE_HZ / 512)


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    path = write_media(tmp_path / "my clip (1).mkv", video=Video(), audio=Audio(layout="5.1", rate_hz=48_000))
    with MediaSource(str(path), speed=Speed.MAX) as source:
        info = source.info
    assert info.name == "my_clip_1"
    assert (info.has_video, info.has_audio, info.frame_rate_hz, info.duration_s) == (True, True, 25.0, 1.0)
    assert info.text == "matroska,webm: h264 64x48 25 Hz, pcm_s16le 48000 Hz 6 channels"


def test_a_source_is_used_inside_its_with_block(tmp_path: Path) -> None:
    source = MediaSource(str(write_media(tmp_path / "a.wav", audio=Audio())), speed=Speed.MAX)
    with pytest.raises(RuntimeError, match=r"read \.info inside its `with` block"):
        _ = source.info
    with source:
        pass
    with pytest.raises(RuntimeError, match="iterate inside its `with` block"):
        next(iter(source))


def test_a_name_that_is_no_topic_is_refused() -> None:
    with pytest.raises(SourceError, match=r"expected a stream name of letters, .* got 'a/b'; choose another"):
        MediaSource("clip.mp4", speed=Speed.MAX, name="a/b")


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_is_resampled_as_in_one_piece(tmp_path: Path, rate_hz: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, rate_hz)
    path = write_media(
        tmp_path / "a.wav", audio=Audio(rate_hz=rate_hz, sound=lambda t_s: noise[np.rint(t_s * rate_hz).astype(int)])
    )
    with av.open(str(path)) as file:
        stored = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)]).astype(np.float32) / 32768
    samples, given = audio_of(played(path), RATE_HZ)
    expected = stored if rate_hz == RATE_HZ else soxr.resample(stored, rate_hz, RATE_HZ)
    assert given.all()
    np.testing.assert_allclose(samples, expected, atol=1e-6)


@pytest.mark.parametrize(("layout", "n_channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac"])
def test_channels_of_any_format_are_averaged(tmp_path: Path, layout: str, n_channels: int, codec: str) -> None:
    gains = np.linspace(0.1, 1.0, n_channels)[:, None]
    audio = Audio(rate_hz=RATE_HZ, layout=layout, codec=codec, sound=lambda t_s: gains * tone(t_s))
    samples, _ = audio_of(played(write_media(tmp_path / "a.mkv", audio=audio)), RATE_HZ)
    np.testing.assert_allclose(samples, gains.mean() * grid_tone(RATE_HZ), atol=1e-2 if codec == "pcm_u8" else 1e-4)


def test_not_a_number_is_silence_and_overshoot_is_bounded(tmp_path: Path) -> None:
    def sound(t_s: np.ndarray) -> np.ndarray:
        square = np.sign(np.sin(2 * np.pi * 100 * t_s + 0.1))
        return np.where((t_s >= 0.5) & (t_s < 0.6), np.nan, square)

    path = write_media(tmp_path / "a.mkv", audio=Audio(codec="pcm_f32le", sound=sound))
    samples, _ = audio_of(played(path), RATE_HZ)
    assert np.abs(samples).max() == 1.0
    np.testing.assert_allclose(samples[8400:9200], 0, atol=1e-3)


def test_the_same_sound_in_other_packets_gives_the_same_blocks(tmp_path: Path) -> None:
    by_packet = {
        packet: played(write_media(tmp_path / f"{packet}.mov", audio=Audio(packet=packet, start_s=0.0)))
        for packet in (64, 441, 1024, 9999)
    }
    reference = [(b.first, b.samples.tobytes()) for b in by_packet[64] if isinstance(b, AudioBlock)]
    assert len(reference) == 32
    for items in by_packet.values():
        assert [(b.first, b.samples.tobytes()) for b in items if isinstance(b, AudioBlock)] == reference


@pytest.mark.parametrize(("start_s", "first"), [(0.4, 6400), (0.01, 160)])
def test_audio_that_starts_late_starts_late(tmp_path: Path, start_s: float, first: int) -> None:
    items = played(write_media(tmp_path / "a.mkv", video=Video(), audio=Audio(start_s=start_s, duration_s=0.5)))
    samples, given = audio_of(items, 16_000)
    assert np.flatnonzero(given).tolist() == list(range(first, first + 8000))
    middle = slice(first + 400, first + 7600)
    np.testing.assert_allclose(samples[middle], grid_tone(16_000)[middle], atol=2e-3)


def test_video_that_starts_late_starts_late(tmp_path: Path) -> None:
    items = played(write_media(tmp_path / "a.mkv", video=Video(start_s=0.4, n_frames=5), audio=Audio()))
    assert [frame.t_ns // 1_000_000 for frame in frames_of(items)] == [400, 440, 480, 520, 560]


def test_time_zero_is_the_earlier_tracks_start(tmp_path: Path) -> None:
    video, audio = Video(start_s=5.0, n_frames=5), Audio(start_s=5.2, duration_s=0.2)
    items = played(write_media(tmp_path / "a.mkv", video=video, audio=audio))
    assert [frame.t_ns // 1_000_000 for frame in frames_of(items)] == [0, 40, 80, 120, 160]
    assert np.flatnonzero(audio_of(items, 6_400)[1]).tolist() == list(range(3_200, 6_400))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_a_gap_in_the_audio_stays_a_gap(tmp_path: Path, rate_hz: int) -> None:
    audio = Audio(rate_hz=rate_hz, gaps_s=[(0.3, 0.35), (0.5, 0.8)], sound=lambda t_s: np.full(len(t_s), 0.25))
    samples, given = audio_of(played(write_media(tmp_path / "a.mkv", audio=audio)), RATE_HZ)
    expected = np.ones(RATE_HZ, bool)
    expected[4800:5600] = expected[8000:12800] = False
    # The timestamps of Matroska are rounded to 1 ms, which is 16 samples.
    assert np.flatnonzero(given != expected).size <= 32
    np.testing.assert_allclose(samples[5700:7900], 0.25, atol=0.05)
    assert not samples[~given].any()


def test_a_pause_in_the_timestamps_under_40_ms_is_jitter(tmp_path: Path) -> None:
    audio = Audio(rate_hz=16_000, gaps_s=[(0.5, 0.539)])
    _, given = audio_of(played(write_media(tmp_path / "a.mkv", audio=audio)), RATE_HZ)
    assert np.flatnonzero(given).tolist() == list(range(16_000 - 624))


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.15, 0.5, 1.2]
    items = played(write_media(tmp_path / "a.mkv", video=Video(times_s=times_s)))
    assert [frame.t_ns for frame in frames_of(items)] == [round(t_s * 1e9) for t_s in times_s]
    assert [number_of(frame.image) for frame in frames_of(items)] == [0, 1, 2, 3, 4]
    assert events_of(items) == []


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_upright(tmp_path: Path, rotation_deg: int, mirrored: bool) -> None:
    video = Video(
        n_frames=2, pixels="yuv444p", picture=quadrants, rotation_deg=rotation_deg, mirrored=mirrored, height_px=32
    )
    image = frames_of(played(write_media(tmp_path / "a.mp4", video=video)))[1].image
    expected = np.rot90(quadrants(0, 32, 64), rotation_deg // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert image.shape == expected.shape
    assert image.flags.c_contiguous
    for y, x in itertools.product((4, -5), (4, -5)):
        np.testing.assert_allclose(image[y, x].astype(int), expected[y, x], atol=12)


def test_a_recording_without_audio_and_one_without_video(tmp_path: Path) -> None:
    with MediaSource(str(write_media(tmp_path / "v.mp4", video=Video())), speed=Speed.MAX) as source:
        assert (source.info.has_video, source.info.has_audio) == (True, False)
        assert len(list(source)) == 25
    with MediaSource(str(write_media(tmp_path / "a.wav", audio=Audio())), speed=Speed.MAX) as source:
        assert (source.info.has_video, source.info.has_audio) == (False, True)
        assert audio_of(list(source), RATE_HZ)[1].all()


def test_an_empty_track_is_absent_and_said_so(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", video=Video(), audio=Audio(empty=True))
    with MediaSource(str(path), speed=Speed.MAX) as source:
        assert not source.info.has_audio
        items = list(source)
    assert [(e.t_ns, e.kind, e.text) for e in events_of(items)] == [
        (0, "empty_track", "the audio track holds nothing that decodes")
    ]
    assert len(frames_of(items)) == 25


def test_a_repeated_time_is_left_out_and_counted(tmp_path: Path) -> None:
    # Matroska rounds to 1 ms, so 0.1003 s repeats 0.1 s.
    video = Video(times_s=[0.0, 0.1, 0.1003, 0.2], codec="mjpeg", pixels="yuvj420p", options=())
    items = played(write_media(tmp_path / "a.mkv", video=video))
    assert [number_of(frame.image) for frame in frames_of(items)] == [0, 1, 3]
    assert [(e.kind, e.text) for e in events_of(items)] == [
        ("frames_left_out", "1 frames had times that repeat or run back")
    ]


def test_files_joined_end_to_end_are_played_on(tmp_path: Path) -> None:
    part = write_media(
        tmp_path / "a.mpg",
        video=Video(codec="mpeg1video", options=(("b", "800k"),), n_frames=75),
        audio=Audio(codec="mp2", duration_s=3.0),
    )
    joined = tmp_path / "joined.mpg"
    joined.write_bytes(part.read_bytes() * 2)
    items = played(joined)
    times_ns = [frame.t_ns for frame in frames_of(items)]
    assert len(times_ns) >= 148
    assert times_ns == sorted(times_ns)
    assert 5.9e9 < times_ns[-1] < 6.3e9
    assert audio_of(items, 7 * RATE_HZ)[1].sum() > 5.9 * RATE_HZ
    assert "timestamps_restarted" in [event.kind for event in events_of(items)]


def noisy(i: int, height_px: int, width_px: int) -> np.ndarray:
    """A picture that does not compress, so that a file's bytes are spread over its length."""
    return np.random.default_rng(i).integers(0, 255, (height_px, width_px, 3), dtype=np.uint8)


LONG = Video(n_frames=100, picture=noisy)


def test_a_truncated_file_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = write_media(tmp_path / "a.mkv", video=LONG, audio=Audio(duration_s=4.0))
    items = played(truncate(whole, 0.6))
    n = len(frames_of(items))
    assert 50 < n < 70
    reference = frames_of(played(whole))
    for frame, expected in zip(frames_of(items)[:-2], reference, strict=False):
        assert frame.t_ns == expected.t_ns
        np.testing.assert_array_equal(frame.image, expected.image)
    (event,) = events_of(items)
    assert event.kind == "truncated"
    assert event.text == f"expected 4.00 s as the container states, got {n / 25:.2f} s"
    assert items[-1] is event


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.61, 0.9])
@pytest.mark.parametrize("suffix", ["wav", "avi", "mpg"])
def test_a_cut_is_seen_where_the_length_is_not_stated(tmp_path: Path, suffix: str, fraction: float) -> None:
    video = Video(n_frames=50, codec="mpeg4" if suffix == "avi" else "mpeg1video", options=(), picture=noisy)
    audio = Audio(codec="mp2" if suffix == "mpg" else "pcm_s16le", duration_s=2.0)
    whole = write_media(tmp_path / f"a.{suffix}", video=None if suffix == "wav" else video, audio=audio)
    assert events_of(played(whole)) == []
    events = events_of(played(truncate(whole, fraction)))
    assert [event.kind for event in events if event.kind != "damaged"] == ["truncated"]
    assert events[0].text.startswith("got ")


def test_damage_in_the_middle_is_skipped_and_reported_once(tmp_path: Path) -> None:
    video = Video(n_frames=100, codec="mpeg4", options=(("g", "5"),), picture=noisy)
    whole = write_media(tmp_path / "a.ts", video=video, audio=Audio(codec="aac", duration_s=4.0))
    items = played(damage(whole, 0.4, 0.45))
    assert [event.kind for event in events_of(items)].count("damaged") == 1
    assert 80 <= len(frames_of(items)) <= 100
    assert frames_of(items)[-1].t_ns > 3.8e9
    assert [f.t_ns for f in frames_of(items)] == sorted(f.t_ns for f in frames_of(items))


def write_text(folder: Path) -> Path:
    """A text file with a film's name."""
    path = folder / "notes.mp4"
    path.write_text("nothing to see here\n" * 100)
    return path


def write_terminal_text(folder: Path) -> Path:
    """A text file that FFmpeg would play as a terminal's picture."""
    return write_text(folder).rename(folder / "notes.txt")


def write_empty(folder: Path) -> Path:
    """A file of no bytes."""
    path = folder / "empty.mp4"
    path.touch()
    return path


def write_subtitles(folder: Path) -> Path:
    """A file with neither video nor audio."""
    path = folder / "only.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n")
    return path


def write_headless(folder: Path) -> Path:
    """An MP4 whose index, at its end, was cut off."""
    return truncate(write_media(folder / "a.mp4", video=LONG), 0.5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: folder / "none.mp4", "which does not exist; check the path"),
        (lambda folder: folder, "expected a media file, got the directory .*; name the files in it"),
        (write_text, "notes.mp4, which FFmpeg cannot read .Invalid data.*; it is of another kind, or damaged"),
        (write_terminal_text, "expected a file with a video or an audio track, got .*notes.txt"),
        (write_empty, "empty.mp4, which is empty; choose another file"),
        (write_subtitles, "expected a file with a video or an audio track, got .*only.srt"),
        (write_headless, "a_cut.mp4, which FFmpeg cannot read"),
        (lambda _: "nosuch://host/clip.mp4", "expected a URL that can be read, got nosuch://host/clip.mp4 .Protocol"),
        (lambda _: "http://127.0.0.1:9/clip.mp4", "got http://127.0.0.1:9/clip.mp4 .Connection refused"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceError, match=text) as caught, MediaSource(str(make(tmp_path)), speed=Speed.MAX):
        pass
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damage_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_media(tmp_path / "a.ts", video=Video(n_frames=100), audio=Audio(codec="aac", duration_s=4.0))
    played(damage(whole, 0.2, 0.8))
    assert capfd.readouterr() == ("", "")


def test_realtime_hands_out_each_item_when_it_is_complete(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", video=Video(), audio=Audio())
    clock = ManualClock(7_000_000_000, jumps=True)
    with MediaSource(str(path), speed=Speed.REALTIME, clock=clock) as source:
        items = [(item, clock.now_ns()) for item in source]
    for item, now_ns in items:
        assert not isinstance(item, SourceEvent)
        assert now_ns == 7_000_000_000 + due_ns(item)


def test_both_speeds_give_the_same_items(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", video=Video(), audio=Audio(start_s=0.2, gaps_s=[(0.5, 0.6)]))
    with MediaSource(str(path), speed=Speed.REALTIME, clock=ManualClock(jumps=True)) as source:
        paced = list(source)
    for slow, fast in zip(paced, played(path), strict=True):
        assert type(slow) is type(fast)
        if isinstance(slow, VideoFrame) and isinstance(fast, VideoFrame):
            assert (slow.t_ns, slow.image.tobytes()) == (fast.t_ns, fast.image.tobytes())
        elif isinstance(slow, AudioBlock) and isinstance(fast, AudioBlock):
            assert (slow.first, slow.samples.tobytes()) == (fast.first, fast.samples.tobytes())


def test_a_paced_source_is_stopped_from_another_thread(tmp_path: Path) -> None:
    clock = ManualClock()
    path = write_media(tmp_path / "a.mkv", video=Video())
    with MediaSource(str(path), speed=Speed.REALTIME, clock=clock) as source:
        got: list[Item] = []
        reader = threading.Thread(target=lambda: got.extend(source), daemon=True)
        reader.start()
        assert clock.await_waits(2, TIMEOUT_S)  # the frame at 0 went out at once, the next one waits
        source.stop()
        reader.join(TIMEOUT_S)
        assert not reader.is_alive()
    assert [frame.t_ns for frame in frames_of(got)] == [0]
    assert events_of(got) == []  # being stopped is no truncation


@pytest.fixture
def serve(tmp_path: Path) -> object:
    """Serves the folder's files over HTTP without ranges, so that they can be read once and not be sought in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (tmp_path / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with io.BytesIO(content) as source:
                while piece := source.read(65536):
                    try:
                        self.wfile.write(piece)
                    except ConnectionError:
                        return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield lambda path: f"http://127.0.0.1:{server.server_port}/{path.name}"
    server.shutdown()
    thread.join(TIMEOUT_S)
    server.server_close()


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_url_is_opened_once_and_gives_what_the_file_gives(
    tmp_path: Path, serve: Callable[[Path], str], interleaved: bool
) -> None:
    path = write_media(
        tmp_path / "a.mkv", video=Video(n_frames=75), audio=Audio(duration_s=3.0), interleaved=interleaved
    )
    from_url, from_file = played(serve(path)), played(path)
    assert len(from_url) == 75 + 94
    for item, expected in zip(from_url, from_file, strict=True):
        assert type(item) is type(expected)
        if isinstance(item, VideoFrame) and isinstance(expected, VideoFrame):
            assert (item.t_ns, item.image.tobytes()) == (expected.t_ns, expected.image.tobytes())
        elif isinstance(item, AudioBlock) and isinstance(expected, AudioBlock):
            assert (item.first, item.samples.tobytes()) == (expected.first, expected.samples.tobytes())


def test_a_track_further_behind_than_the_bound_is_not_waited_for(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    # All 15 s of video lie before the audio: the bound of 10 s is met, and the rest of the video goes out alone.
    path = write_media(
        tmp_path / "a.mkv", video=Video(n_frames=375), audio=Audio(duration_s=15.0, rate_hz=16_000), interleaved=False
    )
    from_file, from_url = played(path), played(serve(path))
    assert events_of(from_file) == []
    assert audio_of(from_file, 15 * RATE_HZ)[1].all()
    assert [frame.t_ns for frame in frames_of(from_url)] == [40_000_000 * i for i in range(375)]
    kept = np.flatnonzero(audio_of(from_url, 15 * RATE_HZ)[1])
    times = [due_ns(item) for item in from_url if not isinstance(item, SourceEvent)]
    assert times == sorted(times)
    assert 4 * RATE_HZ < kept[0] < 6 * RATE_HZ
    n_late = kept[0] // 512
    assert [(e.kind, e.text) for e in events_of(from_url)] == [
        ("late", f"{n_late} frames or audio blocks came too late to be in order")
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", video=Video(), audio=Audio())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    items = played(pipe)
    writer.join(TIMEOUT_S)
    assert len(frames_of(items)) == 25
    assert audio_of(items, RATE_HZ)[1].all()


@pytest.mark.parametrize("n_sent", [0, 200_000])
def test_a_url_that_goes_silent_ends_by_its_time_out(tmp_path: Path, n_sent: int) -> None:
    content = write_media(tmp_path / "a.mkv", video=LONG, audio=Audio(duration_s=4.0)).read_bytes()
    assert len(content) > 2 * n_sent
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def answer() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            connection.recv(65536)
            if n_sent:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + content[:n_sent])

        threading.Thread(target=answer, daemon=True).start()
        source = MediaSource(f"http://127.0.0.1:{listening.getsockname()[1]}/a.mkv", speed=Speed.MAX, timeout_s=0.5)
        if n_sent:
            with source:
                items = list(source)
            assert len(frames_of(items)) > 10
            assert [event.kind for event in events_of(items)] == ["truncated"]
        else:
            with (
                pytest.raises(SourceError, match=r"a URL that can be read, got http.*; check the address"),
                source,
            ):
                pass
        held[0].close()


def test_real_clips_play_whole(shared_clips: Path) -> None:
    clips = sorted(shared_clips.rglob("*.mpg"))
    assert clips
    for clip in clips:
        items = played(clip)
        assert [frame.t_ns for frame in frames_of(items)] == [40_000_000 * i for i in range(75)]
        samples, given = audio_of(items, 3 * RATE_HZ)
        assert given.sum() == given.nonzero()[0][-1] + 1 > 2.9 * RATE_HZ
        assert 0.01 < samples.std() < 0.3
        assert events_of(items) == []


def test_sparse_pictures_that_end_before_the_sound_are_not_truncated(tmp_path: Path) -> None:
    whole = write_media(
        tmp_path / "a.mkv", video=Video(times_s=(0, 15, 30)), audio=Audio(rate_hz=8000, duration_s=31.0)
    )
    assert events_of(played(whole)) == []
