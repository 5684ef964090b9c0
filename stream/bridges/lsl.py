"""The feed as Lab Streaming Layer outlets, for LabRecorder and whatever else records beside it.

    stream                source id                           channels
    emocast <stream> <n>  emocast/<host>/<stream>/<person>    the posterior in the session's order of labels, then
                                                              `confidence`, `t`, `age_ms`; double64, 1 / hop_s
    emocast <stream>      emocast/<host>/<stream>/markers     one text, irregular

A sample's time is the end of the span that the estimate speaks of, on LSL's own clock: exactly one hop after the one
before, as importers assume of a regular stream, while the newest video frame, whose media seconds are `t`, lies
anywhere in the last hop. It is a time of capture: nothing is left to be subtracted, and the description's
`synchronization/offset_mean` is 0. The lag of each sample is its `age_ms`, from the capture of the newest picture or
sound that it needed to publishing; NaN for media at full speed. Samples of hops that were left out are missing:
`can_drop_samples` is true.

Markers are `label/<person>: <label>`, or `(<reason>)` where it abstains, when either changes, and each event as
`<kind>/<person>: <text>`, or `<kind>: <text>` where it concerns nobody.
"""

import importlib
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import zmq

from stream.feed.late_joiners import GONE_S, MAX_PERSONS, MAX_STREAMS
from stream.feed.messages import Estimate, Event, Message, Session, Status
from stream.feed.publisher import utc_now
from stream.feed.security import FeedError

BUFFER_S = 60  # that LSL holds for a reader that stands still
LAST_S = 0.2  # for LSL's own threads to send what was pushed last: closing an outlet drops it, and there is no flush
MARKERS = "markers"
AFTER_LABELS = (("confidence", "probability"), ("t", "seconds"), ("age_ms", "milliseconds"))


