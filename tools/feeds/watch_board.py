"""What the view in the terminal knows of a feed, from the messages so far. Bounded, whatever a publisher sends."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream.feed.arrivals import lateness_s
from stream.feed.messages import Estimate, Event, Message, Session, Status, topic_of

MAX_STREAMS, MAX_PERSONS, MAX_EVENTS = 4, 16, 5
MAX_MARKS = 300  # estimates of a person's history: more than a terminal has columns
HOP_S = 0.25  # media seconds from one estimate to the next until a session message says so
GAP_S = 2.0  # media seconds, beside a hop, between two estimates that leave a gap in the history
GONE_S = 5.0  # media seconds, beside a hop, after which a person without estimates leaves the view
BACK_S = 1.0  # media seconds; a stream that goes back by more than this began anew without saying so
RATE_S = 5.0  # seconds over which what arrives is counted
MAX_COUNTED = 5_000  # messages of that time


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One estimate of a history: its label, or None where it abstained, and its confidence."""

    label: str | None
    confidence: float


@dataclass
class PersonView:
    """A person's newest estimate, when it came, and the marks before it, oldest first; None is a gap."""

    newest: Estimate
    at_s: float
    hop_s: float = HOP_S
    marks: deque[Mark | None] = field(default_factory=lambda: deque(maxlen=MAX_MARKS))

    def take(self, estimate: Estimate, now_s: float, hop_s: float) -> None:
        """Note the next estimate, of a stream with hops of `hop_s`."""
        if estimate.t - self.newest.t > GAP_S + max(self.hop_s, hop_s):
            self.marks.append(None)
        self.newest, self.at_s, self.hop_s = estimate, now_s, hop_s
        self.marks.append(Mark(label=estimate.label, confidence=estimate.confidence))


class Received:
    """How many messages came in the last seconds, and how late. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._came: deque[tuple[float, float | None]] = deque(maxlen=MAX_COUNTED)

    def take(self, now_s: float, late_s: float | None) -> None:
        """Count a message, published `late_s` ago, or None where that says nothing of the way here."""
        self._began_s = now_s if self._began_s is None else self._began_s
        self._came.append((now_s, late_s))

    def rate_hz(self, now_s: float) -> float:
        """Messages a second."""
        self._forget(now_s)
        if self._began_s is None or not self._came:
            return 0.0
        since_s = self._came[0][0] if len(self._came) == MAX_COUNTED else max(self._began_s, now_s - RATE_S)
        return len(self._came) / max(now_s - since_s, 1.0)

    def late_ms(self, now_s: float) -> tuple[float, float] | None:
        """Median and most of the lateness, or None where none is known."""
        self._forget(now_s)
        late = sorted(late_s for _, late_s in self._came if late_s is not None)
        return (late[len(late) // 2] * 1000, late[-1] * 1000) if late else None

    def _forget(self, now_s: float) -> None:
        while self._came and self._came[0][0] < now_s - RATE_S:
            self._came.popleft()


@dataclass
class StreamView:
    """One stream: its newest session and status, who is there, and what happened last."""

    session: Session | None = None
    status: Status | None = None
    ended_s: float | None = None
    paused: bool = False
    heard_s: float = 0.0
    persons: "OrderedDict[int, PersonView]" = field(default_factory=OrderedDict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))

    @property
    def labels(self) -> Sequence[str]:
        """In the order of the session, or of an estimate where that has not come yet."""
        if self.session is not None:
            return self.session.labels
        return tuple(next(iter(self.persons.values())).newest.posterior) if self.persons else ()

    @property
    def hop_s(self) -> float:
        """Media seconds from one estimate of a person to the next."""
        return HOP_S if self.session is None else self.session.hop_s

    @property
    def gone_s(self) -> float:
        """Seconds without an estimate after which a person is gone."""
        return GONE_S + self.hop_s

    def take(self, message: Message, now_s: float) -> None:
        """Note a message received at `now_s`."""
        self.heard_s = now_s
        match message:
            case Session():
                self.session = message
            case Status():
                self.status = message
            case Event():
                self.events.append(message)
                self.ended_s = now_s if message.kind == "end" else None
                if message.kind in ("paused", "resumed"):
                    self.paused = message.kind == "paused"
            case Estimate():
                self._take_estimate(message, now_s)

    def _take_estimate(self, estimate: Estimate, now_s: float) -> None:
        if any(person.newest.t > estimate.t + BACK_S for person in self.persons.values()):
            self.persons.clear()
        if estimate.person not in self.persons:
            self.persons[estimate.person] = PersonView(estimate, now_s)
        self.persons[estimate.person].take(estimate, now_s, self.hop_s)
        self.persons.move_to_end(estimate.person)
        if len(self.persons) > MAX_PERSONS:
            self.persons.popitem(last=False)
        for person in [p for p, known in self.persons.items() if known.newest.t < estimate.t - self.gone_s]:
            del self.persons[person]


class Board:
    """All streams of a feed. Times are seconds of one monotonic clock.

    Attributes:
        address: Of the feed.
        n_lost: Messages that this watcher lost.
        n_malformed: Messages that it could not read.
        received: What came here.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.n_lost = 0
        self.n_malformed = 0
        self.received = Received()
        self._streams: OrderedDict[str, StreamView] = OrderedDict()  # those heard last at the end
        self._heard_of: OrderedDict[str, None] = OrderedDict()  # topics

    @property
    def streams(self) -> list[tuple[str, StreamView]]:
        """By name."""
        return sorted(self._streams.items())

    def take(self, message: Message, now_s: float) -> None:
        """Note a message received at `now_s`; another session begins its stream anew."""
        self.received.take(now_s, lateness_s(message) if self._is_fresh(message) else None)
        view = self._streams.get(message.stream)
        if view is None or (
            isinstance(message, Session) and view.session is not None and view.session.session != message.session
        ):
            view = self._streams[message.stream] = StreamView()
        self._streams.move_to_end(message.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        view.take(message, now_s)

    def _is_fresh(self, message: Message) -> bool:
        # the first of a topic may be a repeat for us, who joined late, and so as old as what it repeats
        topic = topic_of(message)
        known = topic in self._heard_of
        self._heard_of[topic] = None
        self._heard_of.move_to_end(topic)
        if len(self._heard_of) > MAX_STREAMS * (MAX_PERSONS + 3):
            self._heard_of.popitem(last=False)
        return known
