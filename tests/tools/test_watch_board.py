"""What the view in the terminal knows: persons and their histories, what arrived and how late, and its bounds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stream.feed.messages import Message
from tests.feeds import estimate, event, session, status
from tools.feeds.watch_board import (
    MAX_EVENTS,
    MAX_MARKS,
    MAX_PERSONS,
    MAX_STREAMS,
    RATE_S,
    Board,
    Received,
    StreamView,
)

ADDRESS = "tcp://127.0.0.1:5563"


def board_after(*messages: Message, now_s: float = 100.0) -> Board:
    board = Board(ADDRESS)
    for message in messages:
        board.take(message, now_s)
    return board


def only(board: Board) -> StreamView:
    ((_, stream),) = board.streams
    return stream


def marks(board: Board, person: int = 1) -> list[Any]:
    return [mark and (mark.label, mark.confidence) for mark in only(board).persons[person].marks]


def test_a_history_has_a_mark_an_estimate_and_a_gap_where_there_was_none() -> None:
    board = board_after(
        estimate(1, 1.0),
        estimate(1, 1.25, label=None, reason="silence", confidence=0.3),
        estimate(1, 4.25, label="neutral", confidence=0.5),
        estimate(2, 4.25),
    )
    assert marks(board) == [("happiness", 0.75), (None, 0.3), None, ("neutral", 0.5)]
    assert marks(board, 2) == [("happiness", 0.75)]


def test_a_session_told_anew_with_another_hop_changes_nothing_but_the_session() -> None:
    board = board_after(session(), estimate(1), status(), event(), session(hop_s=1.0, seq=1))
    stream = only(board)
    assert stream.session is not None
    assert (stream.session.hop_s, stream.status, len(stream.events)) == (1.0, status(), 1)
    assert marks(board) == [("happiness", 0.75)]


def test_another_session_begins_anew_and_one_that_comes_late_does_not() -> None:
    board = board_after(estimate(1), session(session="1"))  # who joins late may hear an estimate before the session
    assert list(only(board).persons) == [1]
    board.take(session(session="2"), 101.0)
    assert list(only(board).persons) == []


def test_a_stream_that_goes_back_forgets_its_persons() -> None:
    board = board_after(estimate(1, 50.0), estimate(2, 50.0), estimate(1, 49.5), estimate(2, 1.0))
    assert list(only(board).persons) == [2]
    assert marks(board, 2) == [("happiness", 0.75)]


def test_persons_that_are_gone_leave() -> None:
    assert list(only(board_after(estimate(1, 0.0), estimate(2, 3.0), estimate(2, 6.0))).persons) == [2]


def test_an_end_holds_until_something_else_happens() -> None:
    board = board_after(event(kind="end"), now_s=7.0)
    assert only(board).ended_s == 7.0
    board.take(event(), 8.0)
    assert only(board).ended_s is None


def test_whatever_comes_is_bounded() -> None:
    board = board_after(*(status(stream=f"s{k}") for k in range(3 * MAX_STREAMS)))
    assert [name for name, _ in board.streams] == ["s10", "s11", "s8", "s9"]  # by name, whoever spoke last
    board = board_after(*(estimate(k, float(k) / 100) for k in range(3 * MAX_PERSONS)), *[event()] * 20)
    assert list(only(board).persons) == list(range(2 * MAX_PERSONS, 3 * MAX_PERSONS))
    assert len(only(board).events) == MAX_EVENTS
    board = board_after(*(estimate(1, k / 4) for k in range(2 * MAX_MARKS)))
    assert len(marks(board)) == MAX_MARKS


def test_what_came_in_the_last_seconds_is_counted() -> None:
    received = Received()
    assert (received.rate_hz(0.0), received.late_ms(0.0)) == (0.0, None)
    for k in range(80):
        received.take(k / 8, k / 1000)
    assert received.rate_hz(10.0) == pytest.approx(8.0)
    assert received.late_ms(10.0) == pytest.approx((60.0, 79.0))  # of those 40 ms to 79 ms late
    assert received.rate_hz(10.0 + 2 * RATE_S) == 0.0
    assert received.late_ms(10.0 + 2 * RATE_S) is None


def test_the_first_second_is_not_counted_as_less() -> None:
    received = Received()
    for k in range(3):
        received.take(50.0 + k / 10, None)
    assert received.rate_hz(50.3) == pytest.approx(3.0)


def test_what_may_have_been_repeated_for_us_says_nothing_of_lateness() -> None:
    old = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    board = board_after(estimate(1, stamp=old), status(stamp=old))
    assert board.received.late_ms(100.0) is None
    board.take(estimate(1, stamp=old), 100.0)
    late = board.received.late_ms(100.0)
    assert late is not None
    assert 60_000 <= late[0] < 120_000
