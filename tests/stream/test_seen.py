"""The log between perception and scoring: what it gives for a segment, and when it lets go of who waits."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.delivery import Aborted, Delivery
from stream.perception.seen import PersonEvent, SeenFaces
from stream.records import FrameFaces

WAIT_S = 10.0


def at(t_ns: int) -> FrameFaces:
    return FrameFaces(t_ns=t_ns, faces=())


def found(t_ns: int, person: int = 1) -> PersonEvent:
    return PersonEvent(t_ns=t_ns, kind="face_found", text="", person=person)


def log(*times_ns: int, capacity: int = 8, delivery: Delivery = Delivery.WAIT) -> SeenFaces:
    seen = SeenFaces(capacity, delivery=delivery)
    for t_ns in times_ns:
        seen.append(at(t_ns), (found(t_ns),))
    return seen


def times(frames: list[FrameFaces]) -> list[int]:
    return [frame.t_ns for frame in frames]


@given(st.lists(st.integers(0, 50), max_size=30, unique=True).map(sorted), st.integers(1, 9))
def test_segments_in_a_row_give_every_frame_and_event_once(given_ns: list[int], segment_ns: int) -> None:
    seen = log(*given_ns, capacity=64)
    for start in range(0, 60, segment_ns):
        within = [t_ns for t_ns in given_ns if start <= t_ns < start + segment_ns]
        assert times(seen.take(start, start + segment_ns)) == within
        assert [event.t_ns for event in seen.take_events(start + segment_ns)] == within


def test_what_lies_before_the_segment_is_dropped() -> None:
    seen = log(1, 2, 5)
    assert times(seen.take(4, 6)) == [5]
    assert times(seen.take(0, 9)) == []


def test_a_segment_is_past_once_a_frame_at_its_end_or_later_came() -> None:
    seen = log(3)
    assert seen.wait_past(3, 0.0)
    assert not seen.wait_past(4, 0.0)
    seen.pass_over(7)
    assert seen.wait_past(7, 0.0)
    seen.advance(5)  # less than what is known already
    assert seen.wait_past(7, 0.0)
    seen.advance(9)
    assert seen.wait_past(9, 0.0)
    assert not seen.wait_past(10, 0.0)
    seen.close()
    assert seen.wait_past(10**9, 0.0)


def test_it_has_ended_before_what_no_frame_reached() -> None:
    seen = log(3)
    seen.pass_over(5)
    seen.advance(100)  # only says that none comes
    assert not seen.ended_before(6)
    seen.close()
    assert seen.ended_before(6)
    assert not seen.ended_before(5)
    empty = log()
    empty.close()
    assert empty.ended_before(0)


def test_a_full_log_makes_perception_wait_until_frames_are_taken() -> None:
    seen = log(0, 1, capacity=2)
    written = threading.Event()

    def write() -> None:
        seen.append(at(2))
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not written.wait(0.02)
    assert times(seen.take(0, 1)) == [0]
    assert written.wait(WAIT_S)
    thread.join(WAIT_S)
    assert times(seen.take(0, 9)) == [1, 2]
    assert seen.n_dropped == 0


def test_a_full_live_log_drops_the_oldest_frames_but_no_event() -> None:
    seen = log(*range(10), capacity=4, delivery=Delivery.DROP_OLDEST)
    assert seen.n_dropped == 6
    assert [event.t_ns for event in seen.take_events(99)] == list(range(10))
    assert times(seen.take(0, 99)) == [6, 7, 8, 9]


def test_an_abort_wakes_who_waits_and_who_writes() -> None:
    seen = log(0, capacity=1)
    raised: list[str] = []

    def must_raise(action: object) -> None:
        try:
            action()  # type: ignore[operator]
        except Aborted as error:
            raised.append(str(error))

    waits = (lambda: seen.append(at(1)), lambda: seen.wait_past(10, WAIT_S))
    threads = [threading.Thread(target=must_raise, args=(wait,)) for wait in waits]
    for thread in threads:
        thread.start()
    seen.abort()
    for thread in threads:
        thread.join(WAIT_S)
    assert raised == ["the SeenFaces was aborted"] * 2
    with pytest.raises(Aborted):
        seen.wait_past(0, 0.0)  # though it is past: the log may lack frames
