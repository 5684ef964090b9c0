"""The receiving end of the feed: typed messages, without repeats, with losses counted."""

import time
from collections.abc import Iterator, Sequence
from itertools import chain, count
from types import TracebackType
from typing import Self

import zmq

from stream.feed.arrivals import Arrivals
from stream.feed.keys import is_key
from stream.feed.messages import Message, topic_of
from stream.feed.security import DEFAULT_ADDRESS, FeedError, check_address
from stream.feed.sinks import TCP_KEEP_ALIVE

QUEUE_SIZE = 1000  # messages that ZeroMQ holds here, beside those at the publisher
MAX_WAITING = 10 * QUEUE_SIZE  # read at once by `newest`
_POLL_MS = 200  # how long Ctrl-C may wait where a signal does not end a poll


class Subscriber:
    """Receives messages from one publisher, which may start later and restart. One thread uses it.

    Iterating yields messages for ever; `receive` waits as long as it is told.

    Args:
        address: Of the publisher.
        topics: Prefixes of the topics wanted: `estimate/` for all estimates, `` for everything.
        insecure: Whether any address but loopback is allowed without keys.
        server_key: The publisher's public key, for a feed with keys; then `client_secret`, too.
        client_secret: The secret key of this client.
        context: A ZeroMQ context to share, for `inproc://`; otherwise the subscriber has its own.

    Attributes:
        arrivals: What has come so far: how many were lost, repeated for others, or malformed.

    Raises:
        FeedError: If the address is malformed, not allowed, or names no host, or a key is none.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        topics: Sequence[str] = ("",),
        insecure: bool = False,
        server_key: bytes | None = None,
        client_secret: bytes | None = None,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        self.address = check_address(address, insecure=insecure, encrypted=server_key is not None)
        curve = _curve(server_key, client_secret)
        self.arrivals = Arrivals()
        self._shared = context
        self._context = context or zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        options = {zmq.RCVHWM: QUEUE_SIZE, zmq.LINGER: 0, zmq.RECONNECT_IVL_MAX: 2_000, **TCP_KEEP_ALIVE}
        for option, value in {**options, zmq.IPV6: int("[" in address)}.items():
            self._socket.set(option, value)
        for key_option, key in curve.items():
            self._socket.set(key_option, key)
        for topic in topics:
            self._socket.subscribe(topic)
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise FeedError(f"cannot connect to {address}: {str(error).lower()}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        while True:
            message = self.receive(None)
            if message is not None:
                yield message

    def receive(self, timeout_s: float | None) -> Message | None:
        """The next message that is new, or None after `timeout_s`; None waits for ever."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for n_left_out in count():
            # a peer that sends nothing but rubbish must not hold us beyond the time
            if (n_left_out >= QUEUE_SIZE and _is_over(deadline)) or not self._await(deadline):
                break
            message = self.arrivals.take(self._socket.recv_multipart())
            if message is not None:
                return message
        return None

    def receive_frames(self) -> list[bytes] | None:
        """What came next, as it came and whatever it is, or None where nothing waits."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def newest(self, timeout_s: float | None) -> dict[str, Message]:
        """The newest message of each topic among all that wait, oldest first; waits for one, as long as it is told.

        For a reader that is slower than the feed and wants what holds now. Every event is read over in this way but
        the last; whoever needs all takes `receive`.
        """
        first = self.receive(timeout_s)
        newest: dict[str, Message] = {}
        for message in chain([] if first is None else [first], self._waiting()):
            newest.pop(topic_of(message), None)  # a dictionary orders by the first time
            newest[topic_of(message)] = message
        return newest

    def readable(self) -> "zmq.Socket[bytes]":
        """The socket, for a poller; a message is taken with `receive`."""
        return self._socket

    @property
    def n_lost(self) -> dict[str, int]:
        """Messages known to be lost, by topic."""
        return self.arrivals.n_lost

    @property
    def n_repeats(self) -> int:
        """Messages left out because the publisher repeated them for somebody who joined late."""
        return self.arrivals.n_repeats

    @property
    def n_malformed(self) -> int:
        """Messages left out because they are none of this protocol and version."""
        return self.arrivals.n_malformed

    def close(self) -> None:
        """Disconnect; twice does no harm."""
        self._socket.close()
        if self._shared is None:
            self._context.term()

    def _waiting(self) -> Iterator[Message]:
        for _ in range(MAX_WAITING):  # a publisher that is quicker than we are must not hold us here
            if (message := self.receive(0.0)) is None:
                return
            yield message

    def _await(self, deadline: float | None) -> bool:
        while True:
            left_ms = _POLL_MS if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            if self._socket.poll(min(left_ms, _POLL_MS)):
                return True
            if left_ms == 0:
                return False


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _curve(server_key: bytes | None, client_secret: bytes | None) -> dict[int, bytes]:
    if server_key is None and client_secret is None:
        return {}
    if server_key is None or client_secret is None:
        raise FeedError("expected both the publisher's key and the client's secret key, got one of them")
    if not (is_key(server_key) and is_key(client_secret)):
        raise FeedError("expected keys of 40 characters, as emocast keys makes them")
    public = zmq.curve_public(client_secret)
    return {zmq.CURVE_SERVERKEY: server_key, zmq.CURVE_PUBLICKEY: public, zmq.CURVE_SECRETKEY: client_secret}
