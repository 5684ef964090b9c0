"""What the dashboard remembers: the newest state as it came, an hour of rows, and never more than its bounds."""

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.feed.messages import encode
from stream.feed.security import FeedError
from tests.feeds import estimate, event, session, status
from tools.dashboard.history import (
    COARSE_S,
    FINE_ROWS,
    KEPT_S,
    MAX_EVENTS,
    MAX_PERSONS,
    MAX_STREAMS,
    History,
    Series,
    read_file,
)


def snapshot(history: History) -> Any:
    return json.loads(msgspec.json.encode(history.snapshot()))


def history_of(*messages: Any) -> History:
    history = History()
    for message in messages:
        history.take(message)
    return history


def test_messages_are_kept_as_they_came_and_estimates_as_rows() -> None:
    told, found = session(hop_s=0.5), event(person=1)
    abstains = estimate(2, 3.0, label=None, reason="silence", age_ms=None, confidence=0.3)
    kept = snapshot(history_of(told, estimate(1, 2.0), abstains, found, status(age_ms=(7.0, 9.5))))["a"]
    assert kept["session"] == json.loads(encode(told))
    assert kept["events"] == [json.loads(encode(found))]
    assert kept["status"]["engine_ms"] == [9.5, 20.0]
    assert kept["statuses"] == [[2.25, 25.0, 4.0, 7.0, 9.5, 9.5, 0, None]]
    assert kept["lanes"] == [
        {
            "person": 1,
            "labels": ["neutral", "happiness"],
            "rows": [[2.0, "happiness", None, 0.75, 700.5, [0.5, 0.5], 0.5, 0.25, 0.75]],
        },
        {
            "person": 2,
            "labels": ["neutral", "happiness"],
            "rows": [[3.0, None, "silence", 0.3, None, [0.5, 0.5], 0.5, 0.25, 0.75]],
        },
    ]


def test_old_rows_are_thinned_and_those_older_than_an_hour_forgotten() -> None:
    series, n = Series(), 4 * 5000
    for i in range(n):
        series.add(i / 4, msgspec.json.encode(i / 4))
    times = [float(bytes(row)) for row in series.rows()]
    newest = (n - 1) / 4
    assert times[-FINE_ROWS:] == [(n - FINE_ROWS + i) / 4 for i in range(FINE_ROWS)]
    coarse = times[:-FINE_ROWS]
    assert {b - a for a, b in itertools.pairwise(coarse)} == {COARSE_S}
    assert newest - KEPT_S <= coarse[0] < newest - KEPT_S + COARSE_S
    assert len(times) <= FINE_ROWS + KEPT_S / COARSE_S


def test_a_stream_that_goes_back_begins_anew() -> None:
    series = Series()
    for t in (10.0, 11.0, 10.5, 0.25, 0.5):
        series.add(t, msgspec.json.encode(t))
    assert [float(bytes(row)) for row in series.rows()] == [0.25, 0.5]


def test_another_session_forgets_the_stream_and_the_same_one_does_not() -> None:
    history = history_of(session(session="1"), estimate(1), event(), session(session="1"))
    assert len(snapshot(history)["a"]["lanes"]) == 1
    history.take(session(session="2"))
    kept = snapshot(history)["a"]
    assert (kept["session"]["session"], kept["lanes"], kept["events"]) == ("2", [], [])


def test_a_session_that_comes_after_its_first_estimate_keeps_it() -> None:
    assert len(snapshot(history_of(estimate(1), session()))["a"]["lanes"]) == 1


def test_other_labels_begin_a_lane_anew() -> None:
    history = history_of(estimate(1, 1.0), estimate(1, 2.0, posterior={"anger": 1.0}, label="anger"))
    (lane,) = snapshot(history)["a"]["lanes"]
    assert (lane["labels"], [row[0] for row in lane["rows"]]) == (["anger"], [2.0])


def test_whatever_comes_is_bounded() -> None:
    history = History()
    for i in range(3 * MAX_STREAMS):
        history.take(estimate(1, stream=f"s{i:02}"))
    assert sorted(snapshot(history)) == [f"s{i:02}" for i in range(2 * MAX_STREAMS, 3 * MAX_STREAMS)]
    for i in range(3 * MAX_EVENTS):
        history.take(estimate(i, float(i)))
        history.take(event(t=float(i)))
    kept = snapshot(history)["a"]
    assert [lane["person"] for lane in kept["lanes"]] == list(range(3 * MAX_EVENTS - MAX_PERSONS, 3 * MAX_EVENTS))
    assert [e["t"] for e in kept["events"]] == [float(i) for i in range(2 * MAX_EVENTS, 3 * MAX_EVENTS)]


@pytest.mark.parametrize("name", ["talk.feed.jsonl", "talk.mkv"])
def test_a_file_is_kept_whole_but_for_what_is_no_message(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    n = FINE_ROWS + 100
    lines = [encode(session()), b'{"type":"session"', b"\xff", *(encode(estimate(1, i / 4)) for i in range(n))]
    (tmp_path / "talk.feed.jsonl").write_bytes(b"\n".join([*lines, lines[-1][:40]]))
    (lane,) = snapshot(read_file(tmp_path / name))["a"]["lanes"]
    assert [row[0] for row in lane["rows"]] == [i / 4 for i in range(n)]
    path = tmp_path / "talk.feed.jsonl"
    assert caplog.messages == [f"left out what is no message of the feed in {path}: 3 of {n + 4} lines"]


def test_a_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FeedError, match=r"cannot open .*talk\.feed\.jsonl: no such file or directory; name a \.jsonl of messages"
    ):
        read_file(tmp_path / "talk.mkv")
    (tmp_path / "empty.jsonl").write_text("nothing\n")
    with pytest.raises(FeedError, match=r"expected messages of the feed in .*empty\.jsonl, one a line, got none"):
        read_file(tmp_path / "empty.jsonl")
