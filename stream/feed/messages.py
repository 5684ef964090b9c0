"""The messages of the feed, version 1: the only definition of what subscribers receive.

Within version 1 fields may be added, and a subscriber leaves out those that it does not know, as the schema lets it.
Anything else, a new value of an enumeration included, is a new version.

The JSON Schema in `schema.json` beside this file is made from these types (`python -m stream.feed.messages`), and a
test holds the two together.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

VERSION = 1
SCHEMA_PATH = Path(__file__).parent / "schema.json"

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0)]
Stamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Reason = Literal["no_face", "silence", "stale", "uncertain"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message carries.

    Attributes:
        v: Version of the protocol.
        stream: Name of the stream.
        seq: Counts the messages of this topic from 0; a subscriber sees its own losses in it.
        t: Media seconds.
        stamp: Wall clock when the message was published, UTC, RFC 3339 with milliseconds.
    """

    v: Literal[1] = VERSION  # type: ignore[assignment]
    stream: str
    seq: Count
    t: float
    stamp: Stamp


class Session(_Message, frozen=True, kw_only=True, tag="session"):
    """Topic `session/<stream>`: at the start, to each late joiner, and again where the hop was changed meanwhile.

    Attributes:
        session: Unique id of this run of the stream; changes when a publisher restarts, and with nothing else.
        origin: Wall clock of t = 0, UTC, RFC 3339 with milliseconds.
        labels: Order of the labels.
        recogniser: Name of the bundle.
        bundle: First 16 hexadecimal digits of the bundle's SHA-256.
        engine: Backend that runs its graphs.
        hop_s: Seconds between estimates.
        n_segments: Over how many segments, each as long as the first hop, an estimate sums what was scored.
        alignment: `centered` or `causal`.
        seed: Seed of the window draws.
        source: The source, for a person.
        notice: What a person who reads these estimates should know.
    """

    session: str
    origin: Stamp
    labels: tuple[str, ...]
    recogniser: str
    bundle: str
    engine: str
    hop_s: float
    n_segments: int
    alignment: Literal["centered", "causal"]
    seed: int
    source: str
    notice: str


class WindowNote(msgspec.Struct, frozen=True, kw_only=True):
    """Where one scored window came from.

    Attributes:
        frame: Media seconds of the video frame, or of the virtual one where there was none.
        audio: Media seconds [start, end) of the audio interval.
        offset: Seconds drawn between the frame and the audio's centre (or end, when causal).
        face: Whether a face was scored.
        voice: State of the audio: `present`, `silence`, `gap`, `no_track`, or `shared` where several faces are in
            view and whose voice it is cannot be told.
    """

    frame: float
    audio: tuple[float, float]
    offset: float
    face: bool
    voice: Literal["present", "silence", "gap", "no_track", "shared"]


class Estimate(_Message, frozen=True, kw_only=True, tag="estimate"):
    """Topic `estimate/<stream>/<person>`: each hop. `t` is the time of its newest video frame.

    Attributes:
        span: Media seconds [start, end) that it speaks of.
        age_ms: Capture of the newest sample it needed, to publishing; media at full speed has no age: null.
        person: Stable id from 1; 0 is a voice that no single face can be given.
        box: x, y, width, height in pixels of the newest face, or null.
        posterior: Label to probability; sums to 1. Uniform where nothing could be scored.
        label: The most probable label, or null when it abstains.
        confidence: Calibrated probability that the label is right.
        reason: Why it abstains, or null.
        modalities: Weight that each modality had: `face`, `voice`.
        windows: The windows summed, oldest first.
        bundle: First 16 hexadecimal digits of the bundle's SHA-256.
        baseline: Name of the person whose neutral face and voice corrected the posterior, or null.
    """

    span: tuple[float, float]
    age_ms: float | None
    person: Count
    box: tuple[int, int, int, int] | None
    posterior: dict[str, Fraction]
    label: str | None
    confidence: Fraction
    reason: Reason | None
    modalities: dict[str, Fraction]
    windows: tuple[WindowNote, ...]
    bundle: str
    baseline: str | None = None


