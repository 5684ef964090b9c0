"""Requests to a running session and its replies, version 1: the only definition of what its control understands.

A request that this version does not know, or that has a field too many, is refused and nothing is done.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream.feed.messages import Session, Status

EXAMPLE = '{"command": "mark", "text": "a note"}'
Note = Annotated[str, Meta(min_length=1, max_length=500)]
RequestId = Annotated[str, Meta(max_length=64)]


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """What every request carries.

    Attributes:
        v: Version of the protocol.
        id: Comes back in the reply.
    """

    v: Literal[1] = 1
    id: RequestId = ""


class AskStatus(_Request, frozen=True, kw_only=True, tag="status"):
    """How the session stands."""


class Pause(_Request, frozen=True, kw_only=True, tag="pause"):
    """Publish no estimates until `resume`; devices are read on, and status and events are published."""


class Resume(_Request, frozen=True, kw_only=True, tag="resume"):
    """Publish estimates again."""


class SetHop(_Request, frozen=True, kw_only=True, tag="set_hop"):
    """Publish estimates less often or more often: every so many seconds, a whole number of the shortest hop."""

    hop_s: Annotated[float, Meta(gt=0)]


class Record(_Request, frozen=True, kw_only=True, tag="record"):
    """Record into a new file of this plain name, .mkv, in the folder that the session was started with."""

    file: Annotated[str, Meta(min_length=1, max_length=200)]
    lossless: bool = False


class StopRecording(_Request, frozen=True, kw_only=True, tag="stop_recording"):
    """Finish the recording that runs; an event says when its files are complete."""


class Mark(_Request, frozen=True, kw_only=True, tag="mark"):
    """Put a note into the feed as an event `mark`, and so into the recording."""

    text: Note


class Shutdown(_Request, frozen=True, kw_only=True, tag="shutdown"):
    """End the session in order, as when its source ends."""


Request = AskStatus | Pause | Resume | SetHop | Record | StopRecording | Mark | Shutdown


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request.

    Attributes:
        v: Version of the protocol.
        id: Of the request; empty where that could not be read.
        error: What was wrong with the request, or null where it was done.
        t: Media seconds at which it was done.
        paused: Whether the session is paused now.
        recording: Name of the file that is being recorded, or null.
        session: The newest `session` of the feed, to `status`; null before the first.
        status: The newest `status` of the feed, to `status`; null before the first.
    """

    v: Literal[1] = 1
    id: str = ""
    error: str | None = None
    t: float = 0.0
    paused: bool = False
    recording: str | None = None
    session: Session | None = None
    status: Status | None = None


_REQUEST: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def decode_request(payload: bytes) -> Request:
    """A request from JSON.

    Raises:
        ValueError: If it is none; the text is one line for whoever sent it.
    """
    try:
        return _REQUEST.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: not UTF-8
        raise ValueError(f"expected a request like {EXAMPLE}: {error}") from error


def decode_reply(payload: bytes) -> Reply:
    """A reply from JSON.

    Raises:
        msgspec.DecodeError: If it is none of this version.
    """
    return _REPLY.decode(payload)


def refusal(error: str) -> bytes:
    """The reply to a request that was not even looked at."""
    return msgspec.json.encode(Reply(error=error))


def schema() -> dict[str, Any]:
    """The JSON Schema of a request and of a reply, under these names."""
    (request, reply), definitions = msgspec.json.schema_components([Request, Reply])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "emocast control, version 1",
        "$defs": {**definitions, "request": request, "reply": reply},
    }
