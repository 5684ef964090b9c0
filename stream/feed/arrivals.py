"""What has arrived from a publisher: decoded, without the repeats meant for others, with losses counted. Bounded."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from stream.feed.messages import Message, Session, decode, topic_of

MAX_TOPICS = 8192  # whose newest number is known; a publisher that makes up ever new names costs no more
OTHERS = "..."  # where the losses of topics beyond that are counted
_BEFORE_ALL = (-1, "")

T = TypeVar("T")


class Arrivals:
    """Takes the frames of one subscription in order and gives the messages that are new.

    Attributes:
        n_lost: Messages known to be lost, by topic, from gaps in `seq`; counted from the first one received, and from
            the beginning of each session that began since.
        n_repeats: Messages left out because the publisher repeated them for somebody who joined late.
        n_malformed: Messages left out because they are none of this protocol and version.
    """

    def __init__(self) -> None:
        self.n_lost: dict[str, int] = {}
        self.n_repeats = 0
        self.n_malformed = 0
        self._newest: OrderedDict[str, tuple[int, str]] = OrderedDict()  # topic to seq and stamp, used last at the end
        self._sessions: OrderedDict[str, str] = OrderedDict()  # stream to session
        self._began_here: OrderedDict[str, None] = OrderedDict()  # streams that have begun anew since we listen

    def take(self, frames: Sequence[bytes]) -> Message | None:
        """The message, or None where it is a repeat or none at all."""
        message = self.decode(frames)
        return message if message is not None and self.is_new(message) else None

    def decode(self, frames: Sequence[bytes]) -> Message | None:
        """The message, or None, and counted, where it is none."""
        try:
            topic, payload = frames
            message = decode(payload)
        except (ValueError, msgspec.DecodeError):
            self.n_malformed += 1
            return None
        if topic != topic_of(message).encode(errors="replace"):
            self.n_malformed += 1
            return None
        return message

    def is_new(self, message: Message) -> bool:
        """Whether it is no repeat; what was lost before it is counted. To be asked once for each message, in order."""
        topic = topic_of(message)
        newest = self._newest.get(topic, _BEFORE_ALL if message.stream in self._began_here else None)
        if newest == (message.seq, message.stamp):
            self.n_repeats += 1
            return False
        if isinstance(message, Session) and self._sessions.get(message.stream) != message.session:
            self._begin(message)
        elif newest is not None:
            # Not above the one before: the publisher was restarted, and whoever is first heard at 3 missed three.
            n_missed = message.seq - newest[0] - 1 if message.seq > newest[0] else message.seq
            self._count(topic, n_missed)
        _remember(self._newest, topic, (message.seq, message.stamp))
        return True

    def _count(self, topic: str, n_missed: int) -> None:
        if n_missed:
            counted = topic if topic in self.n_lost or len(self.n_lost) < MAX_TOPICS else OTHERS
            self.n_lost[counted] = self.n_lost.get(counted, 0) + n_missed

    def _begin(self, session: Session) -> None:
        # A new session numbers anew: a gap to what came before it is no loss. Who joins late may have had some of its
        # messages before the session itself; stamps, which order as text, tell these apart.
        if session.stream in self._sessions:
            _remember(self._began_here, session.stream, None)
        _remember(self._sessions, session.stream, session.session)
        # A session that has been said anew, with another hop, began before that was stamped.
        since = session.origin if session.seq else session.stamp
        for topic, (_, stamp) in tuple(self._newest.items()):
            if topic.split("/")[1] == session.stream and stamp < since:
                del self._newest[topic]


def _remember(known: OrderedDict[str, T], key: str, value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > MAX_TOPICS:
        known.popitem(last=False)


def lateness_s(message: Message, now: datetime | None = None) -> float | None:
    """Seconds from publishing to now, or None where the stamp is no time in UTC.

    Between two machines it is no better than their clocks agree, and may be negative; a repeat for somebody who joined
    late is as old as what it repeats. Stamps have milliseconds.

    Args:
        message: As it was received.
        now: Wall clock, aware of its zone; that of this moment if not given.
    """
    try:
        published = datetime.fromisoformat(message.stamp)
    except ValueError:
        return None
    if published.tzinfo is None:
        return None
    return ((now or datetime.now(UTC)) - published).total_seconds()
