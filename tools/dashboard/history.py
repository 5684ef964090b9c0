"""What the dashboard remembers of a feed: the newest messages of each stream, and an hour that grows coarser with age.

Everything is bounded, whatever a publisher sends: streams, persons, events, and rows of each.
"""

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stream.feed.messages import Estimate, Event, Message, Session, Status, decode
from stream.feed.security import FeedError
from stream.recording.files import files_of

MAX_STREAMS, MAX_PERSONS, MAX_EVENTS = 8, 16, 100
FINE_ROWS = 1200  # kept as they came: five minutes at four estimates a second
COARSE_S = 2.0  # media seconds between rows that are older than that
KEPT_S = 3600.0  # media seconds after which a row is forgotten
BACK_S = 1.0  # media seconds; a stream that goes back by more than this began anew without saying so
HOP_S = 0.25  # media seconds from one estimate to the next until a session message says so
FILE_ROWS = 200_000  # of a file: fourteen hours at four estimates a second

MODALITIES = ("face", "voice")
_log = logging.getLogger("emocast")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of each series is kept.

    Attributes:
        fine_rows: The newest rows, kept as they came.
        kept_s: Media seconds after which a row is forgotten.
    """

    fine_rows: int = FINE_ROWS
    kept_s: float = KEPT_S


LIVE = Limits()
WHOLE_FILE = Limits(fine_rows=FILE_ROWS, kept_s=float("inf"))


class Series:
    """Rows of one thing over media time, as JSON: the newest as they came, older ones at most one each `COARSE_S`."""

    def __init__(self, limits: Limits = LIVE) -> None:
        self._limits = limits
        self._fine: deque[tuple[float, bytes]] = deque()
        self._coarse: deque[tuple[float, bytes]] = deque()

    def add(self, t: float, row: bytes) -> None:
        """Take the newest row."""
        if self._fine and t < self._fine[-1][0] - BACK_S:
            self._fine.clear()
            self._coarse.clear()
        self._fine.append((t, row))
        if len(self._fine) > self._limits.fine_rows:
            old = self._fine.popleft()
            if not self._coarse or old[0] >= self._coarse[-1][0] + COARSE_S:
                self._coarse.append(old)
        while self._coarse and self._coarse[0][0] < t - self._limits.kept_s:
            self._coarse.popleft()

    def rows(self) -> list[msgspec.Raw]:
        """All rows, oldest first."""
        return [msgspec.Raw(row) for kept in (self._coarse, self._fine) for _, row in kept]


@dataclass
class _Lane:
    labels: tuple[str, ...]
    series: Series


@dataclass
class _StreamHistory:
    limits: Limits
    session: Session | None = None
    status: Status | None = None
    statuses: Series = field(default_factory=Series)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    lanes: OrderedDict[int, _Lane] = field(default_factory=OrderedDict)

    def take(self, message: Message) -> None:
        match message:
            case Session():
                self.session = message
            case Status():
                self.status = message
                self.statuses.add(message.t, msgspec.json.encode(_status_row(message)))
            case Event():
                self.events.append(message)
            case Estimate():
                self._take_estimate(message)

    def _take_estimate(self, estimate: Estimate) -> None:
        hop_s = HOP_S if self.session is None else self.session.hop_s
        labels = tuple(estimate.posterior)
        lane = self.lanes.get(estimate.person)
        if lane is None or lane.labels != labels:
            lane = self.lanes[estimate.person] = _Lane(labels, Series(self.limits))
        lane.series.add(estimate.t, msgspec.json.encode(_estimate_row(estimate, hop_s)))
        self.lanes.move_to_end(estimate.person)
        if len(self.lanes) > MAX_PERSONS:
            self.lanes.popitem(last=False)

    def snapshot(self) -> dict[str, object]:
        return {
            "session": self.session,
            "status": self.status,
            "statuses": self.statuses.rows(),
            "events": list(self.events),
            "lanes": [
                {"person": person, "labels": lane.labels, "rows": lane.series.rows()}
                for person, lane in sorted(self.lanes.items())
            ],
        }


class History:
    """The state of all streams of a feed, for a page that opens now."""

    def __init__(self, limits: Limits = LIVE) -> None:
        self._limits = limits
        self._streams: OrderedDict[str, _StreamHistory] = OrderedDict()

    def take(self, message: Message) -> None:
        """Take note of a message; a session that differs from the one before starts its stream anew."""
        kept = self._streams.get(message.stream)
        restarted = (
            kept is not None
            and isinstance(message, Session)
            and kept.session is not None
            and kept.session.session != message.session
        )
        if kept is None or restarted:
            kept = self._streams[message.stream] = _StreamHistory(self._limits, statuses=Series(self._limits))
        self._streams.move_to_end(message.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        kept.take(message)

    def snapshot(self) -> dict[str, dict[str, object]]:
        """By stream: `session` and `status` as they came, `statuses`, `events`, and `lanes` of persons with their rows.

        A row of a lane is `[t, label, reason, confidence, age_ms, [face, voice], hop_s, p...]`, the probabilities in
        the order of the lane's `labels`; a row of `statuses` is `[t, frame_rate_hz, hop_rate_hz, age p50, age p99,
        engine p50, drops, drift_ppm]`.
        """
        return {name: kept.snapshot() for name, kept in sorted(self._streams.items())}


def _estimate_row(estimate: Estimate, hop_s: float) -> list[object]:
    weights = [round(estimate.modalities.get(name, 0.0), 3) for name in MODALITIES]
    age_ms = None if estimate.age_ms is None else round(estimate.age_ms, 1)
    chances = [round(chance, 4) for chance in estimate.posterior.values()]
    return [
        estimate.t,
        estimate.label,
        estimate.reason,
        round(estimate.confidence, 4),
        age_ms,
        weights,
        hop_s,
        *chances,
    ]


def _status_row(status: Status) -> list[object]:
    age = status.age_ms or (None, None)
    engine = status.engine_ms[0] if status.engine_ms else None
    rates = (status.frame_rate_hz, status.hop_rate_hz)
    return [status.t, *rates, *age, engine, sum(status.drops.values()), status.drift_ppm]


def read_file(path: Path) -> History:
    """All that a file of messages says: a `.jsonl`, or a recording by the name of its `.mkv`.

    Lines that are no messages are left out, and told of: the last one was torn where its writer was killed.

    Raises:
        FeedError: If the file cannot be read or holds no message.
    """
    feed = files_of(path).feed if path.suffix == ".mkv" else path
    history, n_messages, n_others = History(WHOLE_FILE), 0, 0
    try:
        with feed.open("rb") as lines:
            for line in lines:
                if (message := _message(line)) is not None:
                    history.take(message)
                    n_messages += 1
                else:
                    n_others += bool(line.strip())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FeedError(
            f"cannot open {feed}: {reason}; name a .jsonl of messages (--out), or the .mkv of a recording (--record), "
            "which has its feed beside it"
        ) from error
    if not n_messages:
        raise FeedError(
            f"expected messages of the feed in {feed}, one a line, got none; make one with --out or --record"
        )
    if n_others:
        _log.warning(
            "left out what is no message of the feed in %s: %d of %d lines", feed, n_others, n_messages + n_others
        )
    return history


def _message(line: bytes) -> Message | None:
    try:
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
