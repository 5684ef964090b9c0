"""`--chaos`: a source, its engines and its feed with the faults that were asked for."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from engines.select import Engines
from stream.clock import Clock
from stream.feed.sinks import Sink, ZmqSink
from stream.source import Source
from stream.sources.chaos import ChaosSource
from stream.sources.chaos_load import Slowed, slow_subscriber
from stream.sources.chaos_plan import parse


@contextmanager
def troubled(
    source: Source,
    engines: Engines,
    chaos: str | None,
    *,
    seed: int,
    sinks: Sequence[Sink],
    clock: Clock | None = None,
    drifts: bool = True,
) -> Iterator[tuple[Source, Engines]]:
    """What a session is given in the place of its source and engines, for as long as the block runs.

    Args:
        source: Not yet opened.
        engines: What runs the graphs; stays its owner's to close.
        chaos: The faults, as `stream.sources.chaos_plan.parse` takes them; None changes nothing.
        seed: Random faults are replayed from it.
        sinks: Where messages go, opened; somebody who never reads subscribes there, if asked for.
        clock: The session's, where it has one of its own.
        drifts: False where the drift is made before the source, for its grid to correct (`live_source`).

    Raises:
        ValueError: If there is no such fault.
    """
    if chaos is None:
        yield source, engines
        return
    plan = parse(chaos)
    if not drifts:
        plan = replace(plan, drift_ppm=0.0)
    with ExitStack() as life:
        for sink in sinks if plan.slow_subscriber else ():
            if isinstance(sink, ZmqSink):
                life.enter_context(slow_subscriber(sink.address))
        slowed = Slowed(engines, plan.slow_scoring_s, time.sleep) if plan.slow_scoring_s else engines
        yield ChaosSource(source, plan, seed=seed, clock=clock), slowed
