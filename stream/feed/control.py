"""Control of a running session: requests and replies in JSON, on a socket for this machine or for those with a key.

One request is one JSON object, answered by one JSON object with the same `id`: see `stream.feed.control_messages`.
Whoever may connect may pause and end the session, so the socket is off unless asked for.
"""

import contextlib
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import zmq

from stream.feed.connections import Allowance
from stream.feed.control_desk import Controlled, Desk, Newest
from stream.feed.control_messages import refusal
from stream.feed.door import Door
from stream.feed.keys import ServerKeys
from stream.feed.security import FeedError, check_address
from stream.feed.sinks import TCP_KEEP_ALIVE

DEFAULT_ADDRESS = "tcp://127.0.0.1:5564"
MAX_BYTES = 4096  # of a frame; ZeroMQ cuts off who sends more
BURST, RATE_HZ = 20, 5.0  # requests of one connection done at once, and each second; what is more is refused
MAX_CONNECTIONS = 64
MAX_KNOWN = 1024  # clients whose requests are counted
AT_ONCE, A_SECOND = 16_384, 1_024  # bytes of one connection; who sends more is cut off
QUEUE_SIZE = 200  # replies that wait for each client
MAX_FRAMES = 3
CLOSE_S = 0.5  # longest wait for the last replies to be delivered
BUSY = f"busy: {BURST} requests at once and {RATE_HZ:.0f} a second are done for one client; ask again later"


class Control:
    """Answers requests on a ROUTER socket of its own thread; used with `with`, around the running session.

    Any number of clients may ask. A flood is refused, each client by its own count, and one that goes on is cut off; a
    client that does not read its replies loses them.

    Args:
        address: Where to listen: loopback, a path of this machine, or with keys anywhere.
        session: What is controlled.
        newest: What its feed said last.
        keys: Encrypts, and lets only clients with an authorised key in.

    Attributes:
        address: Once open, the real endpoint.
        door: Once open, counts who was refused and who was cut off.

    Raises:
        FeedError: If the address is malformed or not allowed.
    """

    def __init__(self, address: str, session: Controlled, newest: Newest, *, keys: ServerKeys | None = None) -> None:
        self.address = check_address(address, insecure=False, encrypted=keys is not None, only_keys=True)
        self.door: Door | None = None
        self._desk = Desk(session, newest)
        self._keys = keys
        self._allowances: OrderedDict[bytes, Allowance] = OrderedDict()  # longest unheard of first
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def __enter__(self) -> Self:
        """Bind and start the thread.

        Raises:
            FeedError: If the address is in use, or not one of this machine's.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        options = {
            zmq.MAXMSGSIZE: MAX_BYTES,
            zmq.RCVHWM: 0,  # see `stream.feed.sinks`: no incoming queue may fill up, the door bounds what lies in it
            zmq.SNDHWM: QUEUE_SIZE,
            zmq.LINGER: round(CLOSE_S * 1000),
            zmq.IPV6: int("[" in self.address),
            **TCP_KEEP_ALIVE,
        }
        for option, value in options.items():
            self._socket.set(option, value)
        try:
            self.door = Door(
                self._socket, self._context, keys=self._keys, max_connections=MAX_CONNECTIONS,
                at_once=AT_ONCE, a_second=A_SECOND,
            )  # fmt: skip
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
        poller = zmq.Poller()
        for waited_for in (self._woken, self._socket):
            poller.register(waited_for, zmq.POLLIN)
        try:
            while not self._closing.is_set():
                poller.poll()
                if frames := self._receive():
                    self._reply(frames)
        finally:
            self._close()
            self._wake.close()
            self._woken.close()

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
        if not self._is_allowed(frames[0]):
            answer = refusal(BUSY)
        else:
            answer = self._desk.answer(payload if well_formed and len(frames) <= MAX_FRAMES else b"")
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart([*envelope, answer], zmq.NOBLOCK)

    def _is_allowed(self, client: bytes) -> bool:
        # By the name that its connection has: whoever comes anew gets a new count, and none of somebody gone.
        if client not in self._allowances:
            self._allowances[client] = Allowance(BURST, RATE_HZ)
            if len(self._allowances) > MAX_KNOWN:
                self._allowances.popitem(last=False)
        self._allowances.move_to_end(client)
        return self._allowances[client].spend()

    def _close(self) -> None:
        if self.door is not None:
            self.door.close()
        self._socket.close()
        self._context.term()  # waits for LINGER
