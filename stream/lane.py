"""One recogniser within a session: its rings' far ends, its windows, its scores and its rolling sums."""

import math
from collections.abc import Callable, Sequence

from engines.bundle import Bundle
from engines.select import Engines
from stream.aggregation import Aggregate, Aggregator
from stream.assembly import Hop, WindowAssembler
from stream.baseline import read_baseline
from stream.clip_assembly import ClipAssembler
from stream.clip_scoring import ClipScorer
from stream.config import SessionConfig, window_scheme
from stream.delivery import Delivery
from stream.perception.seen import SeenFaces
from stream.perception.views import View
from stream.records import Score, SourceInfo, Window
from stream.rings import AudioRing
from stream.scoring import Scorer, WindowScorer
from stream.windows import NS_PER_S

LIVE_AUDIO_S = 60  # in a live session: longer than scoring may stand still without losing any
AUDIO_S = 8  # of sound held beyond what the next window asks for, while video is analysed
BLOCK_NS = NS_PER_S // 10  # no source hands out longer audio blocks
N_SEEN = 64  # analysed frames that wait for their segment, beyond those that come until its audio has come


class Lane:
    """A bundle at work on a stream.

    Args:
        bundle: The recogniser.
        config: How the session analyses.

    Attributes:
        seen: What perception has seen for it; None where the stream has no picture.
        audio: Its audio ring; None where the stream has no sound.
        newest: What it last concluded of each person.
        engine_ms: How long its engines took, since the stream began.

    Raises:
        ValueError: If the recogniser was not trained with the alignment asked for, or the baseline is not for it.
    """

    def __init__(self, bundle: Bundle, config: SessionConfig) -> None:
        self.bundle, self._config = bundle, config
        self.scheme = window_scheme(bundle, config.alignment)
        clip = bundle.manifest.clip
        self._baseline = None if config.baseline is None else read_baseline(config.baseline, bundle)
        self.rate_hz = config.analysis_hz if clip is None else clip.frame_hz
        self.seen: SeenFaces | None = None
        self.audio: AudioRing | None = None
        self.newest: dict[int, Aggregate] = {}
        self.engine_ms = 0.0
        self._next_segment = 0

    def view(self) -> View:
        """What it wants of each frame."""
        manifest = self.bundle.manifest
        return View(manifest.face, rate_hz=self.rate_hz, flow=manifest.flow, pose=manifest.pose)

    def scorer(self, engines: Engines) -> WindowScorer:
        """What scores its windows, to be used with `with`. Raises EngineError if a graph cannot be loaded."""
        incremental = self._config.scoring == "incremental"
        if self.bundle.manifest.clip is None:
            return Scorer(self.bundle, engines)
        return ClipScorer(self.bundle, engines, incremental=incremental)

    @property
    def awaited_ns(self) -> int:
        """The longest that media wait for the hop that they belong to."""
        return 2 * self.scheme.segment_ns + self.scheme.lookahead_ns + BLOCK_NS

    def prepare(self, info: SourceInfo, *, delivery: Delivery, awaited_ns: int) -> None:
        """Make what the stream needs; `awaited_ns` is the longest of all lanes, which wait for each other."""
        manifest, scheme = self.bundle.manifest, self.scheme
        # What one hop needs must fit, or writer and reader would wait for each other.
        awaited_s = awaited_ns / NS_PER_S
        held_s = scheme.audio_ns / NS_PER_S
        if manifest.clip is not None:
            held_s = max(held_s, manifest.clip.span_s + (manifest.clip.chunk_s or 0.0))
        n_seen = N_SEEN + math.ceil(awaited_s * self.rate_hz)
        # What perception has seen waits in live sessions, too: where scoring is behind, frames go before perception,
        # where that is told, and sound is kept until long after a stall that ends.
        self.seen = SeenFaces(n_seen, delivery=Delivery.WAIT) if info.has_video else None
        audio_s = (AUDIO_S if delivery is Delivery.WAIT else LIVE_AUDIO_S) + math.ceil(awaited_s + held_s)
        self.audio = AudioRing(audio_s, delivery=delivery) if info.has_audio else None
        self._assembler = self._make_assembler(info.name)
        self._aggregator = Aggregator(
            n_labels=len(manifest.labels),
            n_segments=scheme.n_segments,
            fusion=manifest.fusion,
            temperature=manifest.temperature,
            min_confidence=manifest.min_confidence,
            has_video=info.has_video,
            baseline=self._baseline,
        )
        self._next_segment = 0
        self.newest.clear()

    def _make_assembler(self, stream: str) -> WindowAssembler:
        manifest = self.bundle.manifest
        if manifest.clip is None:
            return WindowAssembler(
                scheme=self.scheme,
                seed=self._config.seed,
                stream=stream,
                seen=self.seen,
                audio=self.audio,
                spec=manifest.audio,
            )
        return ClipAssembler(
            scheme=self.scheme,
            seed=self._config.seed,
            stream=stream,
            seen=self.seen,
            audio=self.audio,
            spec=manifest.audio,
            clip=manifest.clip,
            attributes_voice="face" not in manifest.posteriors,
            stands_in=manifest.face.fallback == "frame",
        )

    @property
    def present(self) -> tuple[int, ...]:
        """Persons tracked now, ascending."""
        return self._assembler.present

    def next_hop(self, idle: Callable[[], None]) -> Hop | None:
        """The windows of the next segment, as `WindowAssembler.next_hop`."""
        hop = self._assembler.next_hop(self._next_segment, idle)
        self._next_segment += 1
        return hop

    def is_due(self, segment: int) -> bool:
        """Whether a later segment is complete already, as `WindowAssembler.is_due`."""
        return self._assembler.is_due(segment)

    def leave_out(self, hop: Hop) -> None:
        """Do not score a hop; who has left is forgotten all the same."""
        for event in hop.events:
            if event.kind == "face_lost":
                self._aggregator.forget(event.person)
                self.newest.pop(event.person, None)

    def conclude(self, hop: Hop, scorer: WindowScorer) -> list[Aggregate]:
        """Score a hop, and say what is known of each of its persons."""

        def score(windows: Sequence[Window]) -> list[Score]:
            scores = scorer.score(windows)
            self.engine_ms += scorer.last_ms
            return scores

        whole = self._config.scoring == "whole" and self.bundle.manifest.clip is None
        aggregates = self._aggregator.add(score(hop.windows), again=score if whole else None)
        self.leave_out(hop)
        self.newest.update({aggregate.person: aggregate for aggregate in aggregates})
        return aggregates

    def catch_up(self, end_ns: int, scorer: WindowScorer | None, idle: Callable[[], None]) -> None:
        """Score every hop that ends at `end_ns` or before; without a scorer, leave them out."""
        while self.scheme.segment_bounds(self._next_segment)[1] <= end_ns:
            hop = self.next_hop(idle)
            if hop is None:
                break
            if scorer is None:
                self.leave_out(hop)
            else:
                self.conclude(hop, scorer)
