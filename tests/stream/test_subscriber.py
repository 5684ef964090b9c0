"""The receiving end: repeats, losses, restarts, and what is not a message."""

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import zmq
from msgspec.structs import replace

from stream.delivery import Delivery
from stream.feed.messages import Message, encode, topic_of
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, estimate, event, joined, seqs, serving, session, status

ROOT = Path(__file__).parents[2]


@contextmanager
def subscribed(address: str, **options: object) -> Iterator[Subscriber]:
    """A subscriber that is known to be connected: it has the status of the stream `here`."""
    with Subscriber(address, **options) as subscriber:  # type: ignore[arg-type]
        message = subscriber.receive(WAIT_S)
        assert message is not None
        assert message.stream == "here"
        yield subscriber


def take(subscriber: Subscriber, n: int) -> list[Message]:
    got = [subscriber.receive(WAIT_S) for _ in range(n)]
    assert None not in got
    return [message for message in got if message is not None]


class Wire:
    """A publisher by hand, which sends whatever it is told, over and over to whoever is connected."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.rcvtimeo = round(WAIT_S * 1000)
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def joined(self) -> None:
        assert self._socket.recv()[:1] == b"\x01"

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.send_frames(topic_of(message).encode(), encode(message))

    def send_frames(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)


def test_repeats_for_others_are_left_out() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, subscribed(sink.address) as subscriber:
        for message in (session(), estimate(1), estimate(2), status()):
            feed.publish(message)
        assert [topic_of(m) for m in take(subscriber, 4)] == [
            "session/a",
            "estimate/a/1",
            "estimate/a/2",
            "status/a",
        ]
        for _ in range(3):
            with joined(sink):
                pass
        feed.publish(event())
        assert topic_of(take(subscriber, 1)[0]) == "event/a"
        assert subscriber.n_repeats == 3 * 5
        assert (subscriber.n_lost, subscriber.n_malformed) == ({}, 0)


def test_losses_are_counted_by_topic_from_the_first_message_on() -> None:
    with Wire() as wire, Subscriber(wire.address) as subscriber:
        wire.joined()
        wire.send(estimate(1, seq=5), estimate(2, seq=0), estimate(1, seq=6), estimate(1, seq=9), estimate(2, seq=2))
        assert seqs(take(subscriber, 5)) == [5, 0, 6, 9, 2]
        assert subscriber.n_lost == {"estimate/a/1": 2, "estimate/a/2": 1}


def test_a_restarted_publisher_numbers_anew_and_its_messages_are_no_repeats() -> None:
    first: list[Message] = [
        session(session="1", stamp="T1"),
        estimate(1, seq=0, stamp="T2"),
        estimate(1, seq=1, stamp="T3"),
    ]
    again: list[Message] = [
        session(session="2", stamp="T4"),
        estimate(1, seq=0, stamp="T5"),
        estimate(1, seq=1, stamp="T6"),
    ]
    with Wire() as wire, Subscriber(wire.address) as subscriber:
        wire.joined()
        wire.send(*first, *again)
        assert take(subscriber, 6) == first + again
        assert (subscriber.n_lost, subscriber.n_repeats) == ({}, 0)


def test_what_was_missed_of_a_session_that_began_since_is_counted_from_its_beginning() -> None:
    first: list[Message] = [session(session="1", stamp="T1"), estimate(1, seq=8, stamp="T2")]
    again: list[Message] = [
        session(session="2", stamp="T4"),
        estimate(1, seq=9, stamp="T5"),  # not the one after 8
        estimate(2, seq=2, stamp="T6"),  # never heard before
    ]
    with Wire() as wire, Subscriber(wire.address) as subscriber:
        wire.joined()
        wire.send(*first, *again)
        assert take(subscriber, 5) == first + again
        assert subscriber.n_lost == {"estimate/a/1": 9, "estimate/a/2": 2}


def test_a_restart_is_seen_without_sessions_too() -> None:
    runs = [estimate(1, seq=0, stamp="T1"), estimate(1, seq=0, stamp="T2"), estimate(1, seq=1, stamp="T3")]
    with Wire() as wire, Subscriber(wire.address, topics=["estimate/"]) as subscriber:
        wire.joined()
        wire.send(*runs, runs[-1], estimate(1, seq=0, stamp="T4"))
        assert take(subscriber, 4) == [*runs, estimate(1, seq=0, stamp="T4")]
        assert (subscriber.n_lost, subscriber.n_repeats) == ({}, 1)


def test_newest_reads_over_what_waits_and_keeps_one_of_each_topic() -> None:
    sink = ZmqSink(ANY)
    with serving(sink, delivery=Delivery.WAIT) as feed, subscribed(sink.address) as subscriber:
        for i in range(100):
            feed.publish(estimate(i % 3, float(i)))
        feed.publish(status(t=100.0))
        got: dict[str, Message] = {}
        while "status/a" not in got:
            newest = subscriber.newest(WAIT_S)
            assert len(newest) <= 4
            got |= newest
        assert {topic: message.t for topic, message in got.items()} == {
            "estimate/a/0": 99.0,
            "estimate/a/1": 97.0,
            "estimate/a/2": 98.0,
            "status/a": 100.0,
        }
        assert subscriber.newest(0.0) == {}
        assert subscriber.n_lost == {}


def test_a_message_that_came_before_its_session_was_repeated_is_given_once() -> None:
    newest: list[Message] = [session(stamp="T1"), estimate(1, seq=7, stamp="T2")]
    with Wire() as wire, Subscriber(wire.address) as subscriber:
        wire.joined()
        wire.send(newest[1], *newest, estimate(1, seq=8, stamp="T3"))
        assert take(subscriber, 3) == [newest[1], newest[0], estimate(1, seq=8, stamp="T3")]
        assert (subscriber.n_lost, subscriber.n_repeats) == ({}, 1)


def test_what_is_no_message_of_this_version_is_counted_and_skipped() -> None:
    good = estimate(1, stamp="T1")
    later = json.loads(encode(good)) | {"v": 2}
    with Wire() as wire, Subscriber(wire.address) as subscriber:
        wire.joined()
        wire.send_frames(b"estimate/a/1", json.dumps(later).encode())
        wire.send_frames(b"estimate/a/1", b"\x00\xff not a message")
        wire.send_frames(b"estimate/a/1")
        wire.send_frames(b"estimate/a/1", encode(good), b"a third frame")
        wire.send_frames(b"estimate/a/2", encode(good))  # the topic of another person
        wire.send_frames(b"\xff", encode(good))
        wire.send(good)
        assert take(subscriber, 1) == [good]
        assert subscriber.n_malformed == 6


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_prefixes_choose_topics_in_either_codec(codec: str) -> None:
    sink = ZmqSink(ANY, codec=codec)
    with serving(sink) as feed, subscribed(sink.address, topics=["estimate/a/2", "status/"]) as subscriber:
        for message in (estimate(1), estimate(2), session(), status()):
            feed.publish(message)
        assert [topic_of(m) for m in take(subscriber, 2)] == ["estimate/a/2", "status/a"]


def test_a_subscriber_sends_no_heartbeats() -> None:
    # One that does not read while its publisher is killed was ended by libzmq two seconds later, with the program.
    with Subscriber("tcp://127.0.0.1:1") as subscriber:
        assert subscriber.readable().get(zmq.HEARTBEAT_IVL) == 0
        assert subscriber.readable().get(zmq.TCP_KEEPALIVE) == 1


def test_a_publisher_may_come_later_and_come_back(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/feed"
    with Subscriber(address) as subscriber:
        assert subscriber.receive(0.0) is None
        for run in ("1", "2"):
            with Feed([ZmqSink(address)]) as feed:
                feed.publish(session(session=run))
                message = subscriber.receive(WAIT_S)  # repeated as soon as it has connected
                assert message is not None
                assert replace(message, stamp="") == session(session=run)


def test_an_in_process_feed_shares_a_context() -> None:
    with zmq.Context() as context:
        sink = ZmqSink("inproc://feed", context=context)
        with serving(sink) as feed, subscribed("inproc://feed", context=context) as subscriber:
            feed.publish(estimate(4))
            assert topic_of(take(subscriber, 1)[0]) == "estimate/a/4"


def test_nobody_there_is_none_in_time() -> None:
    with Subscriber("tcp://127.0.0.1:1") as subscriber:
        assert subscriber.receive(0.01) is None


def test_iterating_gives_messages_for_ever() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, subscribed(sink.address) as subscriber:
        for i in range(5):
            feed.publish(estimate(1, float(i)))
        got = [message.t for message in itertools.islice(subscriber, 5)]
    assert got == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_remote_publisher_must_be_asked_for() -> None:
    with pytest.raises(FeedError, match=r"tcp://10\.0\.0\.1:5563 is not a loopback address"):
        Subscriber("tcp://10.0.0.1:5563")
    with Subscriber("tcp://10.0.0.1:5563", insecure=True):
        pass


@contextmanager
def running(*command: str, stdout: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    """A Python program from the root of the repository, killed at the latest at the end."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", *command], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(3 * WAIT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_ctrl_c_ends_a_subscriber_that_hears_nothing() -> None:
    code = "\n".join(
        (
            "from stream.feed.subscriber import Subscriber",
            "with Subscriber('tcp://127.0.0.1:1') as subscriber:",
            "    print('ready', flush=True)",
            "    try:",
            "        next(iter(subscriber))",
            "    except KeyboardInterrupt:",
            "        print('interrupted')",
        )
    )
    with running("-c", code) as process:
        assert line_of(process.stdout) == "ready\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=WAIT_S)
    # the signal may also come between `ready` and `try`, which ends the program as well
    assert out == "interrupted\n" or "KeyboardInterrupt" in error


def test_the_plain_subscriber_of_the_readme_reads_the_feed() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, running("examples/subscribe.py", sink.address) as process:
        feed.publish(estimate(2, 1.5))  # kept, and so told to it when it joins
        assert line_of(process.stdout) == "estimate/a/2 1.5 happiness 0.75\n"
        feed.publish(estimate(2, 1.75, label=None, reason="uncertain"))
        assert line_of(process.stdout) == "estimate/a/2 1.75 uncertain 0.75\n"