class LslSink:
    """Publishes posteriors and events through the Lab Streaming Layer.

    Somebody who connects late gets the samples from then on: LSL keeps none for late joiners. An outlet closes when its
    person has had no estimate for ten media seconds; the same source id comes back with the person, and inlets recover.

    Args:
        insecure: Whether the network may read it: LSL listens on every address of the machine, without keys.
        host: Name of this machine in the source ids.
        now: The wall clock that `origin` of a session was read from.
        library: The module `pylsl`; unset loads it when opened.

    Raises:
        FeedError: If `insecure` is false.
    """

    def __init__(
        self,
        *,
        insecure: bool,
        host: str | None = None,
        now: Callable[[], datetime] = utc_now,
        library: Any = None,
    ) -> None:
        if not insecure:
            raise FeedError(
                "LSL answers every host of the network, without encryption or keys, and cannot be kept to loopback; "
                "pass --insecure too where everybody on the network may read it, or leave out --lsl"
            )
        self._host = host or socket.gethostname()
        self._now = now
        self._library = library
        self._streams: OrderedDict[str, _Outlets] = OrderedDict()
        self._pushed_s = -math.inf  # monotonic

    def open(self) -> None:
        """Load the library.

        Raises:
            FeedError: If it is not installed, or cannot be loaded.
        """
        if self._library is None:
            self._library = load_pylsl()

    def send(self, message: Message) -> None:
        """Push what the message says; LSL's threads deliver it.

        Raises:
            FeedError: If LSL refuses to make an outlet.
        """
        try:
            self._send(message)
        except (RuntimeError, OSError) as error:
            raise FeedError(f"cannot publish through LSL: {error}; leave out --lsl to go without") from error

    def attend(self) -> float | None:
        """None: LSL has threads of its own."""
        return None

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives."""
        return None

    def close(self) -> None:
        """Let what was pushed last leave, for 0.2 s at most and only where somebody listens, and close every outlet."""
        left_s = self._pushed_s + LAST_S - time.monotonic()
        if left_s > 0 and any(outlets.heard() for outlets in self._streams.values()):
            time.sleep(left_s)
        self._streams.clear()  # pylsl closes an outlet with its last reference

    def _send(self, message: Message) -> None:
        if isinstance(message, Session):
            self._begin(message)
            return
        outlets = self._streams.get(message.stream)
        if outlets is None:  # no session yet: neither labels nor clock are known
            return
        match message:
            case Estimate():
                outlets.push(message)
            case Event():
                outlets.mark(message.t, f"{message.kind}{_about(message.person)}: {message.text}")
            case Status():
                return
        self._pushed_s = time.monotonic()

    def _begin(self, session: Session) -> None:
        known = self._streams.pop(session.stream, None)
        if known is not None and known.session == session:
            self._streams[session.stream] = known  # a repeat
            return
        del known  # the old outlets close before new ones of the same ids open
        since_s = (self._now() - datetime.fromisoformat(session.origin)).total_seconds()
        zero_s = self._library.local_clock() - since_s
        self._streams[session.stream] = _Outlets(self._library, session, f"emocast/{self._host}", zero_s)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)


@dataclass
class _Outlets:
    """The outlets of one stream; `zero_s` is t = 0 of its media on LSL's clock."""

    library: Any
    session: Session
    prefix: str
    zero_s: float
    persons: OrderedDict[int, tuple[float, Any]] = field(default_factory=OrderedDict)
    verdicts: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        described = self._describe(f"emocast {self.session.stream}", MARKERS, "Markers", [MARKERS], 0.0, "string")
        self.markers = self.library.StreamOutlet(described, 0, BUFFER_S)

    def push(self, estimate: Estimate) -> None:
        """One sample of a person's outlet, and a marker where the verdict is another than before."""
        person = estimate.person
        _, outlet = self.persons.pop(person, (0.0, None))
        if outlet is None:
            outlet = self._open(person)
        self.persons[person] = (estimate.t, outlet)
        self._forget(estimate.t)
        age_ms = math.nan if estimate.age_ms is None else estimate.age_ms
        posterior = [estimate.posterior[label] for label in self.session.labels]
        end_s = estimate.span[1]
        outlet.push_sample([*posterior, estimate.confidence, estimate.t, age_ms], self.zero_s + end_s)
        verdict = estimate.label or f"({estimate.reason})"
        if self.verdicts.get(person) != verdict:
            self.verdicts[person] = verdict
            self.mark(end_s, f"label{_about(person)}: {verdict}")

    def mark(self, t_s: float, text: str) -> None:
        """One marker at a media time."""
        self.markers.push_sample([_utf8(text)], self.zero_s + t_s)

    def heard(self) -> bool:
        """Whether any inlet is connected."""
        outlets = [self.markers, *(outlet for _, outlet in self.persons.values())]
        return any(outlet.have_consumers() for outlet in outlets)

    def _open(self, person: int) -> Any:
        labels = [*self.session.labels, *(name for name, _ in AFTER_LABELS)]
        units = ["probability"] * len(self.session.labels) + [unit for _, unit in AFTER_LABELS]
        name = f"emocast {self.session.stream} {person}"
        info = self._describe(name, str(person), "Expression", labels, 1 / self.session.hop_s, "double64")
        info.set_channel_units(units)
        description = info.desc()
        synchronization = description.append_child("synchronization")
        synchronization.append_child_value("offset_mean", "0")
        synchronization.append_child_value("can_drop_samples", "true")
        lag = description.append_child("lag")
        for name, value in (("channel", "age_ms"), ("unit", "milliseconds"), ("from", "capture"), ("to", "publish")):
            lag.append_child_value(name, value)
        return self.library.StreamOutlet(info, 0, BUFFER_S)

    def _describe(self, name: str, last: str, kind: str, labels: list[str], rate_hz: float, form: str) -> Any:
        source_id = f"{self.prefix}/{self.session.stream}/{last}"
        info = self.library.StreamInfo(_utf8(name), kind, len(labels), rate_hz, form, _utf8(source_id))
        info.set_channel_labels([_utf8(label) for label in labels])
        description = info.desc()
        description.append_child_value("manufacturer", "emocast")
        about = description.append_child("emocast")
        for field_name in ("session", "origin", "recogniser", "bundle", "engine", "alignment", "source", "notice"):
            about.append_child_value(field_name, _utf8(getattr(self.session, field_name)))
        return info

    def _forget(self, t_s: float) -> None:
        gone = [person for person, (seen_s, _) in self.persons.items() if seen_s < t_s - GONE_S]
        surplus = max(0, len(self.persons) - len(gone) - MAX_PERSONS)
        for person in [*gone, *[p for p in self.persons if p not in gone][:surplus]]:
            del self.persons[person]
            self.verdicts.pop(person, None)


def load_pylsl() -> Any:
    """The module `pylsl`.

    Raises:
        FeedError: If it is not installed, or its liblsl does not load.
    """
    try:
        return importlib.import_module("pylsl")
    except (ImportError, RuntimeError, OSError) as error:  # the last two: without liblsl
        reason = str(error).splitlines()[0]
        raise FeedError(f"--lsl needs pylsl ({reason}); install it with: pip install 'emocast[lsl]'") from error


def _about(person: int | None) -> str:
    return "" if person is None else f"/{person}"


def _utf8(text: str) -> str:
    # the name of a file that is no UTF-8 must not end the feed
    return text.encode(errors="replace").decode()