class Status(_Message, frozen=True, kw_only=True, tag="status"):
    """Topic `status/<stream>`: each second of wall clock; also the heartbeat. Rates are over the last second.

    Attributes:
        frame_rate_hz: Frames that arrived from the source.
        analysed_rate_hz: Frames that perception analysed.
        hop_rate_hz: Hops that were scored.
        persons: Persons tracked now.
        drops: Queue name to all that it dropped so far; `hops` were left out because newer ones were due, and
            not because somebody asked for a pause or fewer of them.
        overruns: Audio blocks that the device lost so far.
        audio_gap_s: Seconds of audio that were never captured so far.
        engine_ms: p50 and p99 of scoring one hop; null before the first.
        age_ms: p50 and p99 of capture to publish; null at full speed.
        drift_ppm: Of the microphone's clock; null where there is none.
        drift_residual_ms: How far the microphone's times lie around the line fitted through them; null where none is.
        engine: Backend that runs the graphs now.
        engine_why: Why that one: `asked for`, what `auto` found, or what failed in another.
        picture: Width and height of the newest frame in pixels, those of an estimate's `box`; null where none came.
    """

    frame_rate_hz: float
    analysed_rate_hz: float
    hop_rate_hz: float
    persons: Count
    drops: dict[str, Count]
    overruns: Count
    audio_gap_s: float
    engine_ms: tuple[float, float] | None
    age_ms: tuple[float, float] | None
    drift_ppm: float | None
    drift_residual_ms: float | None = None
    engine: str = ""
    engine_why: str = ""
    picture: tuple[Count, Count] | None = None


class Event(_Message, frozen=True, kw_only=True, tag="event"):
    """Topic `event/<stream>`: as it happens.

    Attributes:
        kind: `face_found`, `face_lost`, `truncated`, `device_lost`, `device_back`, `engine`, `end`, ...
        text: For a person.
        person: Whom it concerns, or null.
        totals: With `end`: what the stream amounted to (frames, estimates, drops, ...).
    """

    kind: str
    text: str
    person: Count | None = None
    totals: dict[str, float] | None = None


Message = Session | Estimate | Status | Event

_JSON: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_MSGPACK: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
CODECS = ("json", "msgpack")


def topic_of(message: Message) -> str:
    """The topic that a message is published under."""
    kind = type(message).__name__.lower()
    if isinstance(message, Estimate):
        return f"{kind}/{message.stream}/{message.person}"
    return f"{kind}/{message.stream}"


def encode(message: Message, codec: str = "json") -> bytes:
    """A message as one JSON object or the same object in MessagePack.

    Raises:
        ValueError: If the codec is neither `json` nor `msgpack`, or a number is not finite.
    """
    if codec not in CODECS:
        raise ValueError(f"expected a codec of {', '.join(CODECS)}, got {codec!r}")
    check_finite(message)
    write = msgspec.json.encode if codec == "json" else msgspec.msgpack.encode
    try:
        return write(message)
    except UnicodeEncodeError:  # the name of a file that is no UTF-8 must not end the feed
        fields = ((name, getattr(message, name)) for name in message.__struct_fields__)
        texts = {name: text.encode(errors="replace").decode() for name, text in fields if isinstance(text, str)}
        return write(msgspec.structs.replace(message, **texts))


def decode(payload: bytes) -> Message:
    """A message from either codec: JSON objects begin with `{`, which is no MessagePack map.

    Fields that this version does not know are left out.

    Raises:
        msgspec.DecodeError: If the payload is neither, or not a message of this version.
    """
    try:
        if payload[:1] == b"{":
            return _JSON.decode(payload)
        message = _MSGPACK.decode(payload)
    except RecursionError as error:  # a field unknown to us, nested without end
        raise msgspec.DecodeError(str(error)) from error
    try:
        check_finite(message)  # JSON cannot carry such numbers, MessagePack can
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error
    return message


def check_finite(message: Message) -> None:
    """Refuse what no schema allows and what JSON would carry as null.

    Raises:
        ValueError: If a number of the message is NaN or infinite; the text names its field.
    """
    if wrong := next(_not_finite(msgspec.to_builtins(message), ""), None):
        raise ValueError(f"expected finite numbers in the message {topic_of(message)}, got {wrong}")


def _not_finite(value: object, field: str) -> Iterator[str]:
    match value:
        case float() if not math.isfinite(value):
            yield f"{field} = {value}"
        case dict():
            for name, part in value.items():
                yield from _not_finite(part, f"{field}.{name}" if field else name)
        case list() | tuple():
            for index, part in enumerate(value):
                yield from _not_finite(part, f"{field}[{index}]")


def schema() -> dict[str, Any]:
    """The JSON Schema of one message."""
    described: dict[str, Any] = msgspec.json.schema(Message)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "emocast feed, version 1", **described}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json.dumps(schema(), indent=1) + "\n")
