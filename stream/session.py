"""One stream, from its source to the feed: `Session.run` is the line, in the order in which media flow through it."""

import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from types import TracebackType
from typing import Protocol, Self

from engines.bundle import Bundle
from engines.select import choose
from stream.aggregation import Aggregate, Aggregator
from stream.assembly import Hop, WindowAssembler
from stream.clock import Clock, MonotonicClock
from stream.config import SessionConfig, window_scheme
from stream.delivery import Aborted, Delivery
from stream.feed.messages import Message
from stream.feed.publisher import utc_now
from stream.meters import Meters
from stream.notes import end_message, estimate_message, event_message, session_message, status_message
from stream.perception.faces import FacePerception
from stream.perception.seen import SeenFaces
from stream.records import RATE_HZ, AudioBlock, Score, SourceEvent, SourceInfo, VideoFrame
from stream.rings import AudioRing, FrameRing
from stream.scoring import Scorer
from stream.windows import NS_PER_S, sample_index

STATUS_S = 1.0
AUDIO_S = 8  # of sound held beyond what the next window asks for, while video is analysed
BLOCK_NS = NS_PER_S // 10  # no source hands out longer audio blocks
N_FRAMES = 64  # captured frames that wait for perception
N_SEEN = 64  # analysed frames that wait for their segment, beyond those that come until its audio has come
STALL_S = 0.05  # without a new frame for so long, perception passes on how far the source has come


