"""One stream, from its source to the feed: `Session.run` is the line, in the order in which media flow through it."""

import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import msgspec

from engines.bundle import Bundle
from engines.select import Engines
from stream.account import Account
from stream.aggregation import Aggregate
from stream.assembly import Hop
from stream.clock import Clock, MonotonicClock
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.ensemble import Ensemble
from stream.feed.messages import Message
from stream.feed.publisher import utc_now
from stream.hop_choice import HopChoice, LeftOut
from stream.lane import BLOCK_NS, Lane
from stream.meters import Meters
from stream.notes import end_message, estimate_message, event_message, seconds, session_message
from stream.perception.seen import PersonEvent
from stream.perception.views import Perception
from stream.records import RATE_HZ, AudioBlock, Score, SourceEvent, SourceInfo, VideoFrame
from stream.rings import FrameRing
from stream.scoring import WindowScorer
from stream.source import Source, Witness, complete_ns
from stream.windows import sample_index
from stream.works import Works

STATUS_S = 1.0
N_FRAMES = 64  # captured frames that wait for perception
N_LIVE_FRAMES = 4  # in a live session: what waits longer is older than what is published may be
HOLD_S = 0.2  # between two looks at the clock while a replay stands still
STALL_S = 0.05  # without a new frame for so long, perception passes on how far the source has come


def engines_of(config: SessionConfig) -> Engines:
    """The engines that a session's settings ask for. Raises EngineError if there is no such backend."""
    return Engines(config.engine, threads=config.threads, device=config.device)


