"""`emocast bench`: how fast the line is here. Throughput on a file, and latency into a subscriber's hands."""

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from engines.bundle import load
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Status
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from stream.session import Session
from stream.sources.media import MediaSource, Speed


def throughput(clip: str, *, repeat: int, as_json: bool, session: SessionConfig) -> int:
    """Replay a clip at maximum speed, decoding to message, and print how much faster than real time that is.

    Opening is not counted: models are loaded once, streams run for hours. Runs with incremental scoring and runs that
    score each window whole take turns, so that what else the machine does falls on both. Returns the exit code.

    Raises:
        SourceError: If the clip cannot be read.
    """
    kinds = {kind: replace(session, scoring=kind) for kind in ("incremental", "whole")}
    for config in kinds.values():
        _timed_run(clip, config)
    runs = [{kind: _timed_run(clip, config) for kind, config in kinds.items()} for _ in range(repeat)]
    totals = runs[-1]["incremental"].totals
    report = {
        "clip": clip,
        "model": " ".join(session.model),
        "machine": machine(),
        "runs": repeat,
        "media_s": totals["media_s"],
        "frames": totals["frames"],
        "analysed_frames_per_media_s": totals["analysed_frames"] / totals["media_s"],
        "estimates": totals["estimates"],
        "times_real_time": _times_real_time([run["incremental"] for run in runs]),
        "times_real_time_whole_windows": _times_real_time([run["whole"] for run in runs]),
        "scoring_ms_per_hop": {kind: median(run[kind].engine_ms for run in runs) for kind in kinds},
        "dropped": sum(n for name, n in totals.items() if name.startswith("dropped_")),
    }
    _print(report, as_json)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Run:
    wall_s: float
    engine_ms: float  # mean of a hop
    totals: dict[str, float]


def _times_real_time(runs: Sequence[_Run]) -> dict[str, float]:
    speeds = [run.totals["media_s"] / run.wall_s for run in runs]
    return {"median": median(speeds), "least": min(speeds), "most": max(speeds)}


def _timed_run(clip: str, config: SessionConfig) -> _Run:
    began: list[float] = []

    def publish(message: Message) -> None:
        if not began:  # the session message: everything is open, the first frame is not decoded yet
            began.append(time.perf_counter())

    bundles = [load(model) for model in config.model]
    session = Session(MediaSource(clip, speed=Speed.MAX), bundles, publish, config)
    totals = session.run()
    return _Run(wall_s=time.perf_counter() - began[0], engine_ms=session.meters.mean("engine"), totals=totals)


def latency(clip: str, *, as_json: bool, session: SessionConfig) -> int:
    """Replay a clip at real-time speed to a subscriber in another thread, and print what the line added.

    `added_ms`: from the moment that a window's last media was due to its message decoded by the subscriber.
    `engine_ms`: scoring alone, within it. Returns the exit code.

    Raises:
        SourceError: If the clip cannot be read.
    """
    added: list[float] = []
    status: list[Status] = []
    sink = ZmqSink("tcp://127.0.0.1:*")
    with Feed([sink], delivery=Delivery.WAIT) as feed:
        listening = threading.Event()
        listener = threading.Thread(target=_listen, args=(sink.address, added, status, listening), daemon=True)
        listener.start()
        listening.wait()
        bundles = [load(model) for model in session.model]
        Session(MediaSource(clip, speed=Speed.REALTIME), bundles, feed.publish, session).run()
        listener.join(10)
    if not added:
        print("emocast: the subscriber received no estimate to measure", file=sys.stderr)
        return 1
    engine = next((s.engine_ms for s in reversed(status) if s.engine_ms), None)
    p50, p99 = np.percentile(added, [50, 99])
    report = {
        "clip": clip,
        "machine": machine(),
        "estimates": len(added),
        "added_ms": {"p50": float(p50), "p99": float(p99)},
        "engine_ms": {"p50": engine[0], "p99": engine[1]} if engine else None,
    }
    _print(report, as_json)
    return 0


def _listen(address: str, added: list[float], status: list[Status], listening: threading.Event) -> None:
    with Subscriber(address) as subscriber:
        listening.set()
        while (message := subscriber.receive(10.0)) is not None:
            received = time.time()
            match message:
                case Estimate() if message.age_ms is not None:
                    published = datetime.fromisoformat(message.stamp).timestamp()
                    # `stamp` has milliseconds: half of one is the mean of what it cut off.
                    added.append(message.age_ms + max(0.0, (received - published) * 1e3 - 0.5))
                case Status():
                    status.append(message)
                case Event(kind="end"):
                    return


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def _print(report: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, indent=1))
        return
    table = Table("what", "value", box=None, pad_edge=False)
    show: Callable[[object], str] = lambda v: f"{v:.2f}" if isinstance(v, float) else str(v)  # noqa: E731
    for key, value in report.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            table.add_row(f"{key} {part}".strip(), show(number))
    Console(soft_wrap=True).print(table)
