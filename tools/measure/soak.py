"""Whether the line's memory grows: hours of media through one session, made of one short clip over and over.

`python -m tools.measure.soak --minutes 60` prints the memory of the process every few minutes of media, and exits with
1 where it grew by more than the limit after the first quarter of the run.
"""

import argparse
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from engines.bundle import load
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Message
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from stream.records import RATE_HZ, AudioBlock, SourceHealth, SourceInfo, VideoFrame
from stream.session import Session
from stream.sources.media import MediaSource, Speed
from stream.windows import NS_PER_S
from tools.replaying.demo import clip_path
from tools.replaying.demo_clip import make

WARM_UP = 0.25  # of the run: caches and allocators fill first
LIMIT_MB = 20.0
MIB = 2**20


class Loop:
    """A source that hands out one clip's decoded media again and again, on a timeline that goes on, at full speed.

    Args:
        path: The clip; its media are held in memory.
        n_rounds: How often.
    """

    paced = False

    def __init__(self, path: Path, n_rounds: int) -> None:
        self._n_rounds = n_rounds
        self._stopped = False
        with MediaSource(str(path), speed=Speed.MAX) as source:
            self.info: SourceInfo = replace(source.info, name="soak")
            self._items = [item for item in source if isinstance(item, VideoFrame | AudioBlock)]
        end_ns = max(_end_ns(item) for item in self._items)
        self.round_ns = -(-end_ns // NS_PER_S) * NS_PER_S  # whole seconds are whole samples

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def __iter__(self) -> Iterator[VideoFrame | AudioBlock]:
        for k in range(self._n_rounds):
            for item in self._items:
                if self._stopped:
                    return
                yield _later(item, k * self.round_ns)

    def stop(self) -> None:
        """End at the next item."""
        self._stopped = True

    def health(self) -> SourceHealth:
        """There is no device."""
        return SourceHealth()


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What a run used.

    Attributes:
        media_s: Seconds of media analysed.
        wall_s: Seconds that it took.
        grown_mb: Largest memory after the warm-up less the memory at its end, in MiB.
        totals: The session's.
    """

    media_s: float
    wall_s: float
    grown_mb: float
    totals: dict[str, float]


def soak(path: Path, *, minutes: float, report_s: float = 120.0, show: Callable[[str], None] = print) -> Soaked:
    """Run minutes of media through session and feed, and measure.

    Args:
        path: The clip.
        minutes: Of media, rounded up to whole rounds of the clip.
        report_s: Seconds of media between two measurements.
        show: Takes a line for each.
    """
    loop = Loop(path, n_rounds=1)
    n_rounds = max(1, round(minutes * 60 * NS_PER_S / loop.round_ns))
    loop = Loop(path, n_rounds=n_rounds)
    media_s = n_rounds * loop.round_ns / NS_PER_S
    began, measured = time.monotonic(), list[tuple[float, float]]()
    with Feed([ZmqSink("tcp://127.0.0.1:*")], delivery=Delivery.WAIT) as feed:

        def publish(message: Message) -> None:
            feed.publish(message)
            if isinstance(message, Estimate) and message.t >= len(measured) * report_s:
                measured.append((message.t, resident_mb()))
                show(f"{message.t:8.0f} s of media  {time.monotonic() - began:6.0f} s  {measured[-1][1]:7.1f} MiB")

        totals = Session(loop, [load("default")], publish, SessionConfig()).run()
    measured.append((media_s, resident_mb()))
    warm = [mb for t_s, mb in measured if t_s >= WARM_UP * media_s]
    wall_s = time.monotonic() - began
    return Soaked(media_s=media_s, wall_s=wall_s, grown_mb=max(warm) - warm[0], totals=totals)


def resident_mb() -> float:
    """Memory of this process that is resident, in MiB, without what is free and only not given back yet.

    Raises:
        OSError: Where there is no /proc.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed; that is no growth
    if trim is not None:
        trim(0)
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) * 1024 / MIB


def main(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of media")
    parser.add_argument("--clip", type=Path, help="the clip; by default that of emocast demo")
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB, help="growth after the warm-up that is too much")
    options = parser.parse_args(arguments)
    clip = options.clip or clip_path()
    if not clip.is_file() and options.clip is None:
        clip.parent.mkdir(parents=True, exist_ok=True)
        make(clip)
    got = soak(clip, minutes=options.minutes, report_s=max(1.0, options.minutes * 60 / 30))
    print(
        f"{got.media_s:.0f} s of media in {got.wall_s:.0f} s: {got.totals['frames']:.0f} frames, "
        f"{got.totals['estimates']:.0f} estimates; memory grew by {got.grown_mb:.1f} MiB after the warm-up"
    )
    return int(got.grown_mb > options.limit_mb)


def _end_ns(item: VideoFrame | AudioBlock) -> int:
    if isinstance(item, VideoFrame):
        return item.t_ns + 1  # times are [start, end)
    return -(-(item.first + len(item.samples)) * NS_PER_S // RATE_HZ)


def _later(item: VideoFrame | AudioBlock, by_ns: int) -> VideoFrame | AudioBlock:
    if isinstance(item, VideoFrame):
        return replace(item, t_ns=item.t_ns + by_ns)
    return replace(item, first=item.first + by_ns * RATE_HZ // NS_PER_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
