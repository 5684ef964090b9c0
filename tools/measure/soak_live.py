"""Whether a live line keeps up for hours: devices through session, feed and a subscriber, and what grows meanwhile.

`python -m tools.measure.soak_live --minutes 30` runs a simulated camera and microphone, whose clock drifts, on a clock
that `--speed` makes faster; `--camera URL --microphone NAME` runs real ones. It prints memory, threads, open files and
drops as it goes, then the age of what a subscriber received, from capture into its hands. It exits with 1 where
something grew after the first quarter of the run, or was dropped.

Ages are told at speed 1 alone: on a faster clock every step of the line would count as so much longer.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import numpy as np

from engines.bundle import load
from stream.clock import Clock
from stream.config import LiveConfig, SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Status
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from stream.session import Session
from stream.source import Source
from stream.sources.chaos import ChaosSource
from stream.sources.chaos_plan import parse
from tools.measure.bench import machine
from tools.measure.simulated_devices import FastClock, simulated
from tools.measure.soak import LIMIT_MB, WARM_UP, resident_mb
from tools.replaying.demo import clip_path
from tools.replaying.demo_clip import make


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the process held at a time of the session.

    Attributes:
        t_s: Session time.
        resident_mb: Memory, in MiB.
        threads: Threads.
        handles: Open files and sockets.
    """

    t_s: float
    resident_mb: float
    threads: int
    handles: int


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What a run amounted to.

    Attributes:
        samples: As it went.
        drops: All that was left out or dropped, by name; without those of nought.
        overruns: Blocks of sound that the microphone lost.
        lost: Messages that the subscriber missed.
        drift_ppm: Of the microphone's clock, at the end.
        ages_ms: p50 and p99 from capture to the subscriber; None where the clock was not the machine's.
        totals: The session's.
    """

    samples: list[Sample]
    drops: dict[str, int]
    overruns: int
    lost: int
    drift_ppm: float | None
    ages_ms: tuple[float, float] | None
    totals: dict[str, float]

    def growth(self) -> tuple[float, int, int]:
        """Most memory (MiB), threads and handles after the warm-up, less what there was when it ended."""
        warm = [s for s in self.samples if s.t_s >= WARM_UP * self.samples[-1].t_s] or self.samples
        return (
            max(s.resident_mb for s in warm) - warm[0].resident_mb,
            max(s.threads for s in warm) - warm[0].threads,
            max(s.handles for s in warm) - warm[0].handles,
        )


class Listener:
    """A subscriber in a thread of its own, as a robot's is, that measures how old what it receives is."""

    def __init__(self, address: str) -> None:
        self.ages_ms: list[float] = []
        self.status: Status | None = None
        self.lost = 0
        self._address, self._ready = address, threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.join(10)

    def _listen(self) -> None:
        with Subscriber(self._address) as subscriber:
            self._ready.set()
            while (message := subscriber.receive(60.0)) is not None:
                received_s = time.time()
                match message:
                    case Estimate() if message.age_ms is not None:
                        # `stamp` has milliseconds: half of one is the mean of what it cut off.
                        travelled_ms = (received_s - datetime.fromisoformat(message.stamp).timestamp()) * 1e3 - 0.5
                        self.ages_ms.append(message.age_ms + max(0.0, travelled_ms))
                    case Status():
                        self.status = message
                    case Event(kind="end"):
                        break
            self.lost = sum(subscriber.n_lost.values())


