"""Windows formed from rings: which sound and which face, when they are due, and when the stream is over."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.bundle import AudioInput
from stream.assembly import Hop, WindowAssembler
from stream.delivery import Aborted, Delivery
from stream.perception.seen import PersonEvent, SeenFaces
from stream.records import RATE_HZ, AudioBlock, Face, FrameFaces
from stream.rings import AudioRing
from stream.voice import VoiceState
from stream.windows import Alignment, WindowScheme
from tests.windows import face

MS = 1_000_000
SCHEME = WindowScheme(segment_ns=100 * MS, audio_ns=200 * MS, jitter_ns=10 * MS)
CAUSAL = WindowScheme(segment_ns=100 * MS, audio_ns=200 * MS, jitter_ns=10 * MS, alignment=Alignment.CAUSAL)
SPEC = AudioInput(rate_hz=16000, n_samples=3200, silence_dbfs=-55.0, min_coverage=0.5)
PER_SEGMENT = 1600


def never() -> None:
    raise AssertionError("expected everything to be there, the assembler waits")


def assembler(
    seen: SeenFaces | None, audio: AudioRing | None, *, scheme: WindowScheme = SCHEME, lose_ns: int = 10**12
) -> WindowAssembler:
    return WindowAssembler(scheme=scheme, seed=0, stream="a", seen=seen, audio=audio, spec=SPEC, lose_ns=lose_ns)


def heard(samples: np.ndarray, *, start: int = 0, closed: bool = True) -> AudioRing:
    ring = AudioRing(60.0, delivery=Delivery.WAIT)
    ring.write(AudioBlock(first=start, samples=samples.astype(np.float32)))
    if closed:
        ring.close()
    return ring


def loud(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, n)


def saw(
    *frames: tuple[int, Sequence[int]], events: Sequence[tuple[int, str, int]] = (), closed: bool = True
) -> SeenFaces:
    """Frames as (ms, persons), events as (ms, kind, person)."""
    seen = SeenFaces(1000, delivery=Delivery.WAIT)
    told = [PersonEvent(t_ns=t * MS, kind=kind, text="", person=person) for t, kind, person in events]
    for t, persons in frames:
        faces = tuple(face(person) for person in persons)
        seen.append(FrameFaces(t_ns=t * MS, faces=faces), tuple(e for e in told if e.t_ns == t * MS))
    if closed:
        seen.close()
    return seen


def hops(assembled: WindowAssembler, idle: Callable[[], None] = never) -> list[Hop]:
    found: list[Hop] = []
    while (hop := assembled.next_hop(len(found), idle)) is not None:
        found.append(hop)
    return found


def who(hop: Hop) -> list[tuple[int, bool, str]]:
    return [(w.person, w.face is not None, w.voice.value) for w in hop.windows]


# sound


@pytest.mark.parametrize("scheme", [SCHEME, CAUSAL])
@given(st.integers(1, 12 * PER_SEGMENT), st.integers(0, 6 * PER_SEGMENT))
def test_each_waveform_is_the_drawn_interval_with_zeros_where_nothing_was_captured(
    scheme: WindowScheme, n: int, start: int
) -> None:
    samples = loud(n)
    line = np.zeros(60 * PER_SEGMENT, np.float32)
    line[20 * PER_SEGMENT + start : 20 * PER_SEGMENT + start + n] = samples
    found = hops(assembler(None, heard(samples, start=start), scheme=scheme))
    assert len(found) == -(-(start + n) // PER_SEGMENT)
    for k, hop in enumerate(found):
        (window,) = hop.windows
        assert (window.person, window.face, window.end_ns) == (0, None, (k + 1) * 100 * MS)
        assert window.draw == scheme.draw(0, "a", k, scheme.segment_bounds(k), [])
        first = window.draw.audio_start_ns * RATE_HZ // 10**9
        n_real = max(0, min(first + 3200, start + n) - max(first, start))
        if n_real < 1600:
            assert (window.voice, window.waveform) == (VoiceState.GAP, None)
        else:
            assert window.voice is VoiceState.PRESENT
            assert window.waveform is not None
            at = 20 * PER_SEGMENT + first
            np.testing.assert_array_equal(window.waveform, line[at : at + 3200])


def test_silence_is_a_state_and_no_data() -> None:
    found = hops(assembler(None, heard(np.zeros(5 * PER_SEGMENT))))
    assert [who(hop) for hop in found] == [[(0, False, "silence")]] * 5
    assert all(hop.windows[0].waveform is None for hop in found)


def test_without_a_sound_track_the_state_says_so() -> None:
    found = hops(assembler(saw((0, [1]), (120, [1]), events=[(0, "face_found", 1)]), None))
    assert [who(hop) for hop in found] == [[(1, True, "no_track")]] * 2


def test_memory_that_no_later_window_needs_is_released() -> None:
    ring = heard(loud(20 * PER_SEGMENT))
    found = hops(assembler(None, ring))
    assert len(found) == 20
    # the next segment's earliest draw: its first instant, less the offset and half of the audio
    assert ring.released == 20 * PER_SEGMENT - 160 - 1600


# faces


def test_the_drawn_frame_gives_the_faces_and_who_is_tracked_gets_a_window() -> None:
    seen = saw(
        (0, [1]), (50, [1, 2]), (110, []), (150, []), (210, [2]), (260, [2]),
        events=[(0, "face_found", 1), (50, "face_found", 2), (260, "face_lost", 1)],
    )  # fmt: skip
    found = hops(assembler(seen, None))
    drawn = [SCHEME.draw(0, "a", 0, (0, 100 * MS), [0, 50 * MS]).frame_index]
    assert who(found[0]) == [(1, True, "no_track"), (2, drawn == [1], "no_track")]
    assert who(found[1]) == [(1, False, "no_track"), (2, False, "no_track")]
    assert who(found[2]) == [(2, True, "no_track")]
    assert [(event.kind, event.person) for event in found[2].events] == [("face_lost", 1)]


def test_a_frame_is_taken_from_its_own_segment_only() -> None:
    def crop(level: int) -> Face:
        return face(1, np.full((16, 16, 3), level, np.uint8))

    seen = SeenFaces(99, delivery=Delivery.WAIT)
    for k in range(30):
        events = (PersonEvent(t_ns=0, kind="face_found", text="", person=1),) if k == 0 else ()
        seen.append(FrameFaces(t_ns=k * 20 * MS, faces=(crop(k),)), events)
    seen.close()
    for hop in hops(assembler(seen, None)):
        (window,) = hop.windows
        assert window.face is not None
        frame = int(window.face.crop[0, 0, 0])
        assert frame // 5 == hop.segment
        assert frame == 5 * hop.segment + (window.draw.frame_index or 0)
        assert window.draw.frame_ns == frame * 20 * MS


@pytest.mark.parametrize(
    ("persons", "samples", "expected"),
    [
        ((), loud, [(0, False, "present")]),
        ((), np.zeros, [(0, False, "silence")]),
        ((1,), loud, [(1, True, "present")]),
        ((1,), np.zeros, [(1, True, "silence")]),
        ((1, 2), loud, [(0, False, "present"), (1, True, "shared"), (2, True, "shared")]),
        ((1, 2), np.zeros, [(1, True, "silence"), (2, True, "silence")]),
    ],
)
def test_whose_voice_it_is(
    persons: tuple[int, ...], samples: Callable[[int], np.ndarray], expected: list[tuple[int, bool, str]]
) -> None:
    seen = saw((50, persons), events=[(50, "face_found", person) for person in persons])
    (hop,) = hops(assembler(seen, heard(samples(PER_SEGMENT))))
    assert who(hop) == expected
    for window in hop.windows:
        assert (window.waveform is None) == (window.voice is not VoiceState.PRESENT)


def test_persons_are_told_in_ascending_order_and_events_once() -> None:
    seen = saw(
        (0, [3]), (50, [1, 3]), (150, [1, 3]),
        events=[(0, "face_found", 3), (50, "face_found", 1), (150, "face_lost", 3), (150, "face_lost", 9)],
    )  # fmt: skip
    built = assembler(seen, None)
    found = hops(built)
    assert [[w.person for w in hop.windows] for hop in found] == [[1, 3], [1]]
    assert [[(e.kind, e.person) for e in hop.events] for hop in found] == [
        [("face_found", 3), ("face_found", 1)],
        [("face_lost", 3)],  # person 9 was never there
    ]
    assert built.present == (1,)


def test_who_was_seen_last_too_long_ago_is_lost_without_a_picture() -> None:
    # sound goes on for a second, the next picture comes 0.9 s later, and only then does the tracker know
    seen = saw((0, [1]), (900, []), events=[(0, "face_found", 1), (900, "face_lost", 1)])
    found = hops(assembler(seen, heard(loud(10 * PER_SEGMENT)), lose_ns=300 * MS))
    assert [(hop.segment, e.kind, e.t_ns) for hop in found for e in hop.events] == [
        (0, "face_found", 0),
        (3, "face_lost", 400 * MS),
    ]
    assert [hop.windows[0].person for hop in found] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


# when


@pytest.mark.parametrize(("scheme", "needed_ms"), [(SCHEME, 200), (CAUSAL, 100)])
def test_a_hop_waits_for_the_end_of_its_segment_and_of_its_sound(scheme: WindowScheme, needed_ms: int) -> None:
    """What is still missing comes each time that the assembler waits; it may not go on a millisecond too early."""
    ring = AudioRing(5.0, delivery=Delivery.WAIT)
    built, step = assembler(None, ring, scheme=scheme), 160

    def arrive() -> None:
        ring.write(AudioBlock(first=ring.end, samples=loud(step).astype(np.float32)))

    draw = scheme.draw(0, "a", 0, (0, 100 * MS), [])
    ring.write(AudioBlock(first=0, samples=loud(8 * step).astype(np.float32)))
    hop = built.next_hop(0, arrive)
    assert hop is not None
    due = max(PER_SEGMENT, draw.audio_end_ns * RATE_HZ // 10**9)
    assert due <= ring.end < due + step
    assert hop.needed_ns == max(100 * MS, draw.audio_end_ns)
    assert hop.needed_ns <= needed_ms * MS + 10 * MS


def test_a_hop_waits_until_a_picture_of_the_next_segment_is_analysed() -> None:
    seen = saw((0, []), closed=False)
    calls: list[int] = []

    def arrive() -> None:
        calls.append(len(calls))
        seen.append(FrameFaces(t_ns=(50, 110)[len(calls) - 1] * MS, faces=()))

    hop = assembler(seen, None).next_hop(0, arrive)
    assert calls == [0, 1]
    assert hop is not None
    assert hop.windows[0].draw.frame_index in (0, 1)


def test_a_stream_ends_after_its_last_segment_that_holds_anything() -> None:
    assert len(hops(assembler(None, heard(loud(2 * PER_SEGMENT))))) == 2
    assert len(hops(assembler(None, heard(loud(2 * PER_SEGMENT + 1))))) == 3
    assert len(hops(assembler(saw((0, []), (199, [])), None))) == 2
    assert len(hops(assembler(saw((0, []), (200, [])), None))) == 3
    assert len(hops(assembler(saw((0, []), (500, [])), heard(loud(PER_SEGMENT))))) == 6
    assert len(hops(assembler(saw((0, [])), heard(loud(4 * PER_SEGMENT))))) == 4
    assert hops(assembler(saw(), None)) == []


def test_pictures_that_were_passed_over_count_for_the_length() -> None:
    seen = saw((0, []), closed=False)
    seen.pass_over(350 * MS)
    seen.advance(990 * MS)
    seen.close()
    assert len(hops(assembler(seen, None))) == 4


@pytest.mark.parametrize("part", ["seen", "audio"])
def test_an_abort_ends_the_wait(part: str) -> None:
    seen, ring = saw((0, []), closed=part == "audio"), AudioRing(5.0, delivery=Delivery.WAIT)
    built = assembler(seen, ring)

    def abort() -> None:
        seen.abort()
        ring.abort()

    with pytest.raises(Aborted):
        built.next_hop(0, abort)
