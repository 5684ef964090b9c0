"""Clip windows: which pictures, sound and chunks a person's last seconds hold, and when they are due."""

from collections.abc import Sequence

import numpy as np
import pytest

from engines.bundle import AudioInput, ClipInput
from stream.assembly import Hop
from stream.clip_assembly import ClipAssembler, with_flow
from stream.delivery import Delivery
from stream.perception.seen import PersonEvent, SeenFaces
from stream.records import VOICE_ONLY, AudioBlock, Face, FrameFaces
from stream.rings import AudioRing
from stream.windows import Alignment, WindowScheme
from tests.windows import face

MS = 1_000_000
SCHEME = WindowScheme(segment_ns=100 * MS, audio_ns=200 * MS, jitter_ns=0, alignment=Alignment.CAUSAL, n_segments=1)
SPEC = AudioInput(rate_hz=16000, n_samples=3200, silence_dbfs=-55.0, min_coverage=0.5)
CLIP = ClipInput(frame_hz=20.0, n_frames=4, span_s=0.3, chunk_s=0.1)
CHUNK = 1600
WHOLE = face(VOICE_ONLY, box=(0, 0, 8, 8))


def never() -> None:
    raise AssertionError("expected everything to be there, the assembler waits")


def heard(samples: np.ndarray, *, start: int = 0) -> AudioRing:
    ring = AudioRing(60.0, delivery=Delivery.WAIT)
    ring.write(AudioBlock(first=start, samples=samples.astype(np.float32)))
    ring.close()
    return ring


def loud(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, n)


def saw(
    *frames: tuple[int, Sequence[int]], whole: Face | None = None, lost: tuple[int, int] | None = None
) -> SeenFaces:
    """Frames as (ms, persons in view); each is found when first seen, `lost` is (ms, person)."""
    seen, known = SeenFaces(1000, delivery=Delivery.WAIT), set[int]()
    for t, persons in frames:
        events = [PersonEvent(t_ns=t * MS, kind="face_found", text="", person=p) for p in persons if p not in known]
        known |= set(persons)
        if lost is not None and lost[0] == t:
            events.append(PersonEvent(t_ns=t * MS, kind="face_lost", text="", person=lost[1]))
        seen.append(FrameFaces(t_ns=t * MS, faces=tuple(map(face, persons)), whole=whole), tuple(events))
    seen.close()
    return seen


def hops(
    seen: SeenFaces | None,
    audio: AudioRing | None,
    *,
    clip: ClipInput = CLIP,
    attributes_voice: bool = False,
    stands_in: bool = True,
) -> list[Hop]:
    assembler = ClipAssembler(
        scheme=SCHEME,
        seed=0,
        stream="a",
        seen=seen,
        audio=audio,
        spec=SPEC,
        clip=clip,
        attributes_voice=attributes_voice,
        stands_in=stands_in,
    )
    found: list[Hop] = []
    while (hop := assembler.next_hop(len(found), never)) is not None:
        found.append(hop)
    return found


