"""The measurement of many subscribers: its subscribers count, and what it tells follows from the turns."""

import json
import sys

import pytest

from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, estimate, event, serving
from tools.measure.feed_load import READY, Turn, _blocked, _readers, report


def test_readers_count_what_they_received_and_lost() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed:
        feed.publish(READY)
        with _readers(sink.address, 2) as readers:
            feed.publish(estimate(1, 0.25, age_ms=20.0))
            feed.publish(event(kind="end"))
            assert readers.stdout is not None
            told = json.loads(readers.stdout.readline())
    assert told["lost"] == [0, 0]
    assert told["received"] == [4, 4]  # what it was told as it joined, the estimate, the end
    for (added_ms,) in told["added_ms"]:
        assert 20.0 <= added_ms < 20_000.0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal that stops a process")
def test_those_who_do_not_read_lose_nothing_for_who_does() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed:
        feed.publish(READY)
        with _readers(sink.address, 1) as readers, _blocked(sink.address):
            for n in range(200):
                feed.publish(estimate(1, n / 4, age_ms=20.0))
            feed.publish(event(kind="end"))
            assert readers.stdout is not None
            told = json.loads(readers.stdout.readline())
    assert told["lost"] == [0]
    assert told["received"][0] >= 203  # and what was repeated for those who joined after it
    assert len(told["added_ms"][0]) == 200


def test_what_is_told_follows_from_the_turns() -> None:
    one = Turn(added_ms=[10.0] * 99 + [20.0], received=[100], lost=[0], resident_mb=200.0)
    many = Turn(added_ms=[10.0] * 99 + [40.0], received=[100, 98], lost=[0, 2], resident_mb=210.0)
    told = report([(one, many), (one, one)], 3)
    assert told[1].split() == ["1", "10.0", "ms", "10.1", "ms", "0", "of", "200", "200", "MiB"]
    assert told[2].split()[-5:] == ["2", "of", "300", "210", "MiB"]
    assert told[3] == "p99 with 3 / with one, round by round: 1.02, 1.00; over all rounds 1.00"
