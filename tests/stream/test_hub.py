"""The hub: unchanged messages, welcomes, restarts, names that clash, and what it forgets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zmq

from stream.feed.hub import FORGET_S, TAKEN_S, Hub
from stream.feed.messages import Message, Session, encode, topic_of
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, estimate, event, raw_subscriber, receive, seqs, serving, session, status, until


@dataclass
class Running:
    """A hub on a thread of its own."""

    hub: Hub
    sources: tuple[str, ...]
    address: str = ""
    lines: list[str] = field(default_factory=list)
    now_s: float = 1000.0


@contextmanager
def hub_of(*addresses: str) -> Iterator[Running]:
    over = threading.Event()
    lines: list[str] = []
    hub = Hub(
        [Subscriber(address) for address in addresses], ZmqSink(ANY), told=lines.append, now=lambda: running.now_s
    )
    running = Running(hub, addresses, lines=lines)

    def run() -> None:
        while not over.is_set():
            hub.serve(0.02)

    with hub:
        running.address = hub.address
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield running
        finally:
            over.set()
            thread.join(WAIT_S)


def take(subscriber: Subscriber, n: int) -> list[Message]:
    """The next that are no repeats."""
    got = [subscriber.receive(WAIT_S) for _ in range(n)]
    assert None not in got
    return [message for message in got if message is not None]


def hears(running: Running, *streams: str) -> None:
    """Wait until the hub has heard of these streams."""
    until(lambda: all(any(line.startswith(f"stream {name} from") for line in running.lines) for name in streams))


@contextmanager
def two_publishers(codec: str = "json") -> Iterator[tuple[Feed, Feed, Running]]:
    """Two publishers and a hub that is known to be connected to both: it has heard `here` and `there`."""
    one, two = ZmqSink(ANY), ZmqSink(ANY, codec=codec)
    with serving(one) as first, Feed([two]) as second, hub_of(one.address, two.address) as running:
        second.publish(status(stream="there"))
        hears(running, "here", "there")
        yield first, second, running


def next_estimate(socket: "zmq.Socket[bytes]") -> list[bytes]:
    """The frames of the next estimate: a status may be repeated for another that joined."""
    while not (frames := socket.recv_multipart())[0].startswith(b"estimate/"):
        pass
    return frames


def test_two_publishers_are_one_feed_and_every_frame_passes_unchanged() -> None:
    with (
        two_publishers("msgpack") as (first, second, running),
        raw_subscriber(running.sources[0], "estimate/", "status/here") as direct,
        raw_subscriber(running.address, "estimate/", "status/there") as socket,
    ):
        assert receive(direct).stream == "here"
        assert receive(socket).stream == "there"
        for t in range(3):
            first.publish(estimate(1, float(t)))
        for _ in range(3):
            assert next_estimate(socket) == next_estimate(direct)
        second.publish(estimate(7, 4.0, stream="b"))
        topic, payload = next_estimate(socket)
        assert topic == b"estimate/b/7"
        assert payload[:1] != b"{"  # as the publisher encoded it


def test_who_joins_the_hub_late_is_told_the_newest_of_every_publisher() -> None:
    with two_publishers() as (first, second, running):
        for message in (session(), status(), estimate(1, 1.0), estimate(2, 1.0), estimate(1, 2.0)):
            first.publish(message)
        second.publish(session(stream="b"))
        second.publish(event(stream="b", kind="end"))
        until(lambda: running.hub.n_passed == 2 + 7)
        with Subscriber(running.address) as late:
            got = {topic_of(message): message.seq for message in take(late, 8)}
        assert got == {
            "status/here": 0,
            "status/there": 0,
            "session/a": 0,
            "status/a": 0,
            "estimate/a/2": 0,
            "estimate/a/1": 1,
            "session/b": 0,
            "event/b": 0,
        }


def test_what_came_before_its_session_is_told_to_late_joiners_too() -> None:
    newest: list[Message] = [session(stamp="T1"), estimate(1, seq=7, stamp="T1")]
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        publisher.rcvtimeo = round(WAIT_S * 1000)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with hub_of(f"tcp://127.0.0.1:{port}") as running:
            assert publisher.recv() == b"\1"
            for message in (newest[1], *newest, status(stamp="T2")):  # a live one, then what is repeated to the hub
                publisher.send_multipart([topic_of(message).encode(), encode(message)])
            until(lambda: running.hub.n_passed == 3)
            with raw_subscriber(running.address, "session/", "estimate/") as late:
                assert [receive(late) for _ in newest] == newest


def test_a_publisher_that_comes_back_is_heard_again_and_the_other_never_stops(tmp_path: Path) -> None:
    address, other = f"ipc://{tmp_path}/feed", ZmqSink(ANY)
    with serving(other) as steady, hub_of(address, other.address) as running, Subscriber(running.address) as subscriber:
        assert take(subscriber, 1)[0].stream == "here"
        for run in ("1", "2"):
            with Feed([ZmqSink(address)]) as feed:
                feed.publish(session(session=run))
                feed.publish(estimate(1, 1.0))
                got = take(subscriber, 2)
                assert {topic_of(message) for message in got} == {"session/a", "estimate/a/1"}
                assert [message.session for message in got if isinstance(message, Session)] == [run]
            steady.publish(status(stream="here"))
            assert take(subscriber, 1)[0].stream == "here"
        assert subscriber.n_lost == {}


def test_a_stream_of_a_name_that_is_taken_is_left_out_until_the_first_is_silent() -> None:
    with two_publishers() as (first, second, running):
        hub, (one, two) = running.hub, running.sources
        first.publish(session(session="1"))
        hears(running, "a")
        for _ in range(3):
            second.publish(status())
        until(lambda: hub.n_left_out == 3)
        assert running.lines[2:] == [
            f"stream a from {one}",
            f"stream a from {two} is left out: {one} publishes one of that name; give one of them another --name",
        ]
        running.now_s += TAKEN_S
        second.publish(session(session="2"))
        until(lambda: hub.n_passed == 2 + 2)
        first.publish(status())
        until(lambda: hub.n_left_out == 4)
        second.publish(event(kind="end"))
        until(lambda: hub.n_passed == 2 + 3)
        first.publish(status())  # the name is free
        until(lambda: hub.n_passed == 2 + 4)


def test_a_stream_long_silent_is_forgotten() -> None:
    sink = ZmqSink(ANY)
    with Feed([sink]) as feed, hub_of(sink.address) as running:
        feed.publish(session(stream="old"))
        hears(running, "old")
        running.now_s += FORGET_S - 1.0
        feed.publish(session(stream="new"))
        hears(running, "new")
        running.now_s += 1.0
        feed.publish(status(stream="new"))
        until(lambda: running.hub.n_passed == 3)
        with Subscriber(running.address) as late:
            assert [topic_of(message) for message in take(late, 2)] == ["session/new", "status/new"]


def test_rubbish_from_one_publisher_costs_the_others_nothing() -> None:
    good = ZmqSink(ANY)
    with zmq.Context() as context, context.socket(zmq.XPUB) as bad:
        bad.linger = 0
        bad.rcvtimeo = round(WAIT_S * 1000)
        address = f"tcp://127.0.0.1:{bad.bind_to_random_port('tcp://127.0.0.1')}"
        with serving(good) as feed, hub_of(address, good.address) as running:
            assert bad.recv() == b"\1"
            hears(running, "here")
            with Subscriber(running.address) as subscriber:
                assert topic_of(subscriber.receive(WAIT_S) or status()) == "status/here"
                for i in range(5_000):
                    bad.send_multipart([b"estimate/a/1", b"\xff" * (i % 50)][: 1 + i % 2])
                    if i % 100 == 0:
                        feed.publish(estimate(1, float(i)))
                assert seqs(take(subscriber, 50)) == list(range(50))
                assert (subscriber.n_malformed, subscriber.n_lost) == (0, {})


def test_a_hub_whose_address_is_in_use_says_so() -> None:
    sink = ZmqSink(ANY)
    with serving(sink), pytest.raises(FeedError, match="the address is in use"), Hub([], ZmqSink(sink.address)):
        pass


def test_what_is_passed_on_is_what_was_encoded() -> None:
    frames = (b"estimate/a/1", encode(estimate(1)).replace(b'{"', b'{"of_later":1,"', 1))
    with zmq.Context() as context, context.socket(zmq.XPUB) as newer:
        newer.linger = 0
        newer.rcvtimeo = round(WAIT_S * 1000)
        port = newer.bind_to_random_port("tcp://127.0.0.1")
        with hub_of(f"tcp://127.0.0.1:{port}") as running, raw_subscriber(running.address) as socket:
            assert newer.recv() == b"\1"
            newer.send_multipart(frames)
            assert tuple(socket.recv_multipart()) == frames
