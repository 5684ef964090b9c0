"""The door: what one peer may take, and that a hostile one costs the others nothing."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from stream.feed.connections import Allowance, ends_of, n_received, peer_of, shut_down
from stream.feed.door import MAX_SUBSCRIBED, TOGETHER, Door
from stream.feed.messages import Estimate
from stream.feed.sinks import ZmqSink
from tests.feed_fuzz import frame, greeting, ready, shake_hands
from tests.feeds import ANY, WAIT_S, estimate, joined, receive, serving, until

ROOT = Path(__file__).parents[2]


@contextmanager
def connected(address: str, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    host, port = address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), WAIT_S, source_address=(source, 0)) as peer:
        yield peer


def is_closed(peer: socket.socket) -> bool:
    """Reads to the end, which comes; in vain if it has not after ten seconds."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def is_turned_away(address: str, source: str) -> bool:
    """Whether who connects from there is cut off, as early as in the call that connects."""
    try:
        with connected(address, source) as peer:
            return is_closed(peer)
    except ConnectionError:
        return True


def door_of(sink: ZmqSink) -> Door:
    assert sink.door is not None
    return sink.door


def test_connections_beyond_the_bound_are_cut_off_and_those_before_stay() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        door = Door(publisher, context, max_connections=3)
        address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
        with connected(address) as a, connected(address) as b, connected(address) as c:
            for peer in (a, b, c):
                assert peer.recv(10)[:1] == b"\xff"  # greeted
            assert is_turned_away(address, "127.0.0.2")
            until(lambda: door.n_cut == 1)
            c.close()
            until(lambda: door.n_refused == 2)  # the fourth and the third never became subscribers
            with connected(address, "127.0.0.3") as another:
                assert shake_hands(another)
                another.sendall(frame(b"\1it is let in"))
                assert publisher.recv() == b"\1it is let in"
        door.close()
        door.close()  # twice does no harm


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address")
def test_who_subscribes_without_end_is_cut_off_logged_and_kept_out_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = ZmqSink(ANY)
    topics = [b"\1" + bytes([65 + i % 26]) * 84 for i in range(MAX_SUBSCRIBED // 100 + 1)]
    with serving(sink) as feed, joined(sink) as other:
        with connected(sink.address, "127.0.0.2") as peer:
            assert shake_hands(peer)
            peer.sendall(b"".join(map(frame, topics)))
            assert is_closed(peer)
        until(lambda: door_of(sink).n_cut == 1)
        assert is_turned_away(sink.address, "127.0.0.2")
        with joined(sink) as elsewhere:
            feed.publish(estimate(1, 5.0))
            assert receive(elsewhere).t == 5.0
        got = [receive(other) for _ in range(2)]  # the status again for who joined, and the estimate
    assert [message.t for message in got if isinstance(message, Estimate)] == [5.0]
    assert caplog.record_tuples[0] == (
        "emocast", logging.WARNING, "cut off 127.0.0.2: it subscribes without end",
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's count of received bytes")
def test_who_sends_faster_than_can_be_read_is_cut_off() -> None:
    sink = ZmqSink(ANY)
    with serving(sink), connected(sink.address, "127.0.0.2") as peer:
        assert shake_hands(peer)
        with pytest.raises(ConnectionError):
            peer.sendall(b"".join(frame(b"\1" + os.urandom(900)) for _ in range(10_000)))
        until(lambda: door_of(sink).n_cut == 1)


def test_who_says_nothing_is_dropped() -> None:
    sink = ZmqSink(ANY)
    with serving(sink), connected(sink.address) as silent:
        assert is_closed(silent)
        until(lambda: door_of(sink).n_refused == 1)


def test_who_subscribes_over_and_over_does_not_fill_the_queues_of_others() -> None:
    n, sink = 190, ZmqSink(ANY)
    with serving(sink) as feed, joined(sink) as other, connected(sink.address) as peer:
        assert shake_hands(peer)
        for _ in range(n):
            peer.sendall(frame(b"\1here"))
        feed.publish(estimate(1, 1.0))
        n_repeats = 0
        while not isinstance(receive(other), Estimate):
            n_repeats += 1
        assert n_repeats < n // 10


def test_nobody_is_let_in_while_the_thread_of_the_socket_is_busy() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        door = Door(publisher, context, at_a_time=2, turn_s=3600.0)
        address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
        with connected(address) as a, connected(address) as b, connected(address) as waiting:
            assert shake_hands(a)
            assert shake_hands(b)
            waiting.sendall(greeting(b"NULL") + ready(b"SUB"))
            waiting.settimeout(0.1)
            greeted = b""
            while len(greeted) < len(greeting(b"NULL")):
                greeted += waiting.recv(64)
            with pytest.raises(TimeoutError):  # no more
                waiting.recv(64)
            door.attended()
            waiting.settimeout(WAIT_S)
            assert b"XPUB" in waiting.recv(64)
        door.close()


def test_without_a_call_more_are_let_in_after_a_while() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        door = Door(publisher, context, at_a_time=1, turn_s=0.05)
        address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
        for _ in range(3):
            with connected(address) as peer:
                assert shake_hands(peer)
        door.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's count of received bytes")
def test_where_all_together_subscribe_to_too_much_who_sent_most_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    n_each = 2_000
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher, ExitStack() as life:
        door = Door(publisher, context, max_connections=TOGETHER)
        address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
        peers = [life.enter_context(connected(address)) for _ in range(TOGETHER // n_each + 4)]
        for peer in peers:
            assert shake_hands(peer)
            peer.sendall(frame(b"\1" + bytes(n_each - 10)))
        most = life.enter_context(connected(address, "127.0.0.2"))
        assert shake_hands(most)
        most.sendall(frame(b"\1" + bytes(2 * n_each)))
        assert is_closed(most)
        until(lambda: door.n_cut == 1)
        door.close()
    assert caplog.messages == ["cut off 127.0.0.2: all together subscribe to too much, and it to most"]


# connections


def test_a_connection_is_known_by_its_ends_and_another_is_let_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, name = listener.accept()
        ends = ends_of(far.fileno())
        assert ends == (listener.getsockname(), name)
        assert peer_of(ends) == "127.0.0.1"
        assert not shut_down(near.fileno(), ends)
        assert shut_down(far.fileno(), ends)
        assert near.recv(1) == b""
        near.close()
        handle = far.detach()
        os.close(handle)
        assert not shut_down(handle, ends)
    with Path(os.devnull).open() as file:
        assert ends_of(file.fileno()) is None
        assert n_received(file.fileno()) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's count of received bytes")
def test_bytes_count_as_they_arrive_read_or_not() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        assert n_received(far.fileno()) == 0
        near.sendall(bytes(1000))
        until(lambda: n_received(far.fileno()) == 1000)


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(0, 50)), max_size=50))
def test_an_allowance_is_a_bucket_that_fills(steps: list[tuple[float, int]]) -> None:
    now_s, left = 0.0, 100.0
    allowance = Allowance(100, 10, now=lambda: now_s)
    for waited_s, amount in steps:
        now_s, left = now_s + waited_s, min(100.0, left + waited_s * 10)
        if abs(left - amount) > 1e-6:
            assert allowance.spend(amount) == (left > amount)
            left -= amount if left > amount else 0
        elif allowance.spend(amount):
            left -= amount


def test_an_allowance_is_a_burst_and_then_a_rate() -> None:
    now_s = 0.0
    allowance = Allowance(3, 4.0, now=lambda: now_s)
    assert [allowance.spend() for _ in range(4)] == [True, True, True, False]
    now_s = 0.125
    assert not allowance.spend()
    now_s = 0.25
    assert [allowance.spend() for _ in range(2)] == [True, False]
    now_s = 100.0
    assert [allowance.spend() for _ in range(4)] == [True, True, True, False]
