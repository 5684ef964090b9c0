"""What many subscribers cost: `python -m tools.measure.feed_load [CLIP] [--subscribers 200] [--rounds 3]`.

A clip is replayed in real time, in turns to one subscriber and to many, of which one never reads and one process is
stopped by a signal. It prints the latency that the line added into the hands of the same one subscriber in both, and
what the many lost; then memory, while far more is published than the two that do not read can be kept. It exits with 1
where a subscriber that reads lost something, or the publisher's memory went on growing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from msgspec.structs import replace

from engines.bundle import Bundle, load
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Message, Status
from stream.feed.publisher import Feed
from stream.feed.sinks import SUBSCRIBER_QUEUE, ZmqSink
from stream.session import Session
from stream.sources.media import MediaSource, Speed
from tools.measure.bench import machine
from tools.measure.soak import resident_mb
from tools.replaying.demo import clip_path
from tools.replaying.demo_clip import make

READY = Status(
    stream="ready", seq=0, t=0.0, stamp="", frame_rate_hz=0.0, analysed_rate_hz=0.0, hop_rate_hz=0.0, persons=0,
    drops={}, overruns=0, audio_gap_s=0.0, engine_ms=None, age_ms=None, drift_ppm=None,
)  # fmt: skip
N_PROCESSES = 4  # that the many subscribers are spread over
N_MESSAGES, A_SECOND = 12 * SUBSCRIBER_QUEUE, 1_000.0  # published to those who do not read
GROWTH_MB = 8.0  # allowed once their queues are full


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One replay.

    Attributes:
        added_ms: What the line added, for each estimate that the measuring subscriber received.
        received: Messages that each subscriber that reads received.
        lost: Messages that each of them lost.
        resident_mb: Memory of the publisher at the end, in MiB.
    """

    added_ms: list[float]
    received: list[int]
    lost: list[int]
    resident_mb: float


def replayed(clip: str, bundles: Sequence[Bundle], n_subscribers: int) -> Turn:
    """Replay a clip in real time to so many subscribers; from three on, one never reads and one is stopped."""
    sink = ZmqSink("tcp://127.0.0.1:*")
    with ExitStack() as life:
        feed = life.enter_context(Feed([sink], delivery=Delivery.DROP_OLDEST))
        feed.publish(READY)
        measuring = life.enter_context(_readers(sink.address, 1))
        others = []
        if n_subscribers > 2:
            life.enter_context(_blocked(sink.address))
            shares = np.array_split(range(n_subscribers - 3), N_PROCESSES)
            others = [life.enter_context(_readers(sink.address, len(share))) for share in shares if len(share)]
        Session(
            MediaSource(clip, speed=Speed.REALTIME), bundles, feed.publish, SessionConfig(),
            delivery=Delivery.DROP_OLDEST,
        ).run()  # fmt: skip
        told = [json.loads(_pipe(readers.stdout).readline()) for readers in (measuring, *others)]
        return Turn(
            added_ms=told[0]["added_ms"][0],
            received=[n for one in told for n in one["received"]],
            lost=[n for one in told for n in one["lost"]],
            resident_mb=resident_mb(),
        )


def flooded(message: Message) -> tuple[list[float], list[int]]:
    """Memory after each twelfth of the messages, with one subscriber that never reads, one stopped and two that read.

    Returns:
        Memory in MiB, and the messages that each of the two lost.
    """
    sink, sizes = ZmqSink("tcp://127.0.0.1:*"), []
    with ExitStack() as life:
        feed = life.enter_context(Feed([sink], delivery=Delivery.WAIT))
        feed.publish(READY)
        readers = life.enter_context(_readers(sink.address, 2))
        life.enter_context(_blocked(sink.address))
        began_s = time.monotonic()
        for n in range(N_MESSAGES):
            time.sleep(max(0.0, began_s + n / A_SECOND - time.monotonic()))
            feed.publish(message)
            if (n + 1) % SUBSCRIBER_QUEUE == 0:
                sizes.append(resident_mb())
        feed.publish(replace(READY, stream="over"))
        return sizes, json.loads(_pipe(readers.stdout).readline())["lost"]


