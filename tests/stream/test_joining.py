"""Who joins at any moment has what holds then: session, status and the last estimate of every person, and no more."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from stream.delivery import Delivery
from stream.feed.late_joiners import GONE_S
from stream.feed.messages import Estimate, Event, Message, Session, Status, encode, topic_of
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, Gate, estimate, event, raw_subscriber, receive, session, status, until
from tests.stream.test_hub import Running, hub_of

STREAMS = ("a", "b", "ab")
PERSONS = (0, 1, 2, 10)  # the topic of the tenth begins with that of the first
PREFIXES = [
    ("",),
    ("session/",),
    ("estimate/",),
    ("estimate/a/1",),
    ("status/a", "event/"),
    ("session/b", "status/b", "estimate/b/"),
    ("estimate/ab/2", "estimate/", ""),  # they overlap
]
HERE = ("status/here", "event/here")  # by which a joiner knows that it was told, and that it was told all


def history(seed: int, n: int = 40) -> list[Message]:
    """What several streams publish, as chance has it: sessions that begin anew, persons who go, ends."""
    chance, now_s, n_sessions = random.Random(seed), 0.0, 0
    messages: list[Message] = []
    for _ in range(n):
        stream = chance.choice(STREAMS)
        now_s += chance.choice([0.0, 0.25, 0.25, 0.25, GONE_S + 0.5])
        match chance.choices(["session", "hop", "status", "estimate", "event", "end"], [2, 3, 3, 12, 1, 1])[0]:
            case "session":
                n_sessions += 1
                messages.append(session(stream=stream, session=str(n_sessions)))
            case "hop":  # the last session of the stream says anew what it is
                mine = [m for m in messages if isinstance(m, Session) and m.stream == stream]
                messages += [replace(m, t=now_s, hop_s=0.5) for m in mine[-1:]]
            case "status":
                messages.append(status(stream=stream, t=now_s))
            case "estimate":
                messages.append(estimate(chance.choice(PERSONS), now_s, stream=stream))
            case "event":
                messages.append(event(stream=stream, t=now_s))
            case "end":
                messages.append(event(stream=stream, t=now_s, kind="end"))
    return messages


def holds(published: Sequence[Message]) -> dict[str, Message]:
    """What holds after all this, by topic: the reference, said over the whole history."""
    held: dict[str, Message] = {}
    for stream in {message.stream for message in published}:
        own = [message for message in published if message.stream == stream]
        sessions = [message.session for message in own if isinstance(message, Session)]
        while sessions and not (isinstance(own[0], Session) and own[0].session == sessions[-1]):
            del own[0]  # of a session before
        newest_s = max((message.t for message in own if isinstance(message, Estimate)), default=0.0)
        for message in own:
            if isinstance(message, Session | Status | Estimate):
                held[topic_of(message)] = message
        events = [message for message in own if isinstance(message, Event)]
        if events and events[-1].kind == "end":
            held[topic_of(events[-1])] = events[-1]
        for topic in [topic for topic, message in held.items() if message.stream == stream]:
            if isinstance(held[topic], Estimate) and held[topic].t < newest_s - GONE_S:
                del held[topic]
    return held


def wanted(held: dict[str, Message], prefixes: Sequence[str]) -> set[tuple[bytes, bytes]]:
    return {(topic.encode(), encode(m)) for topic, m in held.items() if topic.startswith(tuple(prefixes))}


class Published:
    """A feed, a hub of it, and what has gone through both."""

    def __init__(self, feed: Feed, gate: Gate, direct: str, hub: Running) -> None:
        self._feed, self._gate, self._hub = feed, gate, hub
        self.addresses = {"direct": direct, "through a hub": hub.address}

    @property
    def messages(self) -> list[Message]:
        return self._gate.got

    def publish(self, message: Message) -> None:
        before = len(self._gate.got)
        self._feed.publish(message)
        until(lambda: len(self._gate.got) == before + 1 and self._hub.hub.n_passed == before + 1)


@contextmanager
def published() -> Iterator[Published]:
    sink, gate = ZmqSink(ANY), Gate()
    gate.opened.set()
    with Feed([sink, gate], delivery=Delivery.WAIT) as feed, hub_of(sink.address) as hub:
        feed.publish(status(stream="here"))
        until(lambda: hub.hub.n_passed == 1)
        yield Published(feed, gate, sink.address, hub)


def told(feed: Published, prefixes: Sequence[str]) -> dict[str, set[tuple[bytes, bytes]]]:
    """What a joiner of each way receives until a mark that is published once it has all that it should have."""
    with ExitStack() as life:
        sockets = {
            way: life.enter_context(raw_subscriber(address, *prefixes, *HERE))
            for way, address in feed.addresses.items()
        }
        expected = wanted(holds(feed.messages), [*prefixes, *HERE])
        got: dict[str, set[tuple[bytes, bytes]]] = {way: set() for way in sockets}
        for way, socket in sockets.items():
            while not expected <= got[way]:
                topic, payload = socket.recv_multipart()
                got[way].add((topic, payload))
        feed.publish(event(stream="here", kind="mark"))
        mark = (b"event/here", encode(feed.messages[-1]))
        for way, socket in sockets.items():
            while mark not in got[way]:
                topic, payload = socket.recv_multipart()
                got[way].add((topic, payload))
            got[way].remove(mark)
        return got


@pytest.mark.parametrize("seed", range(3))
def test_who_joins_at_any_moment_is_told_exactly_what_holds(seed: int) -> None:
    chance = random.Random(seed)
    with published() as feed:
        for message in (None, *history(seed)):
            if message is not None:
                feed.publish(message)
            prefixes = chance.choice(PREFIXES)
            expected = wanted(holds(feed.messages), [*prefixes, *HERE])
            assert told(feed, prefixes) == {"direct": expected, "through a hub": expected}


@pytest.mark.parametrize("prefixes", PREFIXES, ids=" ".join)
def test_after_the_end_each_stream_is_told_with_its_totals(prefixes: tuple[str, ...]) -> None:
    with published() as feed:
        for stream in STREAMS:
            feed.publish(session(stream=stream, session=stream))
            feed.publish(status(stream=stream))
            for person in PERSONS:
                feed.publish(estimate(person, 1.0, stream=stream))
            feed.publish(event(stream=stream, kind="end", totals={"hops": 1.0}))
        expected = wanted(holds(feed.messages), [*prefixes, *HERE])
        n_all = 1 + len(STREAMS) * (3 + len(PERSONS))
        assert len(expected) == n_all if "" in prefixes else 1 < len(expected) < n_all
        assert told(feed, prefixes) == {"direct": expected, "through a hub": expected}


@pytest.mark.parametrize("seed", range(2))
def test_who_joined_at_any_moment_and_stays_misses_nothing_and_hears_nothing_twice(seed: int) -> None:
    chance, joined = random.Random(seed), list[tuple[Subscriber, int]]()
    messages = history(100 + seed)
    moments = chance.sample(range(len(messages)), 10)
    with ExitStack() as life, published() as feed:
        for moment, message in enumerate(messages):
            feed.publish(message)
            if moment in moments:
                subscriber = life.enter_context(Subscriber(chance.choice([*feed.addresses.values()])))
                held = holds(feed.messages)
                first = [subscriber.receive(WAIT_S) for _ in held]
                assert {topic_of(told): told for told in first if told is not None} == held
                joined.append((subscriber, len(feed.messages)))
        feed.publish(event(stream="here", kind="mark"))
        for subscriber, n_before in joined:
            heard = [subscriber.receive(WAIT_S) for _ in feed.messages[n_before:]]
            assert heard == feed.messages[n_before:]
            assert subscriber.n_lost == {}


def test_who_was_there_before_the_first_message_hears_all_of_them_in_order() -> None:
    sink = ZmqSink(ANY)
    messages = history(7)
    with Feed([sink], delivery=Delivery.WAIT) as feed, raw_subscriber(sink.address) as socket:
        feed.publish(status(stream="here"))  # repeated until it is known to be connected
        assert receive(socket).stream == "here"
        for message in messages:
            feed.publish(message)
        for message in messages:
            got = receive(socket)
            while got.stream == "here":
                got = receive(socket)
            assert (topic_of(got), got.t) == (topic_of(message), message.t)
