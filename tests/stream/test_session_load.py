"""A live line that is given more than it can do: the newest counts, what is left out is told, and it recovers.

Time is simulated and belongs to the source: it turns the clock to its next item, or first to when scoring or perception
has done, and only once all that was due at the time has been taken up. So nothing here depends on the machine's speed.

Scoring that takes T cannot publish anything younger than T, and publishes every T at best: the hop rate adapts to T.
What is published is then as old as T and what was missing until the next segment, which is less than 2 T and, as long
as T is shorter than a hop, less than two hops.
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.select import Engines
from stream.config import SessionConfig, window_scheme
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Message
from stream.lane import N_SEEN, Lane
from stream.perception.seen import PersonEvent
from stream.records import RATE_HZ, AudioBlock, FrameFaces, SourceInfo, VideoFrame
from stream.session import Session
from stream.source import complete_ns
from stream.sources.chaos_load import Slowed
from stream.windows import NS_PER_S, sample_index
from tests.sessions import Item, MadeSource, frames, in_order, sound
from tests.small_bundle import small_bundle

pytestmark = pytest.mark.timeout(90)

GREY = np.full((8, 8, 3), 90, np.uint8)
HOP_S = 0.25
SCHEME = {"segment_s": HOP_S, "audio_s": 0.1, "jitter_s": 0.01, "n_segments": 4, "alignments": ["causal"]}
BLOCK_S, JITTER_S = 0.032, 0.01
WAIT_S = 30.0  # of real time, for what must come


class TurnedClock:
    """Stands still until the source waits; then it goes to whatever is to happen first. Work takes time by `spend`.

    Attributes:
        settled: Whether all that is due has been taken up, given who is at work; set by who knows.
    """

    def __init__(self) -> None:
        self._now_ns = 11
        self._changed = threading.Condition()
        self._until_ns: dict[str, int] = {}  # who is at work, and when that is done
        self._over = False
        self.settled: Callable[[set[str]], bool] = lambda busy: True

    def now_ns(self) -> int:
        with self._changed:
            return self._now_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """The source's thread: all else goes on until then."""
        while not stop.is_set():
            self._await_settled(stop)
            with self._changed:
                first = min(self._until_ns, key=lambda who: self._until_ns[who], default=None)
                if first is None or self._until_ns[first] > t_ns:
                    self._now_ns = max(self._now_ns, t_ns)
                    return
                self._now_ns = self._until_ns.pop(first)
                self._changed.notify_all()

    def _await_settled(self, stop: threading.Event) -> None:
        deadline = time.monotonic() + WAIT_S
        while not stop.is_set():
            with self._changed:
                if self.settled(set(self._until_ns)):
                    return
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.0005)

    def spend(self, who: str, seconds: float) -> None:
        """Any other thread: be at work for so long."""
        if seconds <= 0:
            return
        with self._changed:
            until_ns = self._now_ns + round(seconds * NS_PER_S)
            if self._over:
                self._now_ns = until_ns
                return
            self._until_ns[who] = until_ns
            self._changed.wait_for(lambda: who not in self._until_ns)

    def end(self) -> None:
        """Nobody turns the clock any more but those who work."""
        with self._changed:
            self._over = True
            self._now_ns = max([self._now_ns, *self._until_ns.values()])
            self._until_ns.clear()
            self._changed.notify_all()


class Blind:
    """Perception that sees nobody, and takes its time for it."""

    def __init__(self, take_time: Callable[[], None]) -> None:
        self._take_time = take_time
        self.looked_ns: list[int] = []

    def process(self, frame: VideoFrame) -> list[FrameFaces | None]:
        self._take_time()
        self.looked_ns.append(frame.t_ns)
        return [FrameFaces(t_ns=frame.t_ns, faces=())]

    def events(self) -> list[PersonEvent]:
        return []


class Line(Session):
    """A session with a perception of ours."""

    blind: Blind

    def _perception(self, info: SourceInfo) -> AbstractContextManager[Blind | None]:  # type: ignore[override]
        return nullcontext(self.blind if info.has_video else None)


@dataclass
class Loads:
    """Seconds that a hop's scoring, and a look at a frame, take from a session time on."""

    score: list[tuple[float, float]] = field(default_factory=list)
    look: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    at_s: float
    end_s: float
    age_s: float


