"""What somebody who subscribes late must be told: the newest messages of each stream, kept as they were sent."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.feed.messages import Estimate, Event, Message, Session, Status

MAX_STREAMS, MAX_PERSONS = 64, 64  # whose newest messages are kept
GONE_S = 10.0  # media seconds after which a person without estimates is no longer told of

Frames = tuple[bytes, bytes]  # topic, payload


class LateJoiners:
    """The newest messages, encoded, that somebody who subscribes now must be told. Bounded."""

    def __init__(self) -> None:
        self._streams: OrderedDict[str, _Newest] = OrderedDict()

    def keep(self, message: Message, frames: Frames) -> None:
        """Take note of a message that was sent as `frames`."""
        newest = self._streams.get(message.stream)
        # One session may say anew what it is: with another hop it says all the same of the same persons.
        if newest is None or (isinstance(message, Session) and newest.session_id != message.session):
            newest = self._streams[message.stream] = _Newest()
        self._streams.move_to_end(message.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        match message:
            case Session():
                newest.session, newest.session_id = frames, message.session
            case Status():
                newest.status = frames
            case Estimate():
                newest.keep_person(message, frames)
            case Event():
                newest.end = frames if message.kind == "end" else None

    def forget(self, stream: str) -> None:
        """Keep nothing of a stream any more; one that is not kept does no harm."""
        self._streams.pop(stream, None)

    def frames(self, prefixes: Iterable[bytes]) -> list[Frames]:
        """What subscribers to these prefixes must be told, each once, sessions before what they explain."""
        wanted = tuple(prefixes)
        kept = [frames for newest in self._streams.values() for frames in newest.all()]
        return [frames for frames in kept if frames[0].startswith(wanted)]


@dataclass
class _Newest:
    session: Frames | None = None
    session_id: str | None = None
    status: Frames | None = None
    end: Frames | None = None
    persons: OrderedDict[int, tuple[float, Frames]] = field(default_factory=OrderedDict)

    def keep_person(self, estimate: Estimate, frames: Frames) -> None:
        self.persons[estimate.person] = (estimate.t, frames)
        self.persons.move_to_end(estimate.person)
        for person in [p for p, (t, _) in self.persons.items() if t < estimate.t - GONE_S]:
            del self.persons[person]
        if len(self.persons) > MAX_PERSONS:
            self.persons.popitem(last=False)

    def all(self) -> list[Frames]:
        estimates = [frames for _, frames in self.persons.values()]
        return [frames for frames in (self.session, self.status, *estimates, self.end) if frames is not None]