class Session:
    """A stream being analysed: its rings, its threads, and the line between them.

    Args:
        source: Where the media come from.
        bundles: The recogniser, or several to be fused; the first sets the hops.
        publish: Takes each message in order; may block to slow the line down, as a replay's feed does.
        config: How to analyse.
        delivery: `wait` loses nothing (replay); `drop_oldest` keeps the newest (live).
        clock: Paces nothing here; the age of a published estimate is read from it.
        engines: What runs the graphs, where several sessions share it; otherwise the session has its own.
        witness: Makes, of the open source, what sees the items and what is left out; closed when all has ended.
        left_out: Segments that are not scored, as a live session decided that is now replayed; None decides anew.
        scored: Sees what the first recogniser gave each person at each hop, uncorrected; on the scoring thread.

    Attributes:
        choice: Which hops are scored, and whether the stream stands still; any thread may change that.
        meters: What the session measures of itself.
    """

    def __init__(
        self,
        source: Source,
        bundles: Sequence[Bundle],
        publish: Callable[[Message], None],
        config: SessionConfig,
        *,
        delivery: Delivery = Delivery.WAIT,
        clock: Clock | None = None,
        engines: Engines | None = None,
        witness: Callable[[SourceInfo], AbstractContextManager[Witness]] | None = None,
        left_out: Collection[int] | None = None,
        scored: Callable[[Sequence[Score]], None] | None = None,
    ) -> None:
        self._source, self._config = source, config
        self._publish_message, self._delivery = publish, delivery
        self._clock = clock or MonotonicClock()
        self._ensemble = Ensemble(bundles, config.fusion_weights)
        self._lanes = [Lane(bundle, config) for bundle in bundles]
        self._lane = self._lanes[0]
        self._engines, self._owns_engines = engines or engines_of(config), engines is None
        for bundle in bundles:  # an engine that cannot be had is refused before anything is opened
            self._engines.choose(bundle)
        self.choice = HopChoice(self._lane.scheme.segment_ns, delivery=delivery, plan=left_out)
        self._make_witness, self._scored = witness, scored
        self._began_ns, self._reached_ns = self._clock.now_ns(), 0
        self._witness: Witness | None = None
        self._source_events: deque[SourceEvent] = deque()
        self._told: deque[SourceEvent] = deque()
        self.meters = Meters()

    def run(self) -> dict[str, float]:
        """Analyse until the source ends, publishing as it goes; returns the stream's totals.

        The calling thread scores. An interrupt ends the stream in order: its `end` is published, then it is raised.

        Raises:
            SourceError, EngineError, NetworkError: If a part of the line cannot be opened.
        """
        with self._source as source, ExitStack() as life, self._perception(source.info) as perception:
            if self._owns_engines:
                life.enter_context(self._engines)
            scorers = [life.enter_context(lane.scorer(self._engines)) for lane in self._lanes]
            self._witness = life.enter_context(self._make_witness(source.info)) if self._make_witness else None
            self._prepare(source.info)
            self._announce(source.info)
            works = Works(stop=source.stop, abort=self._abort, interrupted=lambda: self._end("interrupted"))
            with works.running(self._capture, lambda: self._perceive(perception)):
                for hop in self._hops():
                    if (why := self.choice.why_not(hop.segment, self._lane.is_due)) is not None:
                        self._leave_out(hop, why)
                    else:
                        self._conclude(hop, self._score(scorers, hop))
            return self._end()

    def tell(self, event: SourceEvent) -> None:
        """Publish something that happened beside the line. Any thread may call, once the session runs."""
        self._told.append(event)

    def stop(self) -> None:
        """End the stream in order, as when its source ends. Any thread may call."""
        self._source.stop()
        self.choice.release()

    def now_ns(self) -> int:
        """Media time of now. Any thread may call."""
        return self._clock.now_ns() - self._began_ns if self._source.paced else self._reached_ns

    # --- source -> rings, on the capture thread ---

    def _capture(self) -> None:
        self._began_ns = self._clock.now_ns()
        for item in self._source:
            if self._witness is not None:
                self._witness.take(item)
            match item:
                case VideoFrame() if self._frames is not None:
                    self._advance_audio(item.t_ns - BLOCK_NS)
                    self._frames.write(item)
                    self.meters.count("frames")
                case AudioBlock():
                    self._advance_video(complete_ns(item))
                    for ring in self._audio:
                        ring.write(item)
                case SourceEvent():
                    self._source_events.append(item)
        if self._frames is not None:
            self._frames.close()
        for ring in self._audio:
            ring.close()

    # Items come in order of their end, so each says how far the other track has come: sound that starts late, or
    # pauses, must not hold up the picture, nor a picture the sound. It is said before a write, which may wait for it.
    def _advance_audio(self, t_ns: int) -> None:
        for ring in self._audio:
            ring.advance(sample_index(t_ns, RATE_HZ))

    def _advance_video(self, t_ns: int) -> None:
        if self._frames is not None:
            self._frames.advance(t_ns)

    # --- rings -> perception, on the perception thread ---

    def _perception(self, info: SourceInfo) -> AbstractContextManager[Perception | None]:
        # A recording of sound alone needs no detector, and none of the networks it may have to fetch.
        return Perception([lane.view() for lane in self._lanes]) if info.has_video else nullcontext()

    def _perceive(self, perception: Perception | None) -> None:
        if self._frames is None or perception is None:
            return
        logs = [lane.seen for lane in self._lanes if lane.seen is not None]
        waiting: list[list[PersonEvent]] = [[] for _ in logs]  # until the next frame that the recogniser takes
        while not self._frames.ended:
            # Read before the frame: whatever the ring knew then, no earlier frame can come after it.
            known_ns = self._frames.advanced_ns
            frame = self._frames.read(STALL_S)
            if frame is None:
                for log in logs:
                    log.advance(known_ns)
                continue
            views = perception.process(frame)
            if any(view is not None for view in views):
                self.meters.count("analysed")
            came = perception.events()
            for events in waiting:
                events.extend(came)
            for log, view, events in zip(logs, views, waiting, strict=True):
                if view is None:
                    log.pass_over(frame.t_ns)
                    continue
                log.append(view, tuple(events))
                events.clear()
        for log in logs:
            log.close()

    # --- windows -> scoring -> aggregation -> feed, on the calling thread ---

    def _hops(self) -> Iterator[Hop]:
        while (hop := self._lane.next_hop(self._report_if_due)) is not None:
            while self.choice.holds(HOLD_S):
                self._report_if_due()
            yield hop

    def _leave_out(self, hop: Hop, why: LeftOut) -> None:
        end_ns = self._lane.scheme.segment_bounds(hop.segment)[1]
        for lane in self._lanes[1:]:
            lane.catch_up(end_ns, None, self._report_if_due)
        self._lane.leave_out(hop)
        self.meters.count(why)
        if self._witness is not None:
            self._witness.note("left_out_segment", hop.segment)
        self._tell(hop, end_ns)

    def _score(self, scorers: Sequence[WindowScorer], hop: Hop) -> list[Aggregate]:
        others, before_ms = self._lanes[1:], sum(lane.engine_ms for lane in self._lanes)
        aggregates = self._lane.conclude(hop, scorers[0])
        if self._scored is not None:
            self._scored([aggregate.scores[-1] for aggregate in aggregates])
        for lane, scorer in zip(others, scorers[1:], strict=True):
            lane.catch_up(self._lane.scheme.segment_bounds(hop.segment)[1], scorer, self._report_if_due)
        self.meters.time("engine", sum(lane.engine_ms for lane in self._lanes) - before_ms)
        return [self._ensemble.fuse([own, *(lane.newest.get(own.person) for lane in others)]) for own in aggregates]

    def _conclude(self, hop: Hop, aggregates: list[Aggregate]) -> None:
        self._tell(hop, self._lane.scheme.segment_bounds(hop.segment)[1])
        age_ms = None
        if self._source.paced:
            age_ms = (self._clock.now_ns() - self._began_ns - hop.needed_ns) / 1e6
            self.meters.time("age", age_ms)
        for aggregate in aggregates:
            self._publish_message(estimate_message(aggregate, self._name, self._ensemble, self._lane.scheme, age_ms))
            self.meters.count("abstained" if aggregate.reason else "labelled")
        self.meters.count("hops")
        self._report_if_due()

    def _tell(self, hop: Hop, end_ns: int) -> None:
        self._reached_ns = end_ns
        self._tell_source_events(end_ns)
        self._tell_engine()
        self._tell_hop()
        for event in hop.events:
            self._publish_message(event_message(event, self._name))

    # --- the life of a session ---

    def _prepare(self, info: SourceInfo) -> None:
        self._name = info.name
        n_frames = N_FRAMES if self._delivery is Delivery.WAIT else N_LIVE_FRAMES
        note = partial(self._witness.note, "dropped_frame") if self._witness is not None else lambda t_ns: None
        self._frames = FrameRing(n_frames, delivery=self._delivery, dropped=note) if info.has_video else None
        awaited_ns = max(lane.awaited_ns for lane in self._lanes)
        for lane in self._lanes:
            lane.prepare(info, delivery=self._delivery, awaited_ns=awaited_ns)
        self._audio = [lane.audio for lane in self._lanes if lane.audio is not None]
        self._account = Account(self._name, self._source, self.meters, self._frames, self._lanes)
        self._began_ns = self._clock.now_ns()
        self._reached_ns = 0

    def _announce(self, info: SourceInfo) -> None:
        self._runs_on = self._engines.state(self._lane.bundle)
        self._opening = session_message(
            info,
            self._ensemble,
            self._config,
            self._lane.scheme,
            engine=self._runs_on[0],
            session=uuid.uuid4().hex,
            origin=utc_now(),
        )
        self._publish_message(self._opening)
        self._report()

    def _abort(self) -> None:
        self.choice.release()
        for ring in (self._frames, *(ring for lane in self._lanes for ring in (lane.seen, lane.audio))):
            if ring is not None:
                ring.abort()

    def _tell_source_events(self, until_ns: int | None) -> None:
        self._tell_told()
        while self._source_events and (until_ns is None or self._source_events[0].t_ns < until_ns):
            self._publish_message(event_message(self._source_events.popleft(), self._name))

    def _tell_told(self) -> None:
        while self._told:
            self._publish_message(event_message(self._told.popleft(), self._name))

    def _tell_engine(self) -> None:
        before, self._runs_on = self._runs_on, self._engines.state(self._lane.bundle)
        if before != self._runs_on:
            changed = SourceEvent(t_ns=self._reached_ns, kind="engine", text=": ".join(self._runs_on))
            self._publish_message(event_message(changed, self._name))

    def _tell_hop(self) -> None:
        hop_s = self.choice.hop_s
        if hop_s != self._opening.hop_s:
            self._opening = msgspec.structs.replace(self._opening, t=seconds(self._reached_ns), hop_s=hop_s)
            self._publish_message(self._opening)
            changed = SourceEvent(t_ns=self._reached_ns, kind="hop", text=f"an estimate each {hop_s:g} s")
            self._publish_message(event_message(changed, self._name))

    def _report_if_due(self) -> None:
        self._tell_told()
        if self._delivery is Delivery.DROP_OLDEST:
            self._tell_source_events(None)  # a lost device must not wait for the hop that it holds up
            self._tell_hop()
        if self.meters.due(STATUS_S):
            self._report()

    def _report(self) -> None:
        self._publish_message(self._account.status(self._reached_ns, self._runs_on))

    def _end(self, why: str = "the source has ended") -> dict[str, float]:
        self._tell_source_events(None)
        totals = self._account.totals(self._reached_ns)
        self._publish_message(end_message(self._name, self._reached_ns, why, totals))
        return totals
