"""The receiving end of the feed for asyncio: the same subscriber, awaited instead of waited for."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

from stream.feed.messages import Message
from stream.feed.subscriber import Subscriber


class AsyncSubscriber:
    """Receives messages in an event loop; used with `async with`, by one task at a time.

    Iterating yields messages for ever. A task that is cancelled while it waits loses no message.

    Args:
        subscriber: Of which publisher, topics and keys; it is closed with this one, and nobody else uses it meanwhile.

    Attributes:
        subscriber: The same; it counts what was lost, repeated and malformed.
    """

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self._poller = zmq.asyncio.Poller()
        self._poller.register(subscriber.readable(), zmq.POLLIN)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.subscriber.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield await self.receive()

    async def receive(self) -> Message:
        """The next message that is new; `asyncio.timeout` bounds the wait."""
        await asyncio.sleep(0)  # a feed that never runs dry leaves the loop its turn
        while (message := self.subscriber.receive(0.0)) is None:
            await self._poller.poll()
        return message

    async def newest(self) -> dict[str, Message]:
        """The newest message of each topic among all that wait, oldest first; waits for one."""
        await asyncio.sleep(0)
        while not (newest := self.subscriber.newest(0.0)):
            await self._poller.poll()
        return newest
