"""Who looks at the dashboard: the state first, then each message once, and slow viewers that cost nobody else."""

import json
import threading
from typing import Any

from stream.feed.messages import encode
from tests.feeds import WAIT_S, estimate, session
from tools.dashboard.board import BEAT_S, MAX_VIEWERS, VIEWER_QUEUE, Board, Viewer
from tools.dashboard.history import MAX_STREAMS, History


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def board_at(clock: Clock) -> Board:
    return Board(History(), source="tcp://x", now=clock)


def joined(board: Board) -> Viewer:
    viewer = board.join()
    assert viewer is not None
    return viewer


def told(board: Board, viewer: Viewer) -> list[tuple[str, Any]]:
    text = board.wait(viewer)
    assert text is not None
    lines = [part.decode().split("\n") for part in text.removesuffix(b"\n\n").split(b"\n\n")]
    return [(name.removeprefix("event: "), json.loads(value.removeprefix("data: "))) for name, value in lines]


def times(state: Any) -> list[float]:
    return [row[0] for row in state["streams"]["a"]["lanes"][0]["rows"]]


def test_a_viewer_is_told_the_state_and_then_what_is_new_as_it_came() -> None:
    clock = Clock()
    board = board_at(clock)
    board.take(estimate(1, 1.0))
    viewer = joined(board)
    clock.s += 0.5
    ((name, state),) = told(board, viewer)
    assert (name, state["source"], state["recorded"], state["silent_s"]) == ("state", "tcp://x", False, {"a": 0.5})
    assert times(state) == [1.0]
    new = [estimate(1, 2.0), session(), estimate(2, 2.0)]
    for message in new:
        board.take(message)
    board.flush()
    assert told(board, viewer) == [("messages", [json.loads(encode(message)) for message in new])]


def test_what_came_between_joining_and_the_state_is_told_once() -> None:
    board = board_at(Clock())
    early, late = joined(board), joined(board)
    told(board, early)
    board.take(estimate(1, 1.0))
    ((_, state),) = told(board, late)
    assert times(state) == [1.0]
    board.take(estimate(1, 2.0))
    board.flush()
    assert [[m["t"] for m in value] for _, value in told(board, early)] == [[1.0], [2.0]]
    assert [[m["t"] for m in value] for _, value in told(board, late)] == [[2.0]]


def test_a_beat_says_each_second_how_long_each_stream_was_silent_and_what_was_lost() -> None:
    clock = Clock()
    board = board_at(clock)
    viewer = joined(board)
    told(board, viewer)
    board.take(estimate(1, stream="b"))
    board.flush()
    told(board, viewer)
    board.count(lost=3, unreadable=1, late_ms=2.5)
    for _ in range(10):
        clock.s += BEAT_S / 4
        board.flush()
    beats = told(board, viewer)
    assert [(name, beat["silent_s"]["b"]) for name, beat in beats] == [("beat", 1.0), ("beat", 2.0)]
    assert [beats[0][1][name] for name in ("lost", "unreadable", "late_ms")] == [3, 1, 2.5]


def test_a_viewer_that_is_slow_is_told_the_state_again_and_others_lose_nothing() -> None:
    board = board_at(Clock())
    slow, quick = joined(board), joined(board)
    told(board, slow)
    told(board, quick)
    seen: list[float] = []
    for i in range(2 * VIEWER_QUEUE):
        board.take(estimate(1, float(i)))
        board.flush()
        seen += [message["t"] for _, value in told(board, quick) for message in value]
        assert len(slow.batches) <= VIEWER_QUEUE
    assert seen == [float(i) for i in range(2 * VIEWER_QUEUE)]
    ((name, state),) = told(board, slow)
    assert (name, times(state)) == ("state", seen)


def test_streams_that_are_made_up_without_end_are_forgotten() -> None:
    board = board_at(Clock())
    for k in range(3 * MAX_STREAMS):
        board.take(estimate(1, stream=f"s{k:02}"))
    ((_, state),) = told(board, joined(board))
    newest = [f"s{k:02}" for k in range(2 * MAX_STREAMS, 3 * MAX_STREAMS)]
    assert (sorted(state["silent_s"]), sorted(state["streams"])) == (newest, newest)


def test_there_is_room_for_so_many_and_again_when_one_leaves() -> None:
    board = board_at(Clock())
    viewers = [joined(board) for _ in range(MAX_VIEWERS)]
    assert board.join() is None
    board.leave(viewers[0])
    ((_, state),) = told(board, joined(board))
    assert state["viewers"] == MAX_VIEWERS


def test_a_board_that_closes_lets_those_go_who_wait() -> None:
    board = board_at(Clock())
    viewer = joined(board)
    told(board, viewer)
    got: list[bytes | None] = []
    waiting = threading.Thread(target=lambda: got.append(board.wait(viewer)))
    waiting.start()
    board.close()
    waiting.join(WAIT_S)
    assert got == [None]
    assert board.join() is None
