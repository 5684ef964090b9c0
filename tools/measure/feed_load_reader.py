"""The subscribers of `tools.measure.feed_load`: python -m tools.measure.feed_load_reader read|ignore ADDRESS N

Prints `ready` once each has been told something, and then, when each stream has ended, what they received and lost.
"""

import json
import sys
import time
from datetime import datetime

import zmq

from stream.feed.messages import Estimate, Event, Message
from stream.feed.subscriber import Subscriber

READY, OVER = "ready", "over"  # names of streams
PATIENCE_MS = 60_000


class Reader:
    """One subscriber, and what it was told."""

    def __init__(self, address: str, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.subscriber = Subscriber(address, context=context)
        self.is_ready = self.is_over = False
        self.n_received = 0
        self.added_ms: list[float] = []

    def read(self) -> None:
        """Take all that has come."""
        while (message := self.subscriber.receive(0.0)) is not None:
            self._take(message, time.time())

    def _take(self, message: Message, received_s: float) -> None:
        self.n_received += 1
        self.is_ready |= message.stream == READY
        self.is_over |= message.stream == OVER
        match message:
            case Estimate() if message.age_ms is not None:
                published_s = datetime.fromisoformat(message.stamp).timestamp()
                # `stamp` has milliseconds: half of one is the mean of what it cut off.
                self.added_ms.append(message.age_ms + max(0.0, (received_s - published_s) * 1e3 - 0.5))
            case Event(kind="end"):
                self.is_over = True


def read(address: str, n: int) -> None:
    """Read with n subscribers until all their streams have ended."""
    with zmq.Context() as context:
        readers = [Reader(address, context) for _ in range(n)]
        poller = zmq.Poller()
        by_socket = {reader.subscriber.readable(): reader for reader in readers}
        for socket in by_socket:
            poller.register(socket, zmq.POLLIN)
        told = False
        while not all(reader.is_over for reader in readers) and (came := poller.poll(PATIENCE_MS)):
            for socket, _ in came:
                by_socket[socket].read()
            if not told and all(reader.is_ready for reader in readers):
                told = True
                print("ready", flush=True)
        got = {
            "received": [reader.n_received for reader in readers],
            "lost": [sum(reader.subscriber.n_lost.values()) for reader in readers],
            "added_ms": [reader.added_ms for reader in readers],
        }
        print(json.dumps(got), flush=True)
        for reader in readers:
            reader.subscriber.close()


def ignore(address: str) -> None:
    """Subscribe to everything and read nothing."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger, socket.rcvhwm = 0, 1
        socket.subscribe("")
        socket.connect(address)
        socket.poll(PATIENCE_MS)
        print("ready", flush=True)
        time.sleep(3_600)


if __name__ == "__main__":
    if sys.argv[1] == "ignore":
        ignore(sys.argv[2])
    else:
        read(sys.argv[2], int(sys.argv[3]))