@contextmanager
def _readers(address: str, n: int) -> Iterator["subprocess.Popen[str]"]:
    with _process("read", address, str(n)) as started:
        yield started


@contextmanager
def _blocked(address: str) -> Iterator[None]:
    with _process("ignore", address, "1"), _process("read", address, "1") as stopped:
        stopped.send_signal(signal.SIGSTOP)
        yield


@contextmanager
def _process(what: str, address: str, n: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "tools.measure.feed_load_reader", what, address, n], stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            if _pipe(started.stdout).readline() != "ready\n":
                raise RuntimeError("a subscriber did not start")
            yield started
        finally:
            started.kill()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("expected a pipe")
    return stream


def _summary(turns: Sequence[Turn]) -> tuple[float, float]:
    p50, p99 = np.percentile([ms for turn in turns for ms in turn.added_ms], [50, 99])
    return float(p50), float(p99)


def report(turns: Sequence[tuple[Turn, Turn]], n_subscribers: int) -> list[str]:
    """The lines that tell of turns to one and to many."""
    one, many = [pair[0] for pair in turns], [pair[1] for pair in turns]
    lines = [f"{'subscribers':>12}  {'added p50':>9}  {'p99':>9}  {'lost by those who read':>22}  {'memory':>9}"]
    for n, kind in ((1, one), (n_subscribers, many)):
        p50, p99 = _summary(kind)
        n_lost, n_received = sum(sum(turn.lost) for turn in kind), sum(sum(turn.received) for turn in kind)
        lost, memory = f"{n_lost} of {n_received + n_lost}", f"{max(turn.resident_mb for turn in kind):.0f} MiB"
        lines.append(f"{n:>12}  {p50:>6.1f} ms  {p99:>6.1f} ms  {lost:>22}  {memory:>9}")
    ratios = [_summary([b])[1] / _summary([a])[1] for a, b in turns]
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    pooled = _summary(many)[1] / _summary(one)[1]
    return [*lines, f"p99 with {n_subscribers} / with one, round by round: {told}; over all rounds {pooled:.2f}"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", help="by default the clip of emocast demo")
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    if asked.subscribers < 4 or asked.rounds < 1:
        parser.error("expected 4 subscribers and one round or more")
    clip = asked.clip or str(clip_path())
    if asked.clip is None and not clip_path().exists():
        make(clip_path())
    bundles = [load("default")]
    kinds = (1, asked.subscribers)
    replayed(clip, bundles, 1)  # what is slow the first time counts for neither
    turns = []
    for n in range(asked.rounds):
        got = {kind: replayed(clip, bundles, kind) for kind in (kinds if n % 2 else kinds[::-1])}
        turns.append((got[1], got[asked.subscribers]))
    print(f"{machine()}; {os.cpu_count()} cores")
    print("\n".join(report(turns, asked.subscribers)))
    sizes, lost = flooded(_estimate())
    print(
        f"{N_MESSAGES} messages at {A_SECOND:.0f} a second, one subscriber never reads, one is stopped: memory after "
        f"each {SUBSCRIBER_QUEUE} {', '.join(f'{size:.0f}' for size in sizes)} MiB; the two that read lost {sum(lost)}"
    )
    grew = sizes[-1] - sizes[len(sizes) // 2] > GROWTH_MB
    n_lost = sum(lost) + sum(sum(turn.lost) for pair in turns for turn in pair)
    return 1 if grew or n_lost else 0


def _estimate() -> Estimate:
    return Estimate(
        stream="flood", seq=0, t=0.0, stamp="", span=(0.0, 1.28), age_ms=None, person=1, box=(0, 0, 64, 64),
        posterior={f"label {n}": 0.125 for n in range(8)}, label="label 0", confidence=0.125, reason=None,
        modalities={"face": 0.5, "voice": 0.5}, windows=(), bundle="0" * 16,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
