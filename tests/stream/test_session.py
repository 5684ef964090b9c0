"""The whole line on real talking faces: what it says, and that neither speed nor container changes it."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from engines.engine import EngineError
from stream.clock import ManualClock
from stream.config import SessionConfig
from stream.feed.messages import Estimate, Event, Session, Status
from stream.session import Session as Line
from stream.sources.media import MediaSource, Speed
from stream.windows import Alignment
from tests.media_files import Audio, Video, truncate, write_media
from tests.sessions import BUNDLE, HOP_S, MadeSource, analyse, frames, in_order, played, remuxed, sound

pytestmark = pytest.mark.timeout(90)

GREY = np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("name", ["bbaf2n", "sbwe5n"])
def test_a_talking_face_gives_an_estimate_each_hop_from_face_and_voice(shared_clips: Path, name: str) -> None:
    told = played(shared_clips / f"{name}.mpg")
    assert [estimate.person for estimate in told.estimates] == [1] * 12
    assert told.events == [("face_found", 1)]
    for k, estimate in enumerate(told.estimates):
        first = max(0, k - 9)
        assert estimate.span == (first * HOP_S, (k + 1) * HOP_S)
        assert len(estimate.windows) == k + 1 - first
        assert k * HOP_S <= estimate.t == estimate.windows[-1].frame < (k + 1) * HOP_S
        assert all(window.face and window.voice == "present" for window in estimate.windows)
        assert estimate.modalities == {"face": 0.5, "voice": 0.5}
        assert tuple(estimate.posterior) == BUNDLE.manifest.labels
        assert sum(estimate.posterior.values()) == pytest.approx(1, abs=1e-5)
        assert estimate.confidence == max(estimate.posterior.values())
        best = max(estimate.posterior, key=lambda label: estimate.posterior[label])
        sure = estimate.confidence >= BUNDLE.manifest.min_confidence
        assert (estimate.label, estimate.reason) == ((best, None) if sure else (None, "uncertain"))
        assert estimate.box is not None
        x, y, width, height = estimate.box
        assert 0 <= x < x + width <= 360
        assert 0 <= y < y + height <= 288


def test_windows_lie_as_the_scheme_draws_them(shared_clips: Path) -> None:
    for alignment, after in ((Alignment.CENTERED, 0.64), (Alignment.CAUSAL, 0.0)):
        notes = played(shared_clips / "bbaf2n.mpg", alignment=alignment).estimates[-1].windows
        for note in notes:
            assert abs(note.offset) <= 0.01
            assert note.audio[1] == pytest.approx(note.frame + note.offset + after, abs=2e-6)
            assert note.audio[1] - note.audio[0] == pytest.approx(1.28, abs=2e-6)


def test_real_time_and_full_speed_publish_the_same(shared_clips: Path) -> None:
    path, clock = shared_clips / "bbaf2n.mpg", ManualClock(start_ns=5, jumps=True)
    at_once = played(path)
    paced = analyse(MediaSource(str(path), speed=Speed.REALTIME, name="a", clock=clock), clock=clock)
    assert paced.essence == at_once.essence
    assert paced.totals == at_once.totals
    assert clock.now_ns() >= 2_900_000_000  # it was paced
    assert {estimate.age_ms for estimate in at_once.estimates} == {None}
    ages = [estimate.age_ms for estimate in paced.estimates]
    assert all(age is not None and 0 <= age <= 3_100 for age in ages)


def test_again_is_the_same_and_another_seed_draws_other_windows(shared_clips: Path) -> None:
    first, again, other = (played(shared_clips / "bbaf2n.mpg", seed=seed) for seed in (1, 1, 2))
    assert first.essence == again.essence
    drawn, others = ([note.frame for note in told.estimates[-1].windows] for told in (first, other))
    assert drawn != others


@pytest.mark.parametrize("interleaved", [True, False])
def test_other_interleaving_of_a_real_clip_gives_the_same(
    shared_clips: Path, tmp_path: Path, interleaved: bool
) -> None:
    path = shared_clips / "bbaf2n.mpg"
    other = remuxed(path, tmp_path / "other.mpg", interleaved=interleaved)
    assert played(other).estimates == played(path).estimates


def test_a_transport_stream_of_a_real_clip_gives_the_same_but_for_another_audio_decoder(
    shared_clips: Path, tmp_path: Path
) -> None:
    path = shared_clips / "bbaf2n.mpg"
    pairs = zip(played(remuxed(path, tmp_path / "a.ts")).estimates, played(path).estimates, strict=True)
    for got, expected in pairs:
        # FFmpeg decodes layer II with its layer III decoder here: samples differ by up to 5e-5
        assert got.posterior == pytest.approx(expected.posterior, abs=0.02)
        plain = {"posterior": {}, "confidence": 0.0, "label": None, "reason": None}
        assert replace(got, **plain) == replace(expected, **plain)


def test_containers_interleaving_and_packet_sizes_do_not_change_estimates(tmp_path: Path) -> None:
    video = Video(n_frames=50)
    path = write_media(tmp_path / "a.mkv", video=video, audio=Audio(duration_s=2.0, packet=1024))
    expected = played(path)
    assert [estimate.modalities["voice"] for estimate in expected.estimates] == [1.0] * 8
    others = [
        remuxed(path, tmp_path / "b.mov"),
        remuxed(path, tmp_path / "c.mkv", interleaved=False),
        write_media(tmp_path / "d.mkv", video=video, audio=Audio(duration_s=2.0, packet=147)),
        write_media(tmp_path / "e.mkv", video=video, audio=Audio(duration_s=2.0, packet=9000), interleaved=False),
    ]
    for other in others:
        assert played(other).estimates == expected.estimates, other.name


def test_blocks_of_any_size_give_the_same() -> None:
    pictures = frames(np.arange(0, 2, 0.04).tolist(), GREY)
    expected = analyse(MadeSource(in_order(sound(2.0), pictures)))
    assert len(expected.estimates) == 8
    for block in (1600, 333, 160):
        assert analyse(MadeSource(in_order(sound(2.0, block=block), pictures))).essence == expected.essence


def test_totals_add_up_and_are_what_the_end_says(shared_clips: Path) -> None:
    told = played(shared_clips / "bbaf2n.mpg")
    end = told.messages[-1]
    assert isinstance(end, Event)
    assert end.totals == told.totals
    assert end.text == "the source has ended"
    assert told.totals["frames"] == 75
    assert told.totals["analysed_frames"] == 38  # 12.5 Hz of 25 Hz
    assert told.totals["hops"] == 12
    assert told.totals["media_s"] == end.t == 12 * HOP_S
    assert told.totals["estimates"] == len(told.estimates)
    assert told.totals["abstained"] == sum(estimate.label is None for estimate in told.estimates)
    drops = {name: n for name, n in told.totals.items() if name.startswith("dropped_")}
    assert drops == {"dropped_frames": 0, "dropped_faces": 0, "dropped_audio_samples": 0}


def test_the_session_message_comes_first_then_a_status(shared_clips: Path) -> None:
    first, second, *rest = played(shared_clips / "bbaf2n.mpg", seed=3).messages
    assert isinstance(first, Session)
    assert (first.stream, first.seed, first.engine, first.alignment) == ("a", 3, "onnx", "centered")
    assert (first.labels, first.recogniser) == (BUNDLE.manifest.labels, BUNDLE.manifest.name)
    assert first.bundle == BUNDLE.sha256[:16]
    assert first.origin.endswith("Z")
    assert "mpeg1video 360x288" in first.source
    assert "consent" in first.notice
    assert isinstance(second, Status)
    assert (second.persons, second.engine_ms, second.drops) == (0, None, {"frames": 0, "faces": 0, "audio_samples": 0})
    assert {message.stream for message in rest} == {"a"}
    assert all(message.bundle == first.bundle for message in rest if isinstance(message, Estimate))


def test_a_truncated_file_is_scored_as_far_as_it_goes_and_reported(tmp_path: Path) -> None:
    whole = write_media(tmp_path / "a.mkv", video=Video(n_frames=75), audio=Audio(duration_s=3.0))
    told = played(truncate(whole, 0.5))
    assert told.events == [("truncated", None)]
    assert len(told.estimates) == 6  # 1.5 of 3 s
    assert told.estimates[:3] == played(whole).estimates[:3]  # the others await sound that was cut off


def test_an_engine_that_is_not_there_is_refused_before_anything_is_opened() -> None:
    source = MadeSource(sound(0.1))
    with pytest.raises(EngineError, match="engine 'tensorrt' is not available"):
        Line(source, [BUNDLE], lambda message: None, SessionConfig(engine="tensorrt"))
    assert not source.closed.is_set()