def times_ms(hop: Hop, person: int) -> list[int]:
    window = next(w for w in hop.windows if w.person == person)
    assert window.clip is not None
    return [t // MS for t in window.clip.times_ns]


def test_a_window_holds_the_last_pictures_and_the_last_sound() -> None:
    samples = loud(16_000)
    found = hops(saw(*[(t, [1]) for t in range(0, 1000, 50)]), heard(samples))
    assert len(found) == 10
    for k, hop in enumerate(found):
        end = (k + 1) * 100
        assert times_ms(hop, 1) == list(range(max(0, end - 300), end, 50))
        (window,) = hop.windows
        assert window.waveform is not None
        assert window.draw.audio_end_ns == window.end_ns == end * MS
        begun = np.pad(samples.astype(np.float32), (3200, 0))[(k + 1) * 1600 :][:3200]
        np.testing.assert_array_equal(window.waveform, begun)


def test_chunks_are_whole_and_lie_at_multiples_of_their_length() -> None:
    samples = loud(16_000).astype(np.float32)
    for k, hop in enumerate(hops(saw(*[(t, [1]) for t in range(0, 1000, 50)]), heard(samples))):
        assert hop.windows[0].clip is not None
        chunks = hop.windows[0].clip.chunks
        assert [number for number, _ in chunks] == list(range(max(0, k - 2), k + 1))
        for number, chunk in chunks:
            np.testing.assert_array_equal(chunk, samples[number * CHUNK : (number + 1) * CHUNK])


def test_a_chunk_longer_than_the_hop_is_waited_for_and_less_than_one_is_a_gap() -> None:
    clip = ClipInput(frame_hz=20.0, n_frames=4, span_s=0.6, chunk_s=0.25)
    found = hops(saw(*[(t, [1]) for t in range(0, 1000, 50)]), heard(loud(16_000)), clip=clip)
    numbers = [[n for n, _ in hop.windows[0].clip.chunks] for hop in found if hop.windows[0].clip]
    assert numbers == [[], [], [0], [0], [0, 1], [0, 1], [0, 1], [0, 1, 2], [1, 2], [1, 2, 3]]
    assert [hop.windows[0].voice.value for hop in found[:3]] == ["gap", "gap", "present"]


def test_a_chunk_that_was_not_captured_is_left_out() -> None:
    found = hops(saw(*[(t, [1]) for t in range(0, 1000, 50)]), heard(loud(8_000), start=4_000))
    # captured from the middle of chunk 2 to the middle of chunk 7
    assert [n for n, _ in found[-1].windows[0].clip.chunks] == [7]  # type: ignore[union-attr]
    assert [n for n, _ in found[5].windows[0].clip.chunks] == [3, 4, 5]  # type: ignore[union-attr]
    assert [n for n, _ in found[3].windows[0].clip.chunks] == [2, 3]  # type: ignore[union-attr]


def test_persons_have_their_own_pictures() -> None:
    found = hops(saw((0, [1]), (50, [1, 2]), (100, [2]), (150, [1, 2])), None)
    assert times_ms(found[0], 1) == [0, 50]
    assert times_ms(found[0], 2) == [50]
    assert times_ms(found[1], 1) == [0, 50, 150]
    assert times_ms(found[1], 2) == [50, 100, 150]


@pytest.mark.parametrize("attributes_voice", [False, True])
def test_a_voice_that_cannot_be_told_is_shared_or_given_to_each(attributes_voice: bool) -> None:
    found = hops(saw((0, [1, 2]), (50, [1, 2])), heard(loud(3_200)), attributes_voice=attributes_voice)
    states = [(w.person, w.voice.value, w.waveform is not None) for w in found[0].windows]
    if attributes_voice:
        assert states == [(1, "present", True), (2, "present", True)]
    else:
        assert states == [(0, "present", True), (1, "shared", False), (2, "shared", False)]


def test_the_whole_picture_stands_in_where_no_face_is_seen() -> None:
    seen = saw((0, []), (50, []), (100, [1]), (150, []), (200, [1]), whole=WHOLE)
    found = hops(seen, None)
    assert [w.person for w in found[0].windows] == [VOICE_ONLY]
    assert times_ms(found[0], VOICE_ONLY) == [0, 50]
    assert [w.person for w in found[1].windows] == [1]
    (window,) = found[1].windows
    assert window.clip is not None
    assert [f is WHOLE for f in window.clip.frames] == [True, True, False, True]


def test_a_recogniser_of_whole_pictures_can_ask_that_somebody_is_there() -> None:
    seen = saw((0, []), (50, []), (100, [1]), (150, []), (200, [1]), whole=WHOLE)
    found = hops(seen, None, stands_in=False)
    assert [w.face for w in found[0].windows] == [None]
    assert times_ms(found[1], 1) == [0, 50, 100, 150]


def test_without_a_stand_in_nobody_in_view_is_a_window_without_a_face() -> None:
    found = hops(saw((0, []), (50, [])), None)
    (window,) = found[0].windows
    assert (window.person, window.face, window.voice.value) == (VOICE_ONLY, None, "no_track")


def test_pictures_of_one_who_left_are_dropped() -> None:
    seen = saw((0, [1]), (50, [1]), (100, []), (450, []), (500, []), (600, []), lost=(450, 1))
    found = hops(seen, None)
    assert times_ms(found[2], 1) == [0, 50]
    assert [w.face is None for w in found[3].windows] == [True]
    assert [w.person for w in found[4].windows] == [VOICE_ONLY]


def test_a_window_without_a_new_picture_tells_the_time_of_its_newest() -> None:
    found = hops(saw((0, [1]), (50, [1])), heard(loud(6_400)))
    assert [hop.windows[0].draw.frame_ns // MS for hop in found] == [50, 50, 50, 399]
    assert [hop.windows[0].face is None for hop in found] == [False, False, False, True]


def test_flow_that_is_missing_is_that_of_the_next_picture() -> None:
    moving = np.ones((16, 16, 2), np.float32)
    first, second, third = face(), face(), face()
    object.__setattr__(second, "flow", moving)
    filled = with_flow((first, second, third))
    assert filled[0].flow is moving
    assert filled[1] is second
    np.testing.assert_array_equal(filled[2].flow, np.zeros((16, 16, 2)))
    np.testing.assert_array_equal(with_flow((first,))[0].flow, np.zeros((16, 16, 2)))
    assert with_flow(()) == ()
