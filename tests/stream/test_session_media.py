"""Odd media through the whole line: who is not there, what is missing, and tracks that do not wait for each other."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data

from stream.delivery import Delivery
from stream.sources.errors import SourceError
from tests.media_files import Audio, Video, write_media
from tests.sessions import MadeSource, Told, analyse, frames, in_order, played, sound

pytestmark = pytest.mark.timeout(60)  # a line that hangs fails

Picture = Callable[[int, int, int], np.ndarray]


def noise(i: int, height_px: int, width_px: int) -> np.ndarray:
    """A picture in which nobody is."""
    return np.random.default_rng(i).integers(0, 255, (height_px, width_px, 3)).astype(np.uint8)


def picture(name: str) -> np.ndarray:
    return np.asarray(getattr(skimage.data, name)())


def silence(t_s: np.ndarray) -> np.ndarray:
    return np.zeros_like(t_s)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """(256, 256, 3) uint8: one real face."""
    return picture("astronaut")[:256, 96:352]


def showing(image: np.ndarray) -> Video:
    height_px, width_px = image.shape[:2]
    return Video(width_px=width_px, height_px=height_px, n_frames=25, picture=lambda *_: image)


def verdicts(told: Told) -> list[tuple[int, str | None]]:
    """Person of each estimate, and the reason where it abstains for lack of anything to score."""
    return [(e.person, None if e.reason == "uncertain" else e.reason) for e in told.estimates]


def voices(told: Told) -> list[str]:
    return [estimate.windows[-1].voice for estimate in told.estimates]


# who is there


def test_a_voice_without_a_face_is_person_0(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.mkv", video=Video(picture=noise), audio=Audio()))
    assert verdicts(told) == [(0, None)] * 4
    assert {tuple(estimate.modalities.items()) for estimate in told.estimates} == {(("face", 0.0), ("voice", 1.0))}
    assert [estimate.box for estimate in told.estimates] == [None] * 4


def test_a_landscape_with_a_silent_track_is_nobody(tmp_path: Path) -> None:
    coffee = picture("coffee")[:360]
    told = played(write_media(tmp_path / "a.mkv", video=showing(coffee), audio=Audio(sound=silence)))
    assert verdicts(told) == [(0, "no_face")] * 4
    assert voices(told) == ["silence"] * 4
    for estimate in told.estimates:
        assert list(estimate.posterior.values()) == pytest.approx([1 / 7] * 7, abs=1e-6)
        assert estimate.label is None
        assert estimate.modalities == {"face": 0.0, "voice": 0.0}


def test_silence_without_a_picture_is_named_so(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.wav", audio=Audio(sound=silence)))
    assert verdicts(told) == [(0, "silence")] * 4


def test_a_voice_without_a_picture_is_scored(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.wav", audio=Audio()))
    assert verdicts(told) == [(0, None)] * 4
    assert told.totals["frames"] == 0


@pytest.mark.parametrize("track", ["none", "silent"])
def test_a_mute_face_is_scored_by_itself(tmp_path: Path, portrait: np.ndarray, track: str) -> None:
    audio = None if track == "none" else Audio(sound=silence)
    told = played(write_media(tmp_path / "a.mkv", video=showing(portrait), audio=audio))
    assert verdicts(told) == [(1, None)] * 4
    assert voices(told) == [{"none": "no_track", "silent": "silence"}[track]] * 4
    assert {tuple(estimate.modalities.items()) for estimate in told.estimates} == {(("face", 1.0), ("voice", 0.0))}
    assert told.events == [("face_found", 1)]


def test_of_two_faces_each_is_scored_alone_and_the_voice_by_itself(shared_clips: Path, tmp_path: Path) -> None:
    left, right = (pictures_of(shared_clips / f"{name}.mpg", 38) for name in ("bbaf2n", "pwij3p"))
    pairs = [np.hstack([one, other]) for one, other in zip(left, right, strict=True)]
    video = Video(width_px=720, height_px=288, n_frames=38, picture=lambda i, *_: pairs[i])
    told = played(write_media(tmp_path / "a.mkv", video=video, audio=Audio(duration_s=1.5)))
    assert told.events == [("face_found", 1), ("face_found", 2)]
    assert verdicts(told) == [(person, None) for _ in range(6) for person in (0, 1, 2)]
    for person, centre_px in ((1, 180), (2, 540)):
        for estimate in told.of(person):
            assert estimate.modalities == {"face": 1.0, "voice": 0.0}
            assert {note.voice for note in estimate.windows} == {"shared"}
            assert all(note.face for note in estimate.windows)
            assert estimate.box is not None
            assert abs(estimate.box[0] + estimate.box[2] / 2 - centre_px) < 90
    for estimate in told.of(0):
        assert estimate.modalities == {"face": 0.0, "voice": 1.0}
        assert {(note.face, note.voice) for note in estimate.windows} == {(False, "present")}
    by_person = {person: told.of(person)[-1].posterior for person in (0, 1, 2)}
    assert by_person[1] != by_person[2] != by_person[0]


def pictures_of(path: Path, n: int) -> list[np.ndarray]:
    with av.open(str(path)) as media:
        return [frame.to_ndarray(format="rgb24") for frame, _ in zip(media.decode(video=0), range(n), strict=False)]


def test_a_face_that_leaves_is_lost_and_forgotten(portrait: np.ndarray) -> None:
    nobody = np.full_like(portrait, 90)
    with_face, without = (np.arange(*span, 0.08).tolist() for span in ((0.0, 0.5), (0.5, 3.5)))
    pictures = frames(with_face, portrait) + frames(without, nobody)
    told = analyse(MadeSource(pictures))
    assert told.events == [("face_found", 1), ("face_lost", 1)]
    # scored for half a second; its posterior stands for one more, then is stale, until it is lost
    reasons = [reason for person, reason in verdicts(told) if person == 1]
    assert reasons[:6] == [None] * 6
    assert set(reasons[6:]) == {"stale"}
    assert verdicts(told)[-1] == (0, "no_face")
    assert told.of(1)[-1].t < 2.75


# what is missing


def test_sound_that_goes_on_after_the_picture_ended(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.mkv", video=Video(n_frames=10), audio=Audio(duration_s=4.0)))
    assert verdicts(told) == [(0, None)] * 16
    assert voices(told) == ["present"] * 16


def test_a_picture_that_goes_on_after_the_sound_ended(tmp_path: Path, portrait: np.ndarray) -> None:
    video = Video(width_px=256, height_px=256, rate_hz=10, n_frames=30, picture=lambda *_: portrait)
    told = played(write_media(tmp_path / "a.mkv", video=video, audio=Audio(duration_s=0.8)))
    assert verdicts(told) == [(1, None)] * 12
    # half of a window must have been captured: windows centred by 0.8 s have it
    assert voices(told)[:3] == ["present"] * 3
    assert voices(told)[5:] == ["gap"] * 7
    assert told.estimates[-1].modalities["voice"] < told.estimates[0].modalities["voice"] == 0.5


@pytest.mark.parametrize("n_frames", [130, 10])
def test_sound_that_starts_12_s_late_holds_nothing_up(tmp_path: Path, n_frames: int) -> None:
    # longer than the ring of sound, and with 10 frames nothing comes in between
    video = Video(rate_hz=10, n_frames=n_frames)
    told = played(write_media(tmp_path / "a.mkv", video=video, audio=Audio(start_s=12.0)))
    assert verdicts(told) == [(0, "no_face")] * 48 + [(0, None)] * 4
    assert voices(told) == ["gap"] * 48 + ["present"] * 4


def test_a_picture_each_15_s_does_not_hold_up_the_sound(tmp_path: Path, portrait: np.ndarray) -> None:
    video = Video(width_px=256, height_px=256, times_s=(0, 15, 30), picture=lambda *_: portrait)
    told = played(write_media(tmp_path / "a.mkv", video=video, audio=Audio(rate_hz=8000, duration_s=31.0)))
    assert told.totals["hops"] == 124
    assert set(voices(told)) == {"present"}
    assert told.events == [("face_found", 1), ("face_lost", 1)]
    assert [person for person, _ in verdicts(told)] == [1] * 8 + [0] * 116


def test_a_pause_of_the_sound_longer_than_the_ring_is_a_gap(tmp_path: Path) -> None:
    audio = Audio(rate_hz=16_000, duration_s=16.0, gaps_s=((1.0, 15.0),))
    told = played(write_media(tmp_path / "a.mkv", audio=audio))
    assert told.totals["hops"] == 64
    assert voices(told)[:2] == ["present"] * 2
    assert set(voices(told)[8:56]) == {"gap"}
    assert voices(told)[-1] == "present"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_one_picture_is_one_hop(tmp_path: Path, portrait: np.ndarray, suffix: str) -> None:
    video = Video(width_px=256, height_px=256, n_frames=1, picture=lambda *_: portrait)
    told = played(write_media(tmp_path / f"a{suffix}", video=video))
    assert verdicts(told) == [(1, None)]
    assert (told.totals["frames"], told.totals["hops"]) == (1, 1)


def test_a_tenth_of_a_second_of_sound_is_too_little_to_score(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.wav", audio=Audio(duration_s=0.1)))
    assert verdicts(told) == [(0, "silence")]
    assert voices(told) == ["gap"]


def test_an_empty_sound_track_is_reported_and_the_picture_scored(tmp_path: Path, portrait: np.ndarray) -> None:
    told = played(write_media(tmp_path / "a.mkv", video=showing(portrait), audio=Audio(empty=True)))
    assert told.events == [("empty_track", None), ("face_found", 1)]
    assert verdicts(told) == [(1, None)] * 4


def test_what_cannot_be_opened_raises_before_a_message(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        played(tmp_path / "none.mp4")


# sizes and rates


def test_60_frames_a_second_are_thinned_to_the_analysis_rate(tmp_path: Path) -> None:
    told = played(write_media(tmp_path / "a.mkv", video=Video(rate_hz=60, n_frames=120)), analysis_hz=10)
    assert (told.totals["frames"], told.totals["analysed_frames"], told.totals["hops"]) == (120, 20, 8)


@pytest.mark.parametrize("analysis_hz", [4, 1000])
def test_any_rate_of_analysis_gives_every_hop(analysis_hz: float) -> None:
    grey = np.full((16, 16, 3), 90, np.uint8)
    # the windows of 1000 frames a second await 0.9 s of sound each: as many frames must find room meanwhile
    pictures = frames((np.arange(1500) / 1000).tolist(), grey)
    told = analyse(MadeSource(in_order(sound(1.5), pictures)), analysis_hz=analysis_hz)
    assert told.totals["hops"] == 6
    assert told.totals["analysed_frames"] == analysis_hz * 1.5


def test_pictures_may_be_tiny_and_change_their_size(portrait: np.ndarray) -> None:
    sizes = [(16, 16), (2, 300), (256, 256), (1, 1)]
    pictures = [
        frame
        for k, (height, width) in enumerate(sizes)
        for frame in frames(
            [k / 4, k / 4 + 0.1], portrait if height == 256 else np.full((height, width, 3), 90, np.uint8)
        )
    ]
    told = analyse(MadeSource(pictures))
    assert told.totals["analysed_frames"] == 8
    assert [(kind, person) for kind, person in told.events] == [("face_found", 1)]
    assert [person for person, _ in verdicts(told)] == [0, 0, 1, 1]


# live delivery


def test_a_live_line_drops_rather_than_waits_and_says_how_much(portrait: np.ndarray) -> None:
    pictures = frames((np.arange(2000) / 25).tolist(), portrait)  # 80 s at once, a few seconds of work
    told = analyse(MadeSource(pictures), delivery=Delivery.DROP_OLDEST)
    assert told.totals["frames"] == 2000
    assert 0 < told.totals["dropped_frames"] < 2000
    assert told.totals["analysed_frames"] <= 2000 - told.totals["dropped_frames"] + 1
    assert told.totals["hops"] + told.totals["dropped_hops"] == 320  # the newest counts, the rest is left out
    assert told.totals["hops"] >= 1
