"""The publishing end: numbers, the queue, and what happens when the feed thread fails."""

import math
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from stream.delivery import Delivery
from stream.feed.messages import Message
from stream.feed.publisher import Feed, Numbering, rfc3339
from stream.feed.security import FeedError
from tests.feeds import (
    WAIT_S,
    Gate,
    estimate,
    event,
    seqs,
    session,
    until,
)

# numbering


def test_stamps_are_utc_with_milliseconds() -> None:
    when = datetime(2026, 1, 31, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(when) == "2026-01-31T12:00:00.123Z"


def test_each_topic_counts_from_0_and_a_new_session_starts_its_stream_anew() -> None:
    number = Numbering(lambda: datetime(2026, 1, 31, tzinfo=UTC))
    sent: list[Message] = [
        session(session="1"),
        estimate(1),
        estimate(2),
        estimate(1),
        estimate(1, stream="b"),
        session(session="1"),
        estimate(1),
        session(session="2"),
        estimate(1),
        estimate(1, stream="b"),
    ]
    numbered = [number(message) for message in sent]
    assert seqs(numbered) == [0, 0, 0, 1, 0, 1, 2, 0, 0, 1]
    assert {message.stamp for message in numbered} == {"2026-01-31T00:00:00.000Z"}
    assert [replace(message, seq=0, stamp="") for message in numbered] == sent


def test_a_number_that_is_not_finite_is_the_lines_fault_and_takes_no_number() -> None:
    gate = Gate()
    gate.opened.set()
    with Feed([gate]) as feed:
        feed.publish(estimate(1))
        with pytest.raises(
            ValueError, match="expected finite numbers in the message estimate/a/1, got confidence = nan"
        ):
            feed.publish(estimate(1, confidence=math.nan))
        feed.publish(estimate(1))
    assert seqs(gate.got) == [0, 1]


# the queue


def test_many_threads_publish_in_one_order() -> None:
    gate = Gate()
    gate.opened.set()
    with Feed([gate], delivery=Delivery.WAIT, queue_size=3) as feed:

        def line(k: int) -> None:
            for i in range(100):
                feed.publish(estimate(1, float(k * 100 + i)))

        threads = [threading.Thread(target=line, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert seqs(gate.got) == list(range(400))
    for k in range(4):
        own = [message.t for message in gate.got if message.t // 100 == k]
        assert own == [float(k * 100 + i) for i in range(100)]


def test_wait_blocks_the_line_and_loses_nothing() -> None:
    gate, published = Gate(), []
    with Feed([gate], delivery=Delivery.WAIT, queue_size=2) as feed:

        def line() -> None:
            for i in range(50):
                feed.publish(estimate(1, float(i)))
                published.append(i)

        thread = threading.Thread(target=line)
        thread.start()
        assert gate.entered.wait(WAIT_S)
        until(lambda: len(published) >= 2)
        # one or two were taken by the thread that stands at the gate, two wait
        assert len(published) <= 4
        gate.opened.set()
        thread.join(WAIT_S)
    assert [message.t for message in gate.got] == [float(i) for i in range(50)]
    assert seqs(gate.got) == list(range(50))
    assert feed.n_dropped == 0


def test_drop_oldest_never_blocks_keeps_events_and_shows_the_loss_in_seq() -> None:
    gate = Gate()
    with Feed([gate], delivery=Delivery.DROP_OLDEST, queue_size=4) as feed:
        feed.publish(session())
        assert gate.entered.wait(WAIT_S)
        feed.publish(event())
        for i in range(10):
            feed.publish(estimate(1, float(i)))
        assert feed.n_dropped == 7
        gate.opened.set()
    assert [(type(m).__name__, m.seq) for m in gate.got] == [
        ("Session", 0),
        ("Event", 0),
        ("Estimate", 7),
        ("Estimate", 8),
        ("Estimate", 9),
    ]


def test_a_feed_without_sinks_takes_everything() -> None:
    with Feed([], delivery=Delivery.WAIT, queue_size=1) as feed:
        for _ in range(20):
            feed.publish(estimate())
    assert feed.n_dropped == 0


def test_publishing_outside_of_with_is_refused() -> None:
    feed = Feed([])
    with pytest.raises(FeedError, match="the feed is not open"):
        feed.publish(estimate())
    feed.close()
    with feed:
        feed.publish(estimate())
    with pytest.raises(FeedError, match="the feed is not open"):
        feed.publish(estimate())


def test_a_fault_in_the_feed_thread_reaches_the_line_and_does_not_block_it() -> None:
    class Faulty(Gate):
        def send(self, message: Message) -> None:
            raise ZeroDivisionError("a fault")

    def line() -> None:
        with Feed([Faulty()], delivery=Delivery.WAIT, queue_size=1) as feed:
            while True:
                feed.publish(estimate())

    with pytest.raises(RuntimeError, match="the feed thread failed") as caught:
        line()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
