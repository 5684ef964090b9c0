"""Control of a running session: requests and replies in JSON, on a socket that only this machine reaches.

One request is one JSON object, answered by one JSON object with the same `id`: see `stream.feed.control_messages`.
Whoever may connect may pause and end the session, so the socket is off unless asked for.
"""

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import zmq

from stream.feed.control_desk import Controlled, Desk, Newest
from stream.feed.security import FeedError, check_address
from stream.feed.sinks import TCP_KEEP_ALIVE

DEFAULT_ADDRESS = "tcp://127.0.0.1:5564"
MAX_BYTES = 4096  # of a frame; ZeroMQ cuts off who sends more
BURST, RATE_HZ = 20, 20.0  # requests answered at once, and each second; what is more waits, in the end at its sender
QUEUE_SIZE = 16  # requests, and replies, that wait for each client
MAX_FRAMES = 3
CLOSE_S = 0.5  # longest wait for the last replies to be delivered


class Control:
    """Answers requests on a ROUTER socket of its own thread; used with `with`, around the running session.

    Any number of clients may ask. A flood waits in its senders: each client has its turn, a fixed number of requests a
    second is answered, and a client that does not read its replies loses them.

    Args:
        address: Where to listen; loopback, or a path of this machine.
        session: What is controlled.
        newest: What its feed said last.
        options: Socket options set before it binds, those of a key for example.
        insecure: Whether any address but loopback is allowed: only where `options` keep strangers out.

    Attributes:
        address: Once open, the real endpoint.

    Raises:
        FeedError: If the address is malformed or not allowed.
    """

    def __init__(
        self,
        address: str,
        session: Controlled,
        newest: Newest,
        *,
        options: Mapping[int, int | bytes] | None = None,
        insecure: bool = False,
    ) -> None:
        self.address = check_address(address, insecure=insecure)
        self._desk = Desk(session, newest)
        self._options = options or {}
        self._allowance = Allowance(BURST, RATE_HZ)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def __enter__(self) -> Self:
        """Bind and start the thread.

        Raises:
            FeedError: If the address is in use, or not one of this machine's.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        own = {
            zmq.MAXMSGSIZE: MAX_BYTES,
            zmq.RCVHWM: QUEUE_SIZE,
            zmq.SNDHWM: QUEUE_SIZE,
            zmq.LINGER: round(CLOSE_S * 1000),
            zmq.IPV6: int("[" in self.address),
            **TCP_KEEP_ALIVE,
        }
        for option, value in {**own, **self._options}.items():
            self._socket.set(option, value)
        try:
            self._socket.bind(self.address)
        except zmq.ZMQError as error:
            self._close()
            reason = os.strerror(error.errno or 0).lower()
            raise FeedError(f"cannot be controlled on {self.address}: {reason}; take another address") from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._wake, self._woken = socket.socketpair()
        self._thread.start()  # a full fence: from here on the socket is the thread's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deliver the last replies, for half a second at most."""
        self._closing.set()
        with contextlib.suppress(OSError):  # the thread has failed and is gone
            self._wake.send(b"\0")
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wait()
                if self._allowance.left() >= 1.0 and (frames := self._receive()):
                    self._allowance.spend()
                    self._reply(frames)
        finally:
            self._close()
            self._wake.close()
            self._woken.close()

    def _wait(self) -> None:
        # Who asks too much is not read meanwhile: its requests wait in its own queue, and others have their turn.
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        wait_s = self._allowance.until_next_s()
        if not wait_s:
            poller.register(self._socket, zmq.POLLIN)
        poller.poll(math.ceil(wait_s * 1000) if wait_s else None)

    def _receive(self) -> list[bytes]:
        # who it is, perhaps an empty frame, the request; of what is more no frame is kept
        frames: list[bytes] = []
        with contextlib.suppress(zmq.Again):
            frames.append(self._socket.recv(zmq.NOBLOCK))
            while self._socket.get(zmq.RCVMORE):
                frame = self._socket.recv()
                if len(frames) <= MAX_FRAMES:
                    frames.append(frame)
        return frames

    def _reply(self, frames: Sequence[bytes]) -> None:
        *envelope, payload = frames[:MAX_FRAMES]
        well_formed = len(envelope) == 1 or (len(envelope) == 2 and envelope[1] == b"")
        answer = self._desk.answer(payload if well_formed and len(frames) <= MAX_FRAMES else b"")
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart([*envelope, answer], zmq.NOBLOCK)

    def _close(self) -> None:
        self._socket.close()
        self._context.term()  # waits for LINGER


class Allowance:
    """How many requests may be answered now: a burst, then so many each second.

    Args:
        burst: At once, after a pause.
        rate_hz: Each second.
        now: Monotonic seconds.
    """

    def __init__(self, burst: int, rate_hz: float, now: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate_hz, self._now = burst, rate_hz, now
        self._left, self._at_s = float(burst), now()

    def left(self) -> float:
        """How many may be answered now; a part of one is none."""
        now_s = self._now()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        return self._left

    def until_next_s(self) -> float:
        """Seconds until one may be answered; 0 where that is now."""
        return max(0.0, (1.0 - self.left()) / self._rate_hz)

    def spend(self) -> None:
        """One is answered."""
        self._left -= 1.0
