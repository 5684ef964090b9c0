"""The receiving end of the feed: typed messages, without repeats, with losses counted."""

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec
import zmq

from stream.feed.messages import Message, Session, decode, topic_of
from stream.feed.security import DEFAULT_ADDRESS, FeedError, check_address
from stream.feed.sinks import KEEP_ALIVE

QUEUE_SIZE = 1000  # messages that ZeroMQ holds here, beside those at the publisher
_POLL_MS = 200  # how long Ctrl-C may wait where a signal does not end a poll


class Subscriber:
    """Receives messages from one publisher, which may start later and restart. One thread uses it.

    Iterating yields messages for ever; `receive` waits as long as it is told.

    Args:
        address: Of the publisher.
        topics: Prefixes of the topics wanted: `estimate/` for all estimates, `` for everything.
        insecure: Whether any address but loopback is allowed.
        context: A ZeroMQ context to share, for `inproc://`; otherwise the subscriber has its own.

    Attributes:
        n_lost: Messages known to be lost, by topic, from gaps in `seq`; counted from the first one received.
        n_repeats: Messages left out because the publisher repeated them for somebody who joined late.
        n_malformed: Messages left out because they are none of this protocol and version.

    Raises:
        FeedError: If the address is malformed, not allowed, or names no host.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        topics: Sequence[str] = ("",),
        insecure: bool = False,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        self.address = check_address(address, insecure=insecure)
        self.n_lost: dict[str, int] = {}
        self.n_repeats = 0
        self.n_malformed = 0
        self._newest: dict[str, tuple[int, str]] = {}  # topic to seq and stamp
        self._sessions: dict[str, str] = {}  # stream to session
        self._shared = context
        self._context = context or zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        options = {zmq.RCVHWM: QUEUE_SIZE, zmq.LINGER: 0, zmq.RECONNECT_IVL_MAX: 2_000, **KEEP_ALIVE}
        for option, value in {**options, zmq.IPV6: int("[" in address)}.items():
            self._socket.set(option, value)
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
        while self._await(deadline):
            message = self._decode(self._socket.recv_multipart())
            if message is not None and self._is_new(message):
                return message
        return None

    def close(self) -> None:
        """Disconnect; twice does no harm."""
        self._socket.close()
        if self._shared is None:
            self._context.term()

    def _await(self, deadline: float | None) -> bool:
        while True:
            left_ms = _POLL_MS if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            if self._socket.poll(min(left_ms, _POLL_MS)):
                return True
            if left_ms == 0:
                return False

    def _decode(self, frames: list[bytes]) -> Message | None:
        try:
            topic, payload = frames
            message = decode(payload)
        except (ValueError, msgspec.DecodeError):
            self.n_malformed += 1
            return None
        if topic != topic_of(message).encode():
            self.n_malformed += 1
            return None
        return message

    def _is_new(self, message: Message) -> bool:
        topic = topic_of(message)
        newest = self._newest.get(topic)
        if newest == (message.seq, message.stamp):
            self.n_repeats += 1
            return False
        if isinstance(message, Session) and self._sessions.get(message.stream) != message.session:
            self._sessions[message.stream] = message.session
            self._forget(message.stream, before=message.stamp)
        elif newest is not None and message.seq > newest[0] + 1:
            self.n_lost[topic] = self.n_lost.get(topic, 0) + message.seq - newest[0] - 1
        self._newest[topic] = (message.seq, message.stamp)
        return True

    def _forget(self, stream: str, *, before: str) -> None:
        # A new session numbers anew: a gap to what came before it is no loss. Who joins late may have had some of its
        # messages before the session itself; stamps, which order as text, tell these apart.
        for topic in [t for t, (_, stamp) in self._newest.items() if t.split("/")[1] == stream and stamp < before]:
            del self._newest[topic]