class Source(Protocol):
    """Where media come from: opened by `with`, then iterated once by the capture thread, in order of time."""

    @property
    def info(self) -> SourceInfo: ...
    @property
    def paced(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def __iter__(self) -> Iterator[VideoFrame | AudioBlock | SourceEvent]: ...
    def stop(self) -> None: ...


class Session:
    """A stream being analysed: its rings, its threads, and the line between them.

    Args:
        source: Where the media come from.
        bundle: The recogniser.
        publish: Takes each message in order; may block to slow the line down, as a replay's feed does.
        config: How to analyse.
        delivery: `wait` loses nothing (replay); `drop_oldest` keeps the newest (live).
        clock: Paces nothing here; the age of a published estimate is read from it.
    """

    def __init__(
        self,
        source: Source,
        bundle: Bundle,
        publish: Callable[[Message], None],
        config: SessionConfig,
        *,
        delivery: Delivery = Delivery.WAIT,
        clock: Clock | None = None,
    ) -> None:
        self._source, self._bundle, self._config = source, bundle, config
        self._publish_message, self._delivery = publish, delivery
        self._clock = clock or MonotonicClock()
        self._scheme = window_scheme(bundle, config.alignment)
        self._backend, _ = choose(config.engine)
        self._meters = Meters()
        self._faults: list[BaseException] = []

    def run(self) -> dict[str, float]:
        """Analyse until the source ends, publishing as it goes; returns the stream's totals.

        The calling thread scores. An interrupt ends the stream in order: its `end` is published, then it is raised.

        Raises:
            SourceError, EngineError, NetworkError: If a part of the line cannot be opened.
        """
        threads = self._config.threads
        with (
            self._source as source,
            Scorer(self._bundle, backend=self._backend, threads=threads) as scorer,
            self._perception(source.info) as perception,
        ):
            self._prepare(source.info)
            self._announce(source.info, scorer)
            with self._running(self._capture, lambda: self._perceive(perception)):
                for hop in self._hops():
                    scores = self._score(scorer, hop)
                    self._conclude(hop, self._aggregator.add(scores))
            return self._end()

    # --- source -> rings, on the capture thread ---

    def _capture(self) -> None:
        self._began_ns = self._clock.now_ns()
        for item in self._source:
            match item:
                case VideoFrame() if self._frames is not None:
                    self._advance_audio(item.t_ns - BLOCK_NS)
                    self._frames.write(item)
                    self._meters.count("frames")
                case AudioBlock() if self._audio is not None:
                    self._advance_video((item.first + len(item.samples)) * NS_PER_S // RATE_HZ)
                    self._audio.write(item)
                case SourceEvent():
                    self._source_events.append(item)
        for ring in (self._frames, self._audio):
            if ring is not None:
                ring.close()

    # Items come in order of their end, so each says how far the other track has come: sound that starts late, or
    # pauses, must not hold up the picture, nor a picture the sound. It is said before a write, which may wait for it.
    def _advance_audio(self, t_ns: int) -> None:
        if self._audio is not None:
            self._audio.advance(sample_index(t_ns, RATE_HZ))

    def _advance_video(self, t_ns: int) -> None:
        if self._frames is not None:
            self._frames.advance(t_ns)

    # --- rings -> perception, on the perception thread ---

    def _perception(self, info: SourceInfo) -> AbstractContextManager[FacePerception | None]:
        # A recording of sound alone needs no detector, and none of the networks it may have to fetch.
        if not info.has_video:
            return nullcontext()
        return FacePerception(self._bundle.manifest.face, analysis_hz=self._config.analysis_hz)

    def _perceive(self, perception: FacePerception | None) -> None:
        if self._frames is None or self._seen is None or perception is None:
            return
        while not self._frames.ended:
            # Read before the frame: whatever the ring knew then, no earlier frame can come after it.
            known_ns = self._frames.advanced_ns
            frame = self._frames.read(STALL_S)
            if frame is None:
                self._seen.advance(known_ns)
                continue
            faces = perception.process(frame)
            if faces is None:
                self._seen.pass_over(frame.t_ns)
                continue
            self._meters.count("analysed")
            self._seen.append(faces, tuple(perception.events()))
        self._seen.close()

    # --- windows -> scoring -> aggregation -> feed, on the calling thread ---

    def _hops(self) -> Iterator[Hop]:
        for segment in count():
            hop = self._assembler.next_hop(segment, self._report_if_due)
            if hop is None:
                return
            yield hop

    def _score(self, scorer: Scorer, hop: Hop) -> list[Score]:
        scores = scorer.score(hop.windows)
        self._meters.time("engine", scorer.last_ms)
        return scores

    def _conclude(self, hop: Hop, aggregates: list[Aggregate]) -> None:
        self._reached_ns = self._scheme.segment_bounds(hop.segment)[1]
        self._tell_source_events(self._reached_ns)
        for event in hop.events:
            self._publish_message(event_message(event, self._name))
            if event.kind == "face_lost":
                self._aggregator.forget(event.person)
        age_ms = None
        if self._source.paced:
            age_ms = (self._clock.now_ns() - self._began_ns - hop.needed_ns) / 1e6
            self._meters.time("age", age_ms)
        for aggregate in aggregates:
            self._publish_message(estimate_message(aggregate, self._name, self._bundle, self._scheme, age_ms))
            self._meters.count("abstained" if aggregate.reason else "labelled")
        self._meters.count("hops")
        self._report_if_due()

    # --- the life of a session ---

    def _prepare(self, info: SourceInfo) -> None:
        manifest, scheme = self._bundle.manifest, self._scheme
        self._name = info.name
        # What one hop needs must fit, or writer and reader would wait for each other.
        awaited_s = (scheme.segment_ns + scheme.lookahead_ns + BLOCK_NS) / NS_PER_S
        n_seen = N_SEEN + math.ceil(awaited_s * self._config.analysis_hz)
        audio_s = AUDIO_S + math.ceil(awaited_s + scheme.audio_ns / NS_PER_S)
        self._frames = FrameRing(N_FRAMES, delivery=self._delivery) if info.has_video else None
        self._seen = SeenFaces(n_seen, delivery=self._delivery) if info.has_video else None
        self._audio = AudioRing(audio_s, delivery=self._delivery) if info.has_audio else None
        self._source_events: deque[SourceEvent] = deque()
        self._assembler = WindowAssembler(
            scheme=scheme,
            seed=self._config.seed,
            stream=info.name,
            seen=self._seen,
            audio=self._audio,
            spec=manifest.audio,
        )
        self._aggregator = Aggregator(
            n_labels=len(manifest.labels),
            n_segments=scheme.n_segments,
            fusion=manifest.fusion,
            temperature=manifest.temperature,
            min_confidence=manifest.min_confidence,
            has_video=info.has_video,
        )
        self._began_ns = self._clock.now_ns()
        self._reached_ns = 0

    def _announce(self, info: SourceInfo, scorer: Scorer) -> None:
        opening = session_message(
            info,
            self._bundle,
            self._config,
            self._scheme,
            engine=scorer.backend,
            session=uuid.uuid4().hex,
            origin=utc_now(),
        )
        self._publish_message(opening)
        self._report()

    @contextmanager
    def _running(self, *works: Callable[[], None]) -> Iterator[None]:
        # Whatever ends one part ends the others: a fault in a thread aborts the rings, and so wakes this one.
        threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        except Aborted:
            pass  # the fault that caused it is raised below
        except KeyboardInterrupt:
            self._stop(threads)
            self._end("interrupted")
            raise
        finally:
            self._stop(threads)
        if self._faults:
            fault = self._faults[0]
            raise fault from fault.__cause__  # not from the Aborted that it led to

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Aborted:
            pass  # somebody else asked for the end
        except BaseException as error:
            self._faults.append(error)
            self._abort()

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._source.stop()
        self._abort()
        for thread in threads:
            thread.join()

    def _abort(self) -> None:
        for ring in (self._frames, self._seen, self._audio):
            if ring is not None:
                ring.abort()

    def _tell_source_events(self, until_ns: int | None) -> None:
        while self._source_events and (until_ns is None or self._source_events[0].t_ns < until_ns):
            self._publish_message(event_message(self._source_events.popleft(), self._name))

    def _report_if_due(self) -> None:
        if self._meters.due(STATUS_S):
            self._report()

    def _report(self) -> None:
        status = status_message(
            self._name,
            self._reached_ns,
            self._meters,
            persons=len(self._assembler.present),
            drops=self._drops(),
            audio_gap_s=self._audio.n_gap / RATE_HZ if self._audio else 0.0,
        )
        self._publish_message(status)

    def _drops(self) -> dict[str, int]:
        queues = {"frames": self._frames, "faces": self._seen, "audio_samples": self._audio}
        return {name: ring.n_dropped for name, ring in queues.items() if ring is not None}

    def _end(self, why: str = "the source has ended") -> dict[str, float]:
        self._tell_source_events(None)
        totals = {
            "media_s": round(self._reached_ns / NS_PER_S, 6),
            "frames": self._meters.total("frames"),
            "analysed_frames": self._meters.total("analysed"),
            "hops": self._meters.total("hops"),
            "estimates": self._meters.total("labelled") + self._meters.total("abstained"),
            "abstained": self._meters.total("abstained"),
            **{f"dropped_{name}": n for name, n in self._drops().items()},
        }
        self._publish_message(end_message(self._name, self._reached_ns, why, totals))
        return totals