def soak(
    source: Source,
    clock: Clock,
    *,
    minutes: float,
    speed: float = 1.0,
    session: SessionConfig | None = None,
    show: Callable[[str], None] = print,
) -> Soaked:
    """Run a live session for minutes of its own time, and measure.

    Args:
        source: The devices, as one source; it is stopped when the time is over.
        clock: The one they stamp by.
        minutes: Of session time.
        speed: How fast that clock runs.
        session: How to analyse.
        show: Takes a line for each measurement.
    """
    config, samples, end_s = session or SessionConfig(), list[Sample](), minutes * 60
    sink = ZmqSink("tcp://127.0.0.1:*")
    with ExitStack() as life:
        feed = life.enter_context(Feed([sink], delivery=Delivery.DROP_OLDEST))
        listener = life.enter_context(Listener(sink.address))

        def publish(message: Message) -> None:
            feed.publish(message)
            if isinstance(message, Status) and message.t >= len(samples) * end_s / 30:
                samples.append(_sample(message.t))
                show(_line(samples[-1], message))
            if message.t >= end_s:
                source.stop()

        bundles = [load(model) for model in config.model]
        line = Session(source, bundles, publish, config, delivery=Delivery.DROP_OLDEST, clock=clock)
        totals = line.run()
        drops = {name: int(n) for name, n in totals.items() if name.startswith("dropped_") and n}
        if feed.n_dropped:
            drops["feed"] = feed.n_dropped
    ages = np.percentile(listener.ages_ms, [50, 99]) if listener.ages_ms and speed == 1 else None
    health = source.health()
    return Soaked(
        samples=samples,
        drops=drops,
        overruns=health.overruns,
        lost=listener.lost,
        drift_ppm=health.drift_ppm,
        ages_ms=None if ages is None else (float(ages[0]), float(ages[1])),
        totals=totals,
    )


def _sample(t_s: float) -> Sample:
    handles = len(os.listdir("/proc/self/fd"))
    return Sample(t_s=t_s, resident_mb=resident_mb(), threads=threading.active_count(), handles=handles)


def _line(sample: Sample, status: Status) -> str:
    return (
        f"{sample.t_s:8.0f} s  {sample.resident_mb:7.1f} MiB  {sample.threads} threads  {sample.handles} handles  "
        f"{status.hop_rate_hz:.1f} hops/s  drops {sum(status.drops.values())}"
    )


def report(got: Soaked) -> list[str]:
    """What a run amounted to, in lines for a person."""
    grown_mb, threads, handles = got.growth()
    ages = "not measured: the clock was not the machine's"
    if got.ages_ms is not None:
        ages = f"p50 {got.ages_ms[0]:.0f} ms, p99 {got.ages_ms[1]:.0f} ms"
    return [
        f"machine: {machine()}",
        f"session: {got.totals['media_s']:.0f} s, {got.totals['frames']:.0f} frames, {got.totals['hops']:.0f} hops",
        f"growth after the warm-up: {grown_mb:.1f} MiB, {threads} threads, {handles} handles",
        f"dropped: {got.drops or 'nothing'}; overruns: {got.overruns}; messages that the subscriber missed: {got.lost}",
        f"drift: {'unknown' if got.drift_ppm is None else f'{got.drift_ppm:.1f} ppm'}",
        f"age from capture to subscriber: {ages}",
    ]


def main(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure.soak_live", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of session time")
    parser.add_argument("--camera", help="a real one: index, name or URL; both are simulated where none is given")
    parser.add_argument("--microphone", help="a real one: index or name")
    parser.add_argument("--speed", type=float, default=1.0, help="of the clock, where devices are simulated")
    parser.add_argument("--chaos", help="faults to inject; what they drop is told, and is no failure")
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB, help="growth after the warm-up that is too much")
    options = parser.parse_args(arguments)
    real = options.camera is not None or options.microphone is not None
    if real and options.speed != 1:
        parser.error("expected --speed 1 with real devices: they run at their own")
    source: Source
    if real:
        from tools.capture.live import live_source

        source = live_source(LiveConfig(camera=options.camera or "none", microphone=options.microphone or "none"))
        clock: Clock = source.clock
    else:
        clip = clip_path()
        if not clip.is_file():
            clip.parent.mkdir(parents=True, exist_ok=True)
            make(clip)
        clock = FastClock(options.speed)
        source = simulated(clip, clock)
    if options.chaos:
        source = ChaosSource(source, parse(options.chaos), clock=clock)
    got = soak(source, clock, minutes=options.minutes, speed=options.speed)
    print("\n".join(report(got)))
    grown_mb, threads, handles = got.growth()
    dropped = bool(got.drops or got.overruns or got.lost) and not options.chaos
    return int(grown_mb > options.limit_mb or threads > 0 or handles > 0 or dropped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
