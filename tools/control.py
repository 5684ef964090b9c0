"""`emocast control`: ask something of a running session."""

import contextlib
import uuid

import msgspec
import zmq

from stream.feed.control import DEFAULT_ADDRESS
from stream.feed.control_messages import Reply, Request, decode_reply, decode_request
from stream.feed.security import FeedError, check_address
from tools.errors import DONE
from tools.watch import render

COMMANDS = ("status", "pause", "resume", "mark", "shutdown")
WAIT_S = 3.0


def control(command: str, text: str | None = None, *, address: str = DEFAULT_ADDRESS) -> int:
    """Ask a running session for its status, to pause, resume or end, or to note a mark in its feed.

    Args:
        command: One of `COMMANDS`.
        text: Of a `mark`.
        address: Of the session's control.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If the address is malformed or not allowed, no session answers there, or it refuses.
        ValueError: If the command is unknown, or has a text too many or too few.
    """
    reply = ask(request_of(command, text), check_address(address, insecure=False))
    if reply.error is not None:
        raise FeedError(f"the session at {address} refused: {reply.error}")
    print(f"{reply.t:9.2f} s  {command}: {'paused' if reply.paused else 'running'}")
    for message in (reply.session, reply.status):
        if message is not None:
            print(render(message))
    return DONE


def request_of(command: str, text: str | None) -> Request:
    """The request of a command line.

    Raises:
        ValueError: If the command is unknown, or has a text too many or too few.
    """
    if command not in COMMANDS:
        raise ValueError(f"expected a command of {', '.join(COMMANDS)}, got {command!r}")
    if (command == "mark") is not bool(text):
        raise ValueError(f"expected a text with mark and with nothing else, got {command} {text or 'without one'}")
    asked = {"command": command, "id": uuid.uuid4().hex, **({"text": text} if text else {})}
    return decode_request(msgspec.json.encode(asked))


def ask(request: Request, address: str, *, wait_s: float = WAIT_S) -> Reply:
    """Send a request and wait for its reply.

    Raises:
        FeedError: If none comes in time, or something else than a session answers.
    """
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = round(wait_s * 1000)
        socket.connect(address)
        socket.send(msgspec.json.encode(request))
        with contextlib.suppress(zmq.Again):
            try:
                return decode_reply(socket.recv())
            except msgspec.DecodeError as error:
                raise FeedError(f"what answers at {address} is no control of this version: {error}") from error
    raise FeedError(f"no session answers at {address}; start it with --control, and name its address with --address")
