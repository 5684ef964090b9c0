"""Feeds in tests: messages to publish, sinks to watch, and subscribers that are known to be connected."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq
from msgspec.structs import replace

from stream.feed.messages import Estimate, Event, Message, Session, Status, decode, topic_of
from stream.feed.publisher import Feed
from stream.feed.sinks import Sink, ZmqSink
from tests.stream.test_messages import GOLDEN

WAIT_S = 10.0  # for what must come; a test that waits this long has failed
ANY = "tcp://127.0.0.1:*"


def golden(index: int, changes: dict[str, Any]) -> Any:
    return replace(decode(GOLDEN[index].encode()), **{"stream": "a", "seq": 0, "stamp": "", **changes})


def session(**changes: Any) -> Session:
    return golden(0, changes)  # type: ignore[no-any-return]


def estimate(person: int = 1, t: float = 0.0, **changes: Any) -> Estimate:
    return golden(1, {"person": person, "t": t, **changes})  # type: ignore[no-any-return]


def status(**changes: Any) -> Status:
    return golden(3, changes)  # type: ignore[no-any-return]


def event(**changes: Any) -> Event:
    return golden(4, {"kind": "face_found", **changes})  # type: ignore[no-any-return]


@contextmanager
def raw_subscriber(address: str, *prefixes: str, **options: int) -> Iterator["zmq.Socket[bytes]"]:
    """A plain SUB socket on a context of its own, as another process has it."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = round(WAIT_S * 1000)
        for name, value in options.items():
            setattr(socket, name, value)
        for prefix in prefixes or ("",):
            socket.subscribe(prefix)
        socket.connect(address)
        yield socket


def receive(socket: "zmq.Socket[bytes]") -> Message:
    topic, payload = socket.recv_multipart()
    message = decode(payload)
    assert topic.decode() == topic_of(message)
    return message


@contextmanager
def serving(*sinks: Sink, **options: Any) -> Iterator[Feed]:
    """A feed that has sent one status, on the stream `here`, before anybody can have joined."""
    witness = Gate()
    witness.opened.set()
    with Feed([*sinks, witness], **options) as feed:
        feed.publish(status(stream="here"))
        until(lambda: len(witness.got) == 1)
        yield feed


@contextmanager
def joined(sink: ZmqSink, **options: int) -> Iterator["zmq.Socket[bytes]"]:
    """A subscriber to everything that is known to be connected: it was told the status of `here`, just once."""
    with raw_subscriber(sink.address, **options) as socket:
        assert receive(socket).stream == "here"
        yield socket


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


class Gate:
    """A sink that holds the feed thread until it is opened, and keeps what it got."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.got: list[Message] = []

    def open(self) -> None: ...

    def send(self, message: Message) -> None:
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        self.got.append(message)

    def attend(self) -> None: ...

    def readable(self) -> None: ...

    def close(self) -> None: ...


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]
