"""The subscriber in an event loop: order, turns of other tasks, cancelling, and the newest alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stream.delivery import Delivery
from stream.feed.async_subscriber import AsyncSubscriber
from stream.feed.messages import Message, topic_of
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, estimate, seqs, serving, session, status


@asynccontextmanager
async def subscribed(address: str, *topics: str) -> AsyncIterator[AsyncSubscriber]:
    """One that is known to be connected: it has the status of the stream `here`."""
    async with AsyncSubscriber(Subscriber(address, topics=[*topics, "status/here"] if topics else [""])) as subscriber:
        async with asyncio.timeout(WAIT_S):
            assert (await subscriber.receive()).stream == "here"
        yield subscriber


async def take(subscriber: AsyncSubscriber, n: int) -> list[Message]:
    got: list[Message] = []
    async with asyncio.timeout(WAIT_S):
        async for message in subscriber:
            got.append(message)
            if len(got) == n:
                break
    return got


def test_messages_come_in_order_and_other_tasks_have_their_turn() -> None:
    sink = ZmqSink(ANY)

    async def run() -> int:
        n_turns = 0

        async def other() -> None:
            nonlocal n_turns
            while True:
                await asyncio.sleep(0)
                n_turns += 1

        with serving(sink, delivery=Delivery.WAIT) as feed:
            async with subscribed(sink.address) as subscriber:
                for i in range(500):
                    feed.publish(estimate(1, float(i)))
                beside = asyncio.create_task(other())
                assert seqs(await take(subscriber, 500)) == list(range(500))
                beside.cancel()
                assert subscriber.subscriber.n_lost == {}
        return n_turns

    assert asyncio.run(run()) >= 499


def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    sink = ZmqSink(ANY)

    async def run() -> list[Message]:
        with serving(sink) as feed:
            async with subscribed(sink.address) as subscriber:
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await subscriber.receive()
                waiting = asyncio.create_task(subscriber.receive())
                await asyncio.sleep(0)
                waiting.cancel()
                feed.publish(session())
                feed.publish(estimate(1))
                return await take(subscriber, 2)

    assert [topic_of(message) for message in asyncio.run(run())] == ["session/a", "estimate/a/1"]


def test_several_feeds_in_one_loop() -> None:
    one, two = ZmqSink(ANY), ZmqSink(ANY, codec="msgpack")

    async def run() -> list[list[Message]]:
        with serving(one) as first, serving(two) as second:
            async with subscribed(one.address) as left, subscribed(two.address, "estimate/") as right:
                both = asyncio.gather(take(left, 2), take(right, 2))
                for i in range(2):
                    first.publish(estimate(1, float(i)))
                    second.publish(status())
                    second.publish(estimate(2, float(i)))
                return await both

    topics = [[topic_of(message) for message in got] for got in asyncio.run(run())]
    assert topics == [["estimate/a/1"] * 2, ["estimate/a/2"] * 2]


def test_the_newest_is_one_of_each_topic() -> None:
    sink = ZmqSink(ANY)

    async def run() -> dict[str, Message]:
        got: dict[str, Message] = {}
        with serving(sink, delivery=Delivery.WAIT) as feed:
            async with subscribed(sink.address) as subscriber, asyncio.timeout(WAIT_S):
                for i in range(100):
                    feed.publish(estimate(i % 2, float(i)))
                feed.publish(status(t=100.0))
                while "status/a" not in got:
                    got |= await subscriber.newest()
        return got

    newest = {topic: message.t for topic, message in asyncio.run(run()).items()}
    assert newest == {"estimate/a/0": 98.0, "estimate/a/1": 99.0, "status/a": 100.0}
