"""Replay: recorded files, one after the other, as if they were live."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from engines.bundle import load
from stream.bridges.lsl import LslSink
from stream.bridges.metrics import MetricsSink
from stream.clock import HeldClock
from stream.config import FeedConfig, SessionConfig
from stream.delivery import Delivery
from stream.feed.control_desk import Newest
from stream.feed.keys import load_server_keys
from stream.feed.messages import Estimate, Event, Message
from stream.feed.publisher import Feed
from stream.feed.sinks import JsonlSink, Sink, ZmqSink
from stream.session import Session, engines_of
from stream.sources.chaos_plan import parse
from stream.sources.container import stream_name
from stream.sources.errors import SourceError
from stream.sources.media import MediaSource, Speed
from tools.errors import DONE, MISUSE
from tools.feeds.controlled import ControlledReplay, control_of
from tools.feeds.watch import LineSink, render
from tools.replaying.chaos import troubled


def replay(
    files: Sequence[str],
    *,
    speed: Speed,
    session: SessionConfig,
    feed: FeedConfig,
    chaos: str | None = None,
    control: str | None = None,
    quiet: bool = False,
) -> int:
    """Stream each file through the whole line and publish what it says.

    Args:
        files: Files or URLs. A bad one is reported, the others are still replayed.
        speed: `realtime` or `max`; both publish the same estimates.
        session: How to analyse.
        feed: Where to publish.
        chaos: Faults to inject, as `stream.sources.chaos_plan.parse` takes them.
        control: Address where `emocast control` is listened to, while a single file is replayed; pausing holds the
            replay, and what would change what it says is refused.
        quiet: Print nothing; otherwise each estimate and event is a line on standard output.

    Returns:
        0, or 2 where a file could not be read.

    Raises:
        BundleError, EngineError, FeedError, NetworkError: If a part of the line cannot be opened.
        ValueError: If several files are to be controlled.
    """
    if control is not None and len(files) != 1:
        raise ValueError(f"control: expected one file to replay, got {len(files)}; replay and control each by itself")
    bundles = [load(model) for model in session.model]
    if chaos is not None:
        parse(chaos)  # a misspelt fault is told before anything is opened
    names = stream_names(files)
    code = DONE
    # Printing is a sink like any other: who stops reading the lines costs the feed and the file nothing.
    shown = [] if quiet else [LineSink(sys.stdout, kinds=(Estimate, Event), line=line_of)]
    # One set of engines for all files: what was loaded, or recorded on a GPU, serves the next one, too.
    outlets, newest = sinks(feed), Newest()
    with Feed([*outlets, newest, *shown], delivery=Delivery.WAIT) as outlet, engines_of(session) as engines:
        for file, name in zip(files, names, strict=True):
            try:
                clock = HeldClock()
                media = MediaSource(file, speed=speed, name=name, clock=clock)
                with ExitStack() as life:
                    source, runs_on = life.enter_context(
                        troubled(media, engines, chaos, seed=session.seed, sinks=outlets, clock=clock)
                    )
                    line = Session(source, bundles, outlet.publish, session, clock=clock, engines=runs_on)
                    if control is not None:
                        life.enter_context(control_of(control, ControlledReplay(line, clock), newest, keys=feed.keys))
                    line.run()
            except SourceError as error:
                print(f"emocast: {error}", file=sys.stderr)
                code = MISUSE
    for failure in outlet.failures:
        print(f"emocast: {failure}", file=sys.stderr)
        code = MISUSE
    return code


def sinks(config: FeedConfig) -> list[Sink]:
    """Where messages go, as configured.

    Raises:
        FeedError: If the address is not allowed, or keys are asked for and there are none.
    """
    chosen: list[Sink] = []
    if config.feed:
        keys = load_server_keys() if config.keys else None
        chosen.append(ZmqSink(config.address, codec=config.codec, insecure=config.insecure, keys=keys))
    if config.out is not None:
        chosen.append(JsonlSink(config.out))
    if config.lsl:
        chosen.append(LslSink(insecure=config.insecure))
    if config.metrics is not None:
        chosen.append(MetricsSink(config.metrics))
    return chosen


def stream_names(files: Sequence[str]) -> list[str]:
    """A topic name for each file, made of its own, numbered where it comes again."""
    names: list[str] = []
    for plain in map(stream_name, files):
        name, n = plain, 1
        while name in names:
            n += 1
            name = f"{plain}-{n}"
        names.append(name)
    return names


def line_of(message: Message) -> str:
    """A message for the terminal; the end of a stream with its totals."""
    if not isinstance(message, Event):
        return render(message)
    totals = f" ({', '.join(f'{k} {v:g}' for k, v in message.totals.items())})" if message.totals else ""
    return f"{message.t:8.2f} s  {message.stream}  {message.kind}: {message.text}{totals}"
