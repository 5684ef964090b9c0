"""A source with faults: devices that go, lost samples, a drifting clock, a line that stalls; replayed from a seed.

What is left out or changed depends on the items, the plan and the seed alone, so that the same file gives the same
estimates again. Faults that only hold items back, `stall` and `jitter`, do something on paced sources alone.
"""

import heapq
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from stream.clock import Clock, MonotonicClock
from stream.records import RATE_HZ, AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.source import Item, Source, complete_ns
from stream.sources.chaos_drift import Stretch
from stream.sources.chaos_plan import ChaosPlan, generator, random_word
from stream.windows import NS_PER_S

TILE = 512  # samples of noise drawn at once
BLOCK_NS = NS_PER_S // 10  # no source hands out longer audio blocks


class ChaosSource:
    """Another source, with what a plan lets go wrong; used as that one is.

    Args:
        source: What is to suffer.
        plan: What goes wrong, and when.
        seed: Of all that is drawn; the session's.
        clock: Of `stall` and `jitter`; the one that paces the source.
    """

    def __init__(self, source: Source, plan: ChaosPlan, *, seed: int = 0, clock: Clock | None = None) -> None:
        self._source, self._plan, self._seed = source, plan, seed
        self._clock = clock or MonotonicClock()
        self._stopped = threading.Event()
        self._n_overruns = 0
        self._past_ns = -1  # until when devices have been lost and found
        self._zero_ns: int | None = None  # clock time of session time 0, as far as items tell

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self._source.info

    @property
    def paced(self) -> bool:
        """As the source is."""
        return self._source.paced

    def __enter__(self) -> Self:
        """Open the source. Raises what that raises."""
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def stop(self) -> None:
        """End the iteration, and every wait at once. Any thread may call."""
        self._stopped.set()
        self._source.stop()

    def health(self) -> SourceHealth:
        """The source's own, and the overruns of the plan."""
        health = self._source.health()
        return replace(health, overruns=health.overruns + self._n_overruns)

    def __iter__(self) -> Iterator[Item]:
        """The items, once; first an event that says what goes wrong, so that nobody takes it for the world."""
        note = "; stall and jitter do nothing at full speed" if self._plan.waits and not self.paced else ""
        yield SourceEvent(t_ns=0, kind="chaos", text=f"faults are made: {self._plan.text}{note}")
        items: Iterable[Item] = self._source
        if self._plan.drift_ppm:
            items = drifting(items, self._plan.drift_ppm)
        for number, item in enumerate(items):
            if isinstance(item, SourceEvent):
                yield item
                continue
            due_ns = complete_ns(item)
            yield from self._changes(due_ns)
            if self.paced:
                self._hold(due_ns, number)
                if self._stopped.is_set():
                    return
            if isinstance(item, AudioBlock):
                yield from self._heard(item)
            elif not self._plan.spans("camera-loss", item.t_ns, item.t_ns + 1, self._seed):
                yield item

    def _changes(self, until_ns: int) -> list[SourceEvent]:
        # Told before the first item that is complete at or after their time, as the order of items asks for.
        after_ns, self._past_ns = self._past_ns, max(until_ns, self._past_ns)
        found = []
        there = {"camera": self.info.has_video, "microphone": self.info.has_audio}
        for role in (role for role, has in there.items() if has):
            for start_ns, end_ns in self._plan.spans(f"{role}-loss", after_ns, until_ns + 1, self._seed):
                found += [(start_ns, "device_lost", f"{role}: lost, as asked for by chaos")]
                found += [(end_ns, "device_back", f"{role}: back, as asked for by chaos")]
        return [SourceEvent(t_ns=t, kind=k, text=text) for t, k, text in sorted(found) if after_ns < t <= until_ns]

    def _heard(self, block: AudioBlock) -> list[AudioBlock]:
        end = block.first + len(block.samples)
        # By samples, not by blocks: however the sound is cut, the same of it is left out.
        lost = self._samples("microphone-loss", block.first, end)
        overrun = self._samples("overrun", block.first, end)
        self._n_overruns += sum(block.first < stop <= end for _, stop in overrun)
        samples = block.samples if self._plan.noise_db is None else self._noisy(block, self._plan.noise_db)
        kept, first = [], block.first
        for start, stop in [*sorted(lost + overrun), (end, end)]:
            if first < start:
                kept.append(AudioBlock(first=first, samples=samples[first - block.first : start - block.first]))
            first = max(first, stop)
        return kept

    def _samples(self, kind: str, first: int, end: int) -> list[tuple[int, int]]:
        start_ns, end_ns = first * NS_PER_S // RATE_HZ, -(-end * NS_PER_S // RATE_HZ)
        spans = self._plan.spans(kind, start_ns, end_ns + 1, self._seed)
        return [(start * RATE_HZ // NS_PER_S, stop * RATE_HZ // NS_PER_S) for start, stop in spans]

    def _noisy(self, block: AudioBlock, noise_db: float) -> np.ndarray:
        first_tile, last = block.first // TILE, block.first + len(block.samples)
        tiles = [
            generator(self._seed, "noise", k).standard_normal(TILE, np.float32)
            for k in range(first_tile, -(-last // TILE))
        ]
        at = block.first - first_tile * TILE
        noise = np.concatenate(tiles)[at : at + len(block.samples)]
        return np.asarray(np.clip(block.samples + np.float32(10 ** (noise_db / 20)) * noise, -1.0, 1.0))

    def _hold(self, due_ns: int, number: int) -> None:
        now_ns = self._clock.now_ns()
        if self._zero_ns is None:
            self._zero_ns = now_ns - due_ns
        late_ns = random_word(self._seed, "jitter", number) * (self._plan.jitter_ns + 1) >> 64
        until_ns = due_ns + late_ns
        # What comes during a stall, and what it made late, comes all at once when it ends.
        for _, end_ns in self._plan.spans("stall", due_ns, due_ns + 1, self._seed):
            until_ns = max(until_ns, end_ns)
        if self._zero_ns + until_ns > now_ns and until_ns > due_ns:
            self._clock.wait_until(self._zero_ns + until_ns, self._stopped)


def drifting(items: Iterable[Item], ppm: float) -> Iterator[Item]:
    """Items whose sound comes from a clock that runs `ppm` too fast and is taken for true: it is later and later.

    Order is by completion again: pictures, or sound, wait for the other as long as the drift has grown.
    """
    stretch, waiting, n = Stretch(ppm), list[tuple[int, bool, int, VideoFrame | AudioBlock]](), 0
    for item in items:
        if isinstance(item, SourceEvent):
            yield item
            continue
        raw_ns = complete_ns(item)
        blocks: list[AudioBlock] = []
        if isinstance(item, AudioBlock):
            blocks = stretch.push(item)
        elif raw_ns - stretch.raw_end * NS_PER_S // RATE_HZ > BLOCK_NS:
            blocks = stretch.flush()  # the sound has ended, or pauses: nothing that follows can join on to it
        came: list[VideoFrame | AudioBlock] = [*blocks, *([item] if isinstance(item, VideoFrame) else [])]
        for one in came:
            heapq.heappush(waiting, (complete_ns(one), isinstance(one, VideoFrame), n := n + 1, one))
        known_ns = min(raw_ns, stretch.known_ns(raw_ns))
        while waiting and waiting[0][0] <= known_ns:
            yield heapq.heappop(waiting)[3]
    for one in stretch.flush():
        heapq.heappush(waiting, (complete_ns(one), False, n := n + 1, one))
    while waiting:
        yield heapq.heappop(waiting)[3]
