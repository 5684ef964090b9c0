"""The feed in the words of ROS for Human-Robot Interaction (REP-155, hri_msgs), without any of ROS.

    /humans/faces/<face>/expression      Expression of each person with a face
    /humans/voices/<voice>/expression    Expression of person 0, a voice without one face; REP-155 names no such topic
    /humans/candidate_matches            IdsMatch: face and voice of each person

Ids are made of the stream and the person: `face_<stream>_<n>`, `person_<stream>_<n>`, and `voice_<stream>`, since a
stream has one sound track. ROS allows letters, digits and single underscores in them; a stream whose name has others is
written without these, with eight hexadecimal digits of its own name's checksum behind it.

An estimate that abstains has the expression "" and the confidence 0: no word of the list says "not known". Valence and
arousal are NaN: nothing here measures them, and 0 would claim that they are neutral. A label that hri_msgs has no word
for keeps the recogniser's word.
"""

import math
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from stream.feed.messages import Estimate, Event, Message, Session, Status

MATCHES_TOPIC = "/humans/candidate_matches"
WORDS = {
    "neutral": "neutral",
    "happiness": "happy",
    "anger": "angry",
    "fear": "scared",
    "disgust": "disgusted",
    "surprise": "surprised",
    "sadness": "sad",
}


class IdType(IntEnum):
    """What an id names: the constants of hri_msgs/IdsMatch that are used here."""

    PERSON = 1
    FACE = 2
    VOICE = 4


@dataclass(frozen=True, kw_only=True)
class Expression:
    """hri_msgs/Expression.

    Attributes:
        stamp_ns: Of the header: wall clock when the newest video frame was captured, nanoseconds since 1970 UTC.
        frame_id: Of the header: name of the stream.
        expression: Word of hri_msgs, or "" where the estimate abstains.
        valence: NaN.
        arousal: NaN.
        confidence: Calibrated probability that the expression is right; 0 where the estimate abstains.
    """

    stamp_ns: int
    frame_id: str
    expression: str
    valence: float
    arousal: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class IdsMatch:
    """hri_msgs/IdsMatch: that two ids belong together; `confidence` 0 says that they do not, or no longer."""

    id1: str
    id1_type: IdType
    id2: str
    id2_type: IdType
    confidence: float


Outgoing = tuple[str, Expression | IdsMatch]  # topic, message


class RosMapping:
    """Turns messages of the feed, in order, into what is published in ROS.

    It remembers the origin of each stream, and who is there, so that their matches can be withdrawn.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._present: dict[str, set[int]] = {}

    def take(self, message: Message) -> list[Outgoing]:
        """What to publish for one message."""
        match message:
            case Session():
                known = self._sessions.get(message.stream)
                self._sessions[message.stream] = message
                return [] if known is not None and known.session == message.session else self._gone(message.stream)
            case Estimate():
                return self._estimate(message)
            case Event(kind="end"):
                return self._gone(message.stream)
            case Event(kind="face_lost", person=int(person)):
                return self._gone(message.stream, person)
            case Event() | Status():
                return []

    def _estimate(self, estimate: Estimate) -> list[Outgoing]:
        session = self._sessions.get(estimate.stream)
        stamp_ns = capture_ns(estimate, None if session is None else session.origin)
        topic = expression_topic(estimate.stream, estimate.person)
        if estimate.person and estimate.box is not None:
            self._present.setdefault(estimate.stream, set()).add(estimate.person)
        matches = [(MATCHES_TOPIC, match) for match in matches_of(estimate)]
        return [(topic, expression_of(estimate, stamp_ns)), *matches]

    def _gone(self, stream: str, person: int | None = None) -> list[Outgoing]:
        present = self._present.setdefault(stream, set())
        leaving = sorted(present if person is None else present & {person})
        present.difference_update(leaving)
        return [
            (MATCHES_TOPIC, match) for n in leaving for match in (face_match(stream, n, 0), voice_match(stream, n, 0))
        ]


def expression_of(estimate: Estimate, stamp_ns: int) -> Expression:
    """An estimate in the words of hri_msgs."""
    label = estimate.label
    return Expression(
        stamp_ns=stamp_ns,
        frame_id=estimate.stream,
        expression="" if label is None else WORDS.get(label, label),
        valence=math.nan,
        arousal=math.nan,
        confidence=0.0 if label is None else estimate.confidence,
    )


def matches_of(estimate: Estimate) -> list[IdsMatch]:
    """Which face and which voice are this person's, as the newest window has it; none for person 0 or without a face.

    The voice is a person's where it was scored with their face, which it is only while no other face is in view: a
    likely speaker, not a recognised one.
    """
    if not estimate.person or estimate.box is None:
        return []
    newest = estimate.windows[-1] if estimate.windows else None
    speaks = newest is not None and newest.face and newest.voice == "present"
    stream, person = estimate.stream, estimate.person
    return [face_match(stream, person, 1.0), voice_match(stream, person, float(speaks))]


def face_match(stream: str, person: int, confidence: float) -> IdsMatch:
    """That a face is a person's: tracked as one, so it is certain while it lasts."""
    return _match(face_id(stream, person), IdType.FACE, stream, person, confidence)


def voice_match(stream: str, person: int, confidence: float) -> IdsMatch:
    """That the voice of a stream is a person's."""
    return _match(voice_id(stream), IdType.VOICE, stream, person, confidence)


def _match(id1: str, kind: IdType, stream: str, person: int, confidence: float) -> IdsMatch:
    return IdsMatch(
        id1=id1, id1_type=kind, id2=person_id(stream, person), id2_type=IdType.PERSON, confidence=float(confidence)
    )


def expression_topic(stream: str, person: int) -> str:
    """Where a person's expressions are published."""
    if person:
        return f"/humans/faces/{face_id(stream, person)}/expression"
    return f"/humans/voices/{voice_id(stream)}/expression"


def face_id(stream: str, person: int) -> str:
    """Id of a person's face."""
    return f"face_{ros_name(stream)}_{person}"


def voice_id(stream: str) -> str:
    """Id of the voice on the sound track of a stream."""
    return f"voice_{ros_name(stream)}"


def person_id(stream: str, person: int) -> str:
    """Id of a person."""
    return f"person_{ros_name(stream)}_{person}"


def ros_name(stream: str) -> str:
    """A stream's name as a part of ROS names, another for each stream."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", stream).strip("_")
    if plain == stream:
        return plain
    return f"{plain}_{zlib.crc32(stream.encode()):08x}".strip("_")


def capture_ns(estimate: Estimate, origin: str | None) -> int:
    """Wall clock when the newest video frame was captured, in nanoseconds since 1970 UTC.

    Args:
        estimate: Its `t` counts from the origin of its session.
        origin: Of its session; where that is not known, the time of publishing less the age stands for it.

    Raises:
        ValueError, OverflowError: If these are no times, or none that ROS can hold.
    """
    if origin is not None:
        captured = datetime.fromisoformat(origin).astimezone(UTC) + timedelta(seconds=estimate.t)
    else:
        published = datetime.fromisoformat(estimate.stamp).astimezone(UTC)
        captured = published - timedelta(milliseconds=estimate.age_ms or 0.0)
    since = captured - datetime(1970, 1, 1, tzinfo=UTC)
    stamp_ns = (since // timedelta(microseconds=1)) * 1000
    if not 0 <= stamp_ns < 2**31 * 10**9:  # its seconds are an int32
        raise OverflowError(f"expected a capture between 1970 and 2038, as ROS counts, got {captured}")
    return stamp_ns
