"""The programs that the protocol's page prints run as they stand there: late, with losses, a restart, and silence."""

import contextlib
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from stream.delivery import Delivery
from stream.feed.arrivals import Arrivals
from stream.feed.control import Control
from stream.feed.control_desk import Newest
from stream.feed.messages import Message, encode, topic_of
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, WAIT_S, Gate, estimate, event, raw_subscriber, receive, session, status, until
from tests.stream.test_control import Noting

PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
SUBSCRIBER, CONTROL_CLIENT = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@contextmanager
def running(program: str, *arguments: str) -> Iterator[Callable[[], str]]:
    """Runs a program in a process of its own; gives a call for the next line that it prints."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        watchdog = threading.Timer(3 * WAIT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        try:
            yield process.stdout.readline
        finally:
            watchdog.cancel()
            process.kill()


class Line:
    """What lies between a publisher and its subscribers: a proxy that loses the messages that it is told to lose."""

    def __init__(self, publisher: str) -> None:
        self.loses: frozenset[str] = frozenset()  # topics
        self.n_lost = 0
        self._publisher = publisher
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bound = threading.Event()
        self.address = ""

    @contextmanager
    def open(self) -> Iterator["Line"]:
        self._thread.start()
        assert self._bound.wait(WAIT_S)
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join(WAIT_S)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.XSUB) as above, context.socket(zmq.XPUB) as below:
            above.linger = below.linger = 0
            below.xpub_verbose = True
            above.connect(self._publisher)
            self.address = f"tcp://127.0.0.1:{below.bind_to_random_port('tcp://127.0.0.1')}"
            self._bound.set()
            poller = zmq.Poller()
            for socket in (above, below):
                poller.register(socket, zmq.POLLIN)
            while not self._over.is_set():
                ready = dict(poller.poll(20))
                if below in ready:
                    above.send(below.recv())
                if above in ready:
                    frames = above.recv_multipart()
                    if frames[0].decode() in self.loses:
                        self.n_lost += 1
                    else:
                        below.send_multipart(frames)


def test_the_pages_subscriber_joins_late_counts_losses_and_outlives_a_restart(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/feed"
    line, gate = Line(address), Gate()
    gate.opened.set()
    with ExitStack() as life:
        with Feed([ZmqSink(address), gate], delivery=Delivery.WAIT) as feed:
            for message in (session(session="first"), status(), *(estimate(1, float(t)) for t in range(4))):
                feed.publish(message)
            until(lambda: len(gate.got) == 6)
            # It joins late, and loses nothing that it could know of.
            life.enter_context(line.open())
            printed = life.enter_context(running(SUBSCRIBER, line.address))
            assert printed() == "session a first for research\n"
            assert printed() == "estimate/a/1 3.0 happiness 0.75\n"
            # Somebody else joins: what is repeated for them is not printed again.
            with raw_subscriber(address) as other:
                while topic_of(receive(other)) != "estimate/a/1":
                    pass
            feed.publish(estimate(2, 4.0, label=None, reason="uncertain"))
            assert printed() == "estimate/a/2 4.0 uncertain 0.75\n"
            # Three are lost on the way.
            line.loses = frozenset({"estimate/a/1"})
            for t in range(5, 8):
                feed.publish(estimate(1, float(t)))
            until(lambda: line.n_lost == 3)
            line.loses = frozenset()
            feed.publish(estimate(1, 8.0))
            assert printed() == "lost 3 of estimate/a/1\n"
            assert printed() == "estimate/a/1 8.0 happiness 0.75\n"
            # The session says that its hop is another: it is the same one.
            feed.publish(session(session="first", hop_s=0.5))
            feed.publish(estimate(1, 9.0))
            assert printed() == "estimate/a/1 9.0 happiness 0.75\n"
        # The publisher is gone without an end, and comes back; what it said and was not heard is counted.
        with Feed([ZmqSink(address)], delivery=Delivery.WAIT) as feed:
            feed.publish(session(session="second"))
            assert next(said for said in iter(printed, "") if said != "stale a\n") == "session a second for research\n"
            line.loses, line.n_lost = frozenset({"estimate/a/1"}), 0
            for t in range(2):
                feed.publish(estimate(1, float(t)))
            until(lambda: line.n_lost >= 2)
            line.loses = frozenset()
            feed.publish(estimate(1, 2.0))
            lines = [printed()]
            while lines[-1] != "estimate/a/1 2.0 happiness 0.75\n":
                lines.append(printed())
            assert [said for said in lines if said.startswith("lost")] == lines[:1]
            n_heard = sum(said.startswith("estimate/a/1") for said in lines)
            assert n_heard + int(lines[0].split()[1]) == 3
            # It says nothing more, which is noticed; goes on; and ends in order, which is no silence.
            assert printed() == "stale a\n"
            feed.publish(estimate(1, 3.0))
            assert printed() == "estimate/a/1 3.0 happiness 0.75\n"
            feed.publish(event(kind="end", text="over", totals={"hops": 4.0}))
            assert printed() == "event/a end over {'hops': 4.0}\n"
            feed.publish(status(stream="b"))
            assert printed() == "stale b\n"  # and not a, which has been silent for longer


numbered = {"seq": st.integers(0, 4), "stamp": st.sampled_from("123456789")}
heard = st.lists(
    st.builds(session, session=st.sampled_from("xyz"), origin=st.sampled_from("123456789"), **numbered)
    | st.builds(estimate, st.integers(1, 2), **numbered)
    | st.builds(status, stream=st.sampled_from(["a", "b"]), **numbered),
    max_size=12,
)


@given(heard)
def test_the_pages_subscriber_counts_as_ours_does(messages: list[Message]) -> None:
    ours, page = Arrivals(), dict[str, Any]()
    with contextlib.redirect_stdout(io.StringIO()):
        exec(SUBSCRIBER.split("socket = zmq")[0], page)  # what it defines, without its loop
        for message in messages:
            before, is_new = sum(ours.n_lost.values()), ours.is_new(message)
            lost = page["lost_before"](topic_of(message), json.loads(encode(message)))
            assert lost == (sum(ours.n_lost.values()) - before if is_new else None)


@contextmanager
def publisher() -> Iterator[tuple["zmq.Socket[bytes]", str]]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = round(WAIT_S * 1000)
        yield socket, f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


def test_the_pages_subscriber_leaves_out_what_it_does_not_know() -> None:
    def frames(message: Message, **changes: object) -> list[bytes]:
        return [topic_of(message).encode(), json.dumps(json.loads(encode(message)) | changes).encode()]

    with publisher() as (socket, address), running(SUBSCRIBER, address, "estimate/", "event/a") as printed:
        assert {socket.recv(), socket.recv()} == {b"\1estimate/", b"\1event/a"}
        for unknown in (
            frames(estimate(1), v=2),
            frames(estimate(1), type="rumour"),
            [b"estimate/a/1"],
            [b"estimate/a/1", b"{", b"}"],
            [b"estimate/a/1", b"\xff\xfe"],
            [b"estimate/a/1", b"[]"],
            [b"estimate/a/1", encode(estimate(1), "msgpack")],
        ):
            socket.send_multipart(unknown)
        socket.send_multipart(frames(event(stamp="1"), kind="of_a_later_time", text="anything", totals=None, mood=1))
        assert printed() == "event/a of_a_later_time anything \n"
        socket.send_multipart(frames(estimate(1, 7.0, seq=5), mood=[1, 2]))
        assert printed() == "estimate/a/1 7.0 happiness 0.75\n"


@pytest.mark.parametrize(("text", "expected"), [("she smiles", "done at 12.50 s\n"), ("", "expected a request like ")])
def test_the_pages_client_of_the_control_marks(text: str, expected: str) -> None:
    noting = Noting()
    with Control(ANY, noting, Newest()) as control, running(CONTROL_CLIENT, control.address, text) as printed:
        assert printed().startswith(expected)
    assert noting.told() == ([("mark", "she smiles")] if text else [])
