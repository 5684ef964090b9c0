"""How long it takes until somebody who joins the feed has it all: `python -m tools.measure.join_latency`.

A feed publishes the estimates of three persons four times a second, as a live session does. Another process joins it
again and again, at random moments, directly and through a hub, and times from `connect` until it has the session, the
status and an estimate of every person. TCP's and ZeroMQ's handshakes are in it, and the publisher's waits: it repeats
the newest messages `COALESCE_S` after somebody joined, and no sooner than `REPEAT_S` after it did so before.
"""

import argparse
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

from stream.feed.hub import Hub
from stream.feed.messages import Estimate, Session, Status, topic_of
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tools.measure.bench import machine

ANY = "tcp://127.0.0.1:*"
HOP_S, STATUS_S = 0.25, 1.0
PERSONS = (1, 2, 3)
STREAM = "live"
LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
PAUSE_S = 0.2  # longest between two joins
WAIT_S = 10.0  # for one join; who waits this long is told nothing
WANTED = frozenset({f"session/{STREAM}", f"status/{STREAM}", *(f"estimate/{STREAM}/{person}" for person in PERSONS)})


def join(address: str, n: int, seed: int) -> list[float]:
    """Join a feed n times, after one that does not count; milliseconds of each.

    Raises:
        TimeoutError: If one of them still lacks something after ten seconds.
    """
    chance, took_ms = random.Random(seed), list[float]()
    for _ in range(n + 1):
        time.sleep(chance.uniform(0.0, PAUSE_S))
        took_ms.append(_join_once(address))
    return took_ms[1:]


def _join_once(address: str) -> float:
    began_s, missing = time.perf_counter(), set(WANTED)
    with Subscriber(address) as subscriber:
        while missing:
            message = subscriber.receive(began_s + WAIT_S - time.perf_counter())
            if message is None:
                raise TimeoutError(f"expected all of {', '.join(sorted(WANTED))} from {address}, lacks {missing}")
            missing.discard(topic_of(message))
        return (time.perf_counter() - began_s) * 1e3


@contextmanager
def publishing() -> Iterator[str]:
    """A feed that is alive; gives its address."""
    sink, over = ZmqSink(ANY), threading.Event()
    with Feed([sink]) as feed:
        feed.publish(_session())

        def publish() -> None:
            t_s = 0.0
            while not over.wait(HOP_S if t_s else 0.0):
                if t_s % STATUS_S == 0.0:
                    feed.publish(_status(t_s))
                for person in PERSONS:
                    feed.publish(_estimate(person, t_s))
                t_s += HOP_S

        with _thread(publish, over):
            yield sink.address


@contextmanager
def hub_of(address: str) -> Iterator[str]:
    """A hub of one publisher; gives its own address."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            hub.serve(0.1)

    with Hub([Subscriber(address)], ZmqSink(ANY)) as hub, _thread(serve, over):
        yield hub.address


@contextmanager
def _thread(run: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _session() -> Session:
    return Session(
        stream=STREAM, seq=0, t=0.0, stamp="", session="measured", origin="2026-01-31T12:00:00.000Z", labels=LABELS,
        recogniser="none", bundle="0" * 16, engine="none", hop_s=HOP_S, n_segments=10, alignment="causal", seed=0,
        source="made up", notice="These estimates are made up.",
    )  # fmt: skip


def _status(t_s: float) -> Status:
    return Status(
        stream=STREAM, seq=0, t=t_s, stamp="", frame_rate_hz=25.0, analysed_rate_hz=12.5, hop_rate_hz=1.0 / HOP_S,
        persons=len(PERSONS), drops={"frames": 0}, overruns=0, audio_gap_s=0.0, engine_ms=(5.0, 8.0),
        age_ms=(60.0, 80.0), drift_ppm=None,
    )  # fmt: skip


def _estimate(person: int, t_s: float) -> Estimate:
    return Estimate(
        stream=STREAM, seq=0, t=t_s, stamp="", span=(max(0.0, t_s - 10 * HOP_S), t_s), age_ms=60.0, person=person,
        box=(0, 0, 100, 100), posterior=dict.fromkeys(LABELS, 1.0 / len(LABELS)), label=None,
        confidence=1.0 / len(LABELS), reason="uncertain", modalities={"face": 1.0, "voice": 0.0}, windows=(),
        bundle="0" * 16,
    )  # fmt: skip


def measured(n: int, seed: int) -> dict[str, list[float]]:
    """Milliseconds of n joins each, by the way that was taken."""
    spawn = multiprocessing.get_context("spawn")  # a subscriber shares nothing with its publisher
    with publishing() as address, hub_of(address) as hub, ProcessPoolExecutor(1, spawn) as elsewhere:
        ways = {"direct": address, "through a hub": hub}
        return {name: elsewhere.submit(join, way, n, seed).result() for name, way in ways.items()}


def table(took_ms: dict[str, list[float]]) -> list[str]:
    """The measurement in lines of Markdown."""
    lines = ["| joined | n | p50 | p99 | max |", "|---|---|---|---|---|"]
    for name, values in took_ms.items():
        p50, p99 = np.percentile(values, [50, 99])
        lines.append(f"| {name} | {len(values)} | {p50:.1f} ms | {p99:.1f} ms | {max(values):.1f} ms |")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure.join_latency", description=__doc__)
    parser.add_argument("--joins", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    if options.joins < 1:
        parser.error(f"expected --joins of 1 or more, got {options.joins}")
    print(f"machine: {machine()}")
    try:
        print("\n".join(table(measured(options.joins, options.seed))))
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
