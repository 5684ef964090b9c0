"""`emocast control`: ask something of a running session."""

import contextlib
import math
import uuid

import msgspec
import zmq

from stream.feed.control import DEFAULT_ADDRESS
from stream.feed.control_messages import Reply, Request, decode_reply, decode_request
from stream.feed.keys import ClientKeys, load_client_keys
from stream.feed.security import FeedError, check_address
from tools.errors import DONE
from tools.feeds.watch import render

COMMANDS = {
    "status": None,
    "pause": None,
    "resume": None,
    "set-hop": "hop_s",
    "record": "file",
    "stop-recording": None,
    "mark": "text",
    "shutdown": None,
}
TAKES = {"text": "a text", "hop_s": "a number of seconds", "file": "a file's name"}
WAIT_S = 3.0


def control(
    command: str,
    text: str | None = None,
    *,
    lossless: bool = False,
    address: str = DEFAULT_ADDRESS,
    key: str | None = None,
) -> int:
    """Ask something of a running session: see `stream.feed.control_messages`.

    Args:
        command: One of `COMMANDS`.
        text: What it takes: the note of a `mark`, the seconds of `set-hop`, the file of `record`.
        lossless: With `record`: keep pictures and samples bit by bit.
        address: Of the session's control.
        key: Name of the client whose keys are used, for a session with keys.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If the address is malformed or not allowed, no session answers there, or it refuses; or if the keys
            are not there.
        ValueError: If the command is unknown, or has a text too many or too few.
    """
    request = request_of(command, text, lossless=lossless)
    reply = ask(request, address, keys=None if key is None else load_client_keys(key))
    if reply.error is not None:
        raise FeedError(f"the session at {address} refused: {reply.error}")
    state = "paused" if reply.paused else "running"
    if reply.recording is not None:
        state += f", recording {reply.recording}"
    print(f"{reply.t:9.2f} s  {command}: {state}")
    for message in (reply.session, reply.status):
        if message is not None:
            print(render(message))
    return DONE


def request_of(command: str, text: str | None, *, lossless: bool = False) -> Request:
    """The request of a command line.

    Raises:
        ValueError: If the command is unknown, or has a text too many or too few.
    """
    if command not in COMMANDS:
        raise ValueError(f"expected a command of {', '.join(COMMANDS)}, got {command!r}")
    field = COMMANDS[command]
    if (field is not None) is not bool(text):
        wanted = "nothing" if field is None else TAKES[field]
        raise ValueError(f"expected {wanted} after {command}, got {text or 'nothing'}")
    if lossless and command != "record":
        raise ValueError(f"expected --lossless with record alone, got it with {command}")
    asked: dict[str, object] = {"command": command.replace("-", "_"), "id": uuid.uuid4().hex}
    if field is not None:
        asked[field] = _number(text) if field == "hop_s" else text
    if lossless:
        asked["lossless"] = True
    return decode_request(msgspec.json.encode(asked))


def _number(text: str | None) -> float:
    with contextlib.suppress(ValueError, TypeError):
        if math.isfinite(number := float(text or "")):
            return number
    raise ValueError(f"expected a number of seconds after set-hop, got {text!r}")


def ask(request: Request, address: str, *, keys: ClientKeys | None = None, wait_s: float = WAIT_S) -> Reply:
    """Send a request and wait for its reply.

    Raises:
        FeedError: If the address is malformed or, without keys, not loopback; if no reply comes in time, or something
            else than a session answers.
    """
    checked = _checked(address, keys)
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = round(wait_s * 1000)
        socket.ipv6 = "[" in checked
        if keys is not None:
            socket.curve_serverkey, socket.curve_secretkey = keys.server_key, keys.client_secret
            socket.curve_publickey = zmq.curve_public(keys.client_secret)
        try:
            socket.connect(checked)
        except zmq.ZMQError as error:
            raise FeedError(f"cannot connect to {address}: {str(error).lower()}") from error
        socket.send(msgspec.json.encode(request))
        with contextlib.suppress(zmq.Again):
            try:
                return decode_reply(socket.recv())
            except msgspec.DecodeError as error:
                raise FeedError(f"what answers at {address} is no control of this version: {error}") from error
    why = "start it with --control, and name its address with --address"
    if keys is not None:
        why += "; of those with a key it lets in who was made there with emocast keys client NAME --control"
    raise FeedError(f"no session answers at {address}; {why}")


def _checked(address: str, keys: ClientKeys | None) -> str:
    try:
        return check_address(address, insecure=False, encrypted=keys is not None)
    except FeedError as error:
        if "loopback" not in str(error):
            raise
        raise FeedError(f"{address} is not a loopback address, where a control has keys; pass --key NAME") from error