class Run(MadeSource):
    """A live session on a source that hands out each item when it is complete, and what came of it.

    Attributes:
        published: Estimates, while the source went on.
        totals: The session's.
    """

    def __init__(self, bundle: Bundle, items: list[Item], loads: Loads) -> None:
        super().__init__(items)
        self.paced = True
        self._clock, self._loads = TurnedClock(), loads
        self._clock.settled = self._settled
        self.published: list[Published] = []
        self._n_frames = self._n_dropped = self._audio_end = 0
        self._zero_ns, self._is_over = self._clock.now_ns(), False
        scheme, lane = window_scheme(bundle, None), Lane(bundle, SessionConfig())
        self._n_seen = N_SEEN + math.ceil(lane.awaited_ns / NS_PER_S * lane.rate_hz)
        n = round(complete_ns(items[-1]) / scheme.segment_ns) + 1
        bounds = [scheme.segment_bounds(k) for k in range(n)]
        self._needs = [(max(scheme.draw(0, "a", k, b, []).audio_end_ns, b[1]), b[1]) for k, b in enumerate(bounds)]
        with Engines("onnx") as engines:
            # Of a voice alone one graph of all is called, and is to take the time of all.
            slowed = Slowed(engines, 1.0, lambda seconds: self._clock.spend("scoring", self._now(loads.score)))
            self._line = Line(
                self,
                [bundle],
                self._publish,
                SessionConfig(),
                delivery=Delivery.DROP_OLDEST,
                clock=self._clock,
                engines=slowed,
                witness=self._witness,
            )
            self._line.blind = Blind(lambda: self._clock.spend("perception", self._now(loads.look)))
            self.totals = self._line.run()

    def _now(self, load: list[tuple[float, float]]) -> float:
        at_s = (self._clock.now_ns() - self._zero_ns) / NS_PER_S
        return next((seconds for since_s, seconds in reversed(load) if at_s >= since_s), 0.0)

    def __iter__(self) -> Iterator[Item]:
        for item in super().__iter__():
            self._clock.wait_until(self._zero_ns + complete_ns(item), self.stopped)  # type: ignore[arg-type]
            if isinstance(item, AudioBlock):
                self._audio_end = item.first + len(item.samples)
            else:
                self._n_frames += 1
            yield item
        self._clock.wait_until(self._clock.now_ns(), self.stopped)
        self._is_over = True
        self._clock.end()

    def _settled(self, busy: set[str]) -> bool:
        looked_ns = self._line.blind.looked_ns
        n_done = self._line.meters.total("hops") + self._line.meters.total("left out")
        if self.info.has_video:
            taken_ns = self._needs[n_done + ("scoring" in busy) - 1][1] if n_done or "scoring" in busy else 0
            is_full = sum(t_ns >= taken_ns for t_ns in looked_ns) > self._n_seen  # perception waits for scoring
            if not ("perception" in busy or is_full) and len(looked_ns) + self._n_dropped < self._n_frames:
                return False
        seen_ns = max(looked_ns, default=0) if self.info.has_video else self._needs[-1][1]
        heard = [sample_index(need_ns, RATE_HZ) <= self._audio_end for need_ns, _ in self._needs]
        n_due = sum(h and end_ns <= seen_ns for h, (_, end_ns) in zip(heard, self._needs, strict=True))
        return "scoring" in busy or n_done >= n_due

    @contextmanager
    def _witness(self, info: SourceInfo) -> "Iterator[Run]":
        yield self

    def take(self, item: Item) -> None: ...

    def note(self, kind: str, value: int) -> None:
        self._n_dropped += kind == "dropped_frame"

    def _publish(self, message: Message) -> None:
        if isinstance(message, Estimate) and not self._is_over:
            assert message.age_ms is not None
            at_s = (self._clock.now_ns() - self._zero_ns) / NS_PER_S
            self.published.append(Published(at_s, message.span[1], message.age_ms / 1e3))

    @property
    def left_out(self) -> float:
        return self.totals.get("dropped_hops", 0.0)

    def ages_s(self, since_s: float = 0.0) -> dict[float, float]:
        """By the end of the segment: the age of each estimate published from a time on."""
        return {p.end_s: p.age_s for p in self.published if p.at_s >= since_s}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small"), scheme=SCHEME)


@pytest.mark.parametrize("hops", [0.0, 0.1, 0.5, 0.9])
def test_scoring_that_takes_less_than_a_hop_leaves_nothing_out_and_no_age_reaches_two_hops(
    bundle: Bundle, hops: float
) -> None:
    run = Run(bundle, list(sound(8.0)), Loads(score=[(0.0, hops * HOP_S)]))
    ages = list(run.ages_s().values())
    assert len(ages) >= 30
    assert run.totals["hops"] == 32
    assert run.left_out == 0
    assert hops * HOP_S <= min(ages[1:])  # in the first segment there is too little sound to score
    assert max(ages) <= hops * HOP_S + BLOCK_S + 2 * JITTER_S < 2 * HOP_S


