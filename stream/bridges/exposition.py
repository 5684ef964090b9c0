"""What the feed says of itself, in the text exposition format 0.0.4 of Prometheus."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from stream.feed.late_joiners import MAX_STREAMS
from stream.feed.messages import Estimate, Event, Message, Session, Status

HELP = {  # name: type, text
    "session_info": ("gauge", "1; the session that runs, in its labels."),
    "estimates_total": ("counter", "Estimates published, by label; those that abstain are counted apart."),
    "abstentions_total": ("counter", "Estimates without a label, by reason."),
    "events_total": ("counter", "Events, by kind."),
    "frame_rate_hz": ("gauge", "Video frames a second that arrived from the source."),
    "analysed_rate_hz": ("gauge", "Video frames a second that perception analysed."),
    "hop_rate_hz": ("gauge", "Hops a second that were scored."),
    "persons": ("gauge", "Persons tracked now."),
    "drops_total": ("counter", "What each queue dropped."),
    "overruns_total": ("counter", "Audio blocks that the device lost."),
    "audio_gap_seconds_total": ("counter", "Sound that was never captured."),
    "engine_seconds": ("gauge", "Time to score one hop, by quantile."),
    "age_seconds": ("gauge", "Capture to publish, by quantile."),
    "drift_ppm": ("gauge", "Drift of the microphone's clock."),
    "drift_residual_seconds": ("gauge", "How far the microphone's times lie around the line fitted through them."),
    "status_timestamp_seconds": ("gauge", "Wall clock of the last status: old where the line stands still."),
}

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]  # name, labels, value


@dataclass
class _Stream:
    session: Session | None = None
    status: Status | None = None
    labels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)


class Metrics:
    """Counters and gauges of the streams of a feed. Any thread may call."""

    def __init__(self) -> None:
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, message: Message) -> None:
        """Count a message. What a run counts starts anew with each session, as a counter may."""
        with self._lock:
            kept = self._streams.pop(message.stream, None) or _Stream()
            if isinstance(message, Session) and kept.session is not None and kept.session.session != message.session:
                kept = _Stream()
            self._streams[message.stream] = kept
            if len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)
            match message:
                case Session():
                    kept.session = message
                    for label in message.labels:  # one that never came is 0, not absent
                        kept.labels.setdefault(label, 0)
                case Status():
                    kept.status = message
                case Event():
                    kept.events[message.kind] += 1
                case Estimate(label=None):
                    kept.reasons[str(message.reason)] += 1
                case Estimate(label=str(label)):
                    kept.labels[label] += 1

    def text(self) -> str:
        """All of them in the exposition format."""
        with self._lock:
            samples = [sample for name, kept in self._streams.items() for sample in _samples(name, kept)]
        lines = []
        for name, (kind, about) in HELP.items():
            of_this = [sample for sample in samples if sample[0] == name]
            if of_this:
                lines += [f"# HELP emocast_{name} {about}", f"# TYPE emocast_{name} {kind}"]
                lines += [f"emocast_{name}{_braced(labels)} {value!r}" for _, labels, value in of_this]
        return "".join(f"{line}\n" for line in lines)


def _samples(stream: str, kept: _Stream) -> Iterator[Sample]:
    one = (("stream", stream),)
    if (session := kept.session) is not None:
        names = ("session", "recogniser", "bundle", "alignment")
        engine = session.engine if kept.status is None or not kept.status.engine else kept.status.engine
        yield "session_info", (*one, *((name, getattr(session, name)) for name in names), ("engine", engine)), 1
    counters = (("estimates_total", "label", kept.labels), ("abstentions_total", "reason", kept.reasons))
    for name, label_name, counts in (*counters, ("events_total", "kind", kept.events)):
        for value, n in counts.items():
            yield name, (*one, (label_name, value)), n
    if kept.status is not None:
        yield from _of_status(one, kept.status)


def _of_status(one: Labels, status: Status) -> Iterator[Sample]:
    for name in ("frame_rate_hz", "analysed_rate_hz", "hop_rate_hz", "persons"):
        yield name, one, getattr(status, name)
    for queue, n in status.drops.items():
        yield "drops_total", (*one, ("queue", queue)), n
    yield "overruns_total", one, status.overruns
    yield "audio_gap_seconds_total", one, status.audio_gap_s
    for name, both in (("engine_seconds", status.engine_ms), ("age_seconds", status.age_ms)):
        for quantile, value_ms in zip(("0.5", "0.99"), both or (), strict=False):
            yield name, (*one, ("quantile", quantile)), value_ms / 1000
    if status.drift_ppm is not None:
        yield "drift_ppm", one, status.drift_ppm
    if status.drift_residual_ms is not None:
        yield "drift_residual_seconds", one, status.drift_residual_ms / 1000
    if status.stamp:
        yield "status_timestamp_seconds", one, datetime.fromisoformat(status.stamp).timestamp()


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
