"""What a subscriber notes of what arrives, without a network: bounded, whatever a publisher makes up."""

from datetime import UTC, datetime

import pytest

from stream.feed.arrivals import MAX_TOPICS, OTHERS, Arrivals, lateness_s
from stream.feed.messages import Message, encode, topic_of
from tests.feeds import estimate, session


def take(arrivals: Arrivals, message: Message) -> Message | None:
    return arrivals.take((topic_of(message).encode(), encode(message)))


def test_what_is_known_of_ever_new_topics_is_bounded_and_no_loss_goes_uncounted() -> None:
    arrivals = Arrivals()
    for person in range(MAX_TOPICS + 50):
        for seq in (0, 3):
            message = estimate(person, seq=seq, stamp=f"T{seq}")
            assert take(arrivals, message) == message
    assert len(arrivals.n_lost) == MAX_TOPICS + 1
    assert arrivals.n_lost[OTHERS] == 50 * 2
    assert sum(arrivals.n_lost.values()) == (MAX_TOPICS + 50) * 2
    # A topic long unheard of is as one never heard; the newest are still known.
    assert take(arrivals, estimate(0, seq=3, stamp="T3")) is not None
    assert take(arrivals, estimate(MAX_TOPICS, seq=3, stamp="T3")) is None
    assert arrivals.n_repeats == 1


def test_streams_begin_anew_each_for_itself() -> None:
    arrivals = Arrivals()
    for message in (
        session(session="1", stamp="T1"),
        session(stream="b", session="1", stamp="T1"),
        session(session="2", stamp="T2"),
        estimate(1, seq=4, stamp="T3"),
        estimate(1, seq=4, stamp="T3", stream="b"),
    ):
        assert take(arrivals, message) == message
    assert arrivals.n_lost == {"estimate/a/1": 4}


def test_a_session_that_is_said_anew_neither_loses_nor_repeats_what_came_before_it() -> None:
    """Somebody joins, hears an estimate, then the session said anew; the repeats that were meant for them follow."""
    arrivals = Arrivals()
    anew = session(session="1", origin="T1", seq=1, stamp="T6", hop_s=0.5)
    heard = [estimate(1, seq=5, stamp="T5"), anew]
    assert [take(arrivals, message) for message in heard] == heard
    assert [take(arrivals, message) for message in (anew, heard[0])] == [None, None]
    assert take(arrivals, estimate(1, seq=6, stamp="T7")) is not None
    assert take(arrivals, session(session="1", origin="T1", seq=3, stamp="T8")) is not None
    assert arrivals.n_lost == {"session/a": 1}
    for message in (session(session="2", origin="T8a", seq=1, stamp="T9"), estimate(1, seq=0, stamp="T9")):
        assert take(arrivals, message) == message
    assert arrivals.n_lost == {"session/a": 1}


@pytest.mark.parametrize(
    ("stamp", "late_s"),
    [
        ("2026-01-31T12:00:00.000Z", 1.5),
        ("2026-01-31T12:00:01.750Z", -0.25),  # the publisher's clock is ahead
        ("2026-01-31T13:00:00.000+01:00", 1.5),
        ("2026-01-31T12:00:00.000", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_lateness_is_from_publishing_to_now(stamp: str, late_s: float | None) -> None:
    now = datetime(2026, 1, 31, 12, 0, 1, 500_000, tzinfo=UTC)
    assert lateness_s(estimate(1, stamp=stamp), now) == late_s