@pytest.mark.parametrize("hops", [1.5, 2.0, 10.0])
def test_slow_scoring_keeps_the_newest_counts_what_it_leaves_out_and_recovers(bundle: Bundle, hops: float) -> None:
    slow_s, until_s, items = hops * HOP_S, 12.0, list(sound(20.0))
    easy = Run(bundle, items, Loads())
    run = Run(bundle, items, Loads(score=[(0.0, slow_s), (until_s, 0.0)]))
    loaded = [p for p in run.published if p.at_s < until_s][1:]
    assert len(loaded) >= (until_s - HOP_S) // (slow_s + HOP_S)
    for p in loaded:
        assert slow_s <= p.age_s <= slow_s + HOP_S + BLOCK_S + 2 * JITTER_S
        assert p.age_s < 2 * slow_s
    rests = [round(b.at_s - a.at_s, 6) for a, b in itertools.pairwise(loaded)]
    assert slow_s <= min(rests) <= max(rests) <= slow_s + HOP_S + BLOCK_S + 2 * JITTER_S  # the hop rate adapts
    # All that was due was scored, or left out and counted.
    assert run.totals["hops"] + run.left_out == easy.totals["hops"] == 80
    assert easy.left_out == 0 < run.left_out
    # The load goes: what was begun under it is done by until_s + slow_s, and then all is as ever.
    after = run.ages_s(until_s + slow_s + HOP_S)
    assert after == {end_s: age_s for end_s, age_s in easy.ages_s().items() if end_s >= min(after)}
    assert len(after) >= (20.0 - until_s - slow_s) / HOP_S - 3
    assert run.totals["dropped_audio_samples"] == 0


def test_ten_times_too_slow_the_published_age_stays_under_two_of_the_hops_that_are_published(bundle: Bundle) -> None:
    run = Run(bundle, list(sound(20.0)), Loads(score=[(0.0, 10 * HOP_S)]))
    assert len(run.published) >= 7
    for before, p in itertools.pairwise(run.published[1:]):
        assert p.age_s < 2 * (p.end_s - before.end_s)
    assert run.totals["hops"] + run.left_out == 80
    assert run.left_out >= 60


def test_slow_perception_drops_frames_not_sound_and_recovers(bundle: Bundle) -> None:
    look_s, until_s, frame_s = 0.4, 10.0, 0.04
    items = in_order(sound(16.0), frames(np.arange(0, 16, frame_s).tolist(), GREY))
    run = Run(bundle, items, Loads(look=[(0.0, look_s), (until_s, 0.0)]))
    assert run.totals["frames"] == 400
    assert run.totals["dropped_frames"] == 400 - run.totals["analysed_frames"] > 200
    loaded = [p.age_s for p in run.published if 1.0 <= p.at_s < until_s]
    # A segment is over once a later picture was seen: one is looked at, and the next waited as long as four take.
    assert max(loaded) <= 2 * look_s + 5 * frame_s + JITTER_S
    assert len(loaded) > 0.8 * 9 / look_s
    after = run.ages_s(until_s + 2 * look_s)
    assert max(after.values()) <= frame_s + BLOCK_S + 2 * JITTER_S
    assert len(after) >= (16 - until_s - 2 * look_s) / HOP_S - 2
    assert run.totals["hops"] + run.left_out == 64
    assert run.totals["dropped_audio_samples"] == 0


def test_scoring_that_stands_still_for_twenty_seconds_loses_no_sound_and_recovers(bundle: Bundle) -> None:
    items = in_order(sound(40.0), frames(np.arange(0, 40, 0.04).tolist(), GREY))
    run = Run(bundle, items, Loads(score=[(0.0, 0.0), (5.0, 20.0), (6.0, 0.0)]))
    stood = [p for p in run.published if p.age_s > HOP_S]
    assert max(p.at_s for p in stood) < 26.0
    after = run.ages_s(26.0)
    assert max(after.values()) <= 0.04 + BLOCK_S + 2 * JITTER_S
    assert len(after) >= 14 / HOP_S - 2
    assert run.totals["hops"] + run.left_out == 160
    assert run.left_out > 60
    assert run.totals["dropped_audio_samples"] == 0
    assert run.totals["dropped_frames"] > 0
