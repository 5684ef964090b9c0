"""A feed with keys over real sockets: who gets messages, who gets none, and what can be read on the way."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import SHUT_RDWR, create_connection, create_server, socket

import pytest
import zmq

from stream.feed.door import Door
from stream.feed.keys import ClientKeys, ServerKeys, load_client_keys, load_server_keys
from stream.feed.messages import topic_of
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, estimate, serving, until
from tools.feeds.keys import make_client, make_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The keys of a publisher and of one client, `robot`."""
    make_server(folder=tmp_path)
    make_client("robot", folder=tmp_path)
    return tmp_path


def client(address: str, keys: ClientKeys) -> Subscriber:
    return Subscriber(address, server_key=keys.server_key, client_secret=keys.client_secret)


def door_of(sink: ZmqSink) -> Door:
    assert sink.door is not None
    return sink.door


def told_of_here(subscriber: Subscriber) -> bool:
    message = subscriber.receive(WAIT_S)
    return message is not None and topic_of(message) == "status/here"


def strangers_keys(folder: Path) -> ClientKeys:
    return ClientKeys(server_key=load_client_keys("robot", folder).server_key, client_secret=zmq.curve_keypair()[1])


def test_an_authorised_client_gets_messages(folder: Path) -> None:
    sink = ZmqSink(ANY, keys=load_server_keys(folder))
    with serving(sink) as feed, client(sink.address, load_client_keys("robot", folder)) as robot:
        assert told_of_here(robot)
        for i in range(100):
            feed.publish(estimate(1, float(i)))
        got = [robot.receive(WAIT_S) for _ in range(100)]
        assert [None if message is None else message.t for message in got] == [float(i) for i in range(100)]
        assert door_of(sink).n_refused == 0


def test_an_unknown_key_gets_nothing_is_counted_and_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink, stranger = ZmqSink(ANY, keys=load_server_keys(folder)), strangers_keys(folder)
    with serving(sink), client(sink.address, stranger) as unknown:
        until(lambda: door_of(sink).n_refused == 1)
        with client(sink.address, load_client_keys("robot", folder)) as robot:
            assert told_of_here(robot)
        assert unknown.receive(0.0) is None
    public = zmq.curve_public(stranger.client_secret).decode()
    assert caplog.record_tuples == [
        ("emocast", logging.WARNING, f"refused 127.0.0.1: its key {public[:8]}... is none of those authorised")
    ]


def test_no_key_and_another_publishers_key_get_nothing_and_are_counted(folder: Path) -> None:
    sink, robots = ZmqSink(ANY, keys=load_server_keys(folder)), load_client_keys("robot", folder)
    with serving(sink):
        with Subscriber(sink.address) as without:
            until(lambda: door_of(sink).n_refused >= 1)
            assert without.receive(0.0) is None
        before = door_of(sink).n_refused
        mistaken = ClientKeys(server_key=zmq.curve_keypair()[0], client_secret=robots.client_secret)
        with client(sink.address, mistaken) as wrong:
            until(lambda: door_of(sink).n_refused > before)
            assert wrong.receive(0.0) is None
        with client(sink.address, robots) as robot:
            assert told_of_here(robot)


def test_a_key_that_is_added_counts_at_once_and_one_that_is_taken_away_no_more(folder: Path) -> None:
    sink = ZmqSink(ANY, keys=load_server_keys(folder))
    with serving(sink):
        make_client("tablet", folder=folder)
        tablets = load_client_keys("tablet", folder)
        with client(sink.address, tablets) as tablet:
            assert told_of_here(tablet)
        (folder / "authorised" / "tablet.key").unlink()
        with client(sink.address, tablets) as tablet:
            until(lambda: door_of(sink).n_refused == 1)
            assert tablet.receive(0.0) is None


def test_a_file_that_holds_no_key_keeps_nobody_else_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "authorised" / "broken.key").write_text('curve\n    public-key = "short"\n')
    (folder / "authorised" / "empty.key").touch()
    sink = ZmqSink(ANY, keys=load_server_keys(folder))
    with serving(sink), client(sink.address, load_client_keys("robot", folder)) as robot:
        assert told_of_here(robot)
    assert ["left out a client's key that cannot be read" in text for text in caplog.messages] == [True, True]


def test_any_address_may_be_taken_with_keys(folder: Path) -> None:
    keys = load_server_keys(folder)
    assert ZmqSink("tcp://0.0.0.0:5563", keys=keys).address == "tcp://0.0.0.0:5563"
    with client("tcp://10.0.0.1:5563", load_client_keys("robot", folder)) as robot:
        assert robot.address == "tcp://10.0.0.1:5563"


def test_half_a_pair_of_keys_and_what_is_no_key_are_refused() -> None:
    public, secret = zmq.curve_keypair()
    with pytest.raises(FeedError, match="expected both the publisher's key and the client's secret key, got one"):
        Subscriber("tcp://127.0.0.1:1", server_key=public)
    for pair in ((public, b"short"), (public[:-1] + b'"', secret)):
        with pytest.raises(FeedError, match="expected keys of 40 characters, as emocast keys makes them"):
            Subscriber("tcp://127.0.0.1:1", server_key=pair[0], client_secret=pair[1])


def test_two_feeds_with_keys_need_a_context_each(folder: Path) -> None:
    keys = load_server_keys(folder)
    with zmq.Context() as context:
        first, second = (ZmqSink(ANY, keys=keys, context=context) for _ in range(2))
        with serving(first), pytest.raises(FeedError, match="another socket with keys is in this ZeroMQ context"):
            second.open()


# what can be read on the way


@contextmanager
def tapped(address: str) -> Iterator[tuple[str, bytearray]]:
    """A way to the publisher on which every byte, in both directions, is recorded."""
    port, recorded, ends = int(address.rsplit(":", 1)[1]), bytearray(), list[socket]()

    def carry(source: socket, target: socket) -> None:
        with suppress(OSError):
            while some := source.recv(65_536):
                recorded.extend(some)
                target.sendall(some)
        with suppress(OSError):
            target.shutdown(SHUT_RDWR)

    def serve() -> None:
        near, far = listener.accept()[0], create_connection(("127.0.0.1", port))
        ends.extend((near, far))
        back = threading.Thread(target=carry, args=(far, near))
        back.start()
        carry(near, far)
        back.join()

    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", recorded
        thread.join(WAIT_S)
        for end in ends:
            end.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("encrypted", [True, False])
def test_with_keys_nothing_can_be_read_on_the_way(encrypted: bool, folder: Path) -> None:
    keys: ServerKeys | None = load_server_keys(folder) if encrypted else None
    robots = load_client_keys("robot", folder)
    sink, told = ZmqSink(ANY, keys=keys), estimate(1, 2.0, stream="the-living-room")
    with (
        serving(sink) as feed,
        tapped(sink.address) as (address, recorded),
        client(address, robots) if encrypted else Subscriber(address) as robot,
    ):
        assert told_of_here(robot)
        feed.publish(told)
        message = robot.receive(WAIT_S)
        assert message is not None
        assert topic_of(message) == "estimate/the-living-room/1"
    assert len(recorded) > 500
    words = [b"estimate/", b"status/", b"the-living-room", b"posterior", *(label.encode() for label in told.posterior)]
    assert [word in recorded for word in words] == [not encrypted] * len(words)
