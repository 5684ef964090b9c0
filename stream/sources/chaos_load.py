"""Faults that are not a source's: scoring that takes its time, and a subscriber that never reads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import zmq

from engines.bundle import Bundle
from engines.engine import Engine
from engines.select import Choice, Engines


class Slowed(Engines):
    """Engines whose graphs take longer than they need.

    Each call of a graph takes its share of `seconds` more: one part for each graph of the bundle, so that a hop with
    face and voice, which calls every graph of a recogniser of pairs once, takes `seconds` longer.

    Args:
        engines: What runs the graphs; stays its owner's to close.
        seconds: How much longer a whole hop takes; may be set while it runs.
        sleep: Lets so many seconds pass.
    """

    def __init__(self, engines: Engines, seconds: float, sleep: Callable[[float], None]) -> None:
        self._engines, self.seconds, self._sleep = engines, seconds, sleep  # all that Engines has is the other's

    def choose(self, bundle: Bundle) -> Choice:
        """As the engines choose."""
        return self._engines.choose(bundle)

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """The engine of a graph, slowed. Raises EngineError if it cannot be loaded."""
        n_stages = len(bundle.manifest.stages)

        def delay() -> None:
            if self.seconds > 0:
                self._sleep(self.seconds / n_stages)

        return _SlowEngine(self._engines.open(bundle, stage), delay)

    def state(self, bundle: Bundle) -> tuple[str, str]:
        """What runs a bundle now, and why."""
        return self._engines.state(bundle)

    def close(self) -> None:
        """Nothing: who made the engines closes them."""


class _SlowEngine:
    def __init__(self, engine: Engine, delay: Callable[[], None]) -> None:
        self._engine, self._delay = engine, delay
        self.inputs, self.outputs = engine.inputs, engine.outputs

    @property
    def backend(self) -> str:
        return self._engine.backend

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._delay()
        return self._engine.run(feeds)

    def close(self) -> None:
        self._engine.close()


@contextmanager
def slow_subscriber(address: str) -> Iterator[None]:
    """While the block runs, somebody is subscribed to a whole feed and never reads; ZeroMQ's own thread connects.

    What it is sent fills its small buffers, then the publisher's queue for it, and is then lost to it alone.
    """
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        for option, value in {zmq.LINGER: 0, zmq.RCVHWM: 1, zmq.RCVBUF: 4096, zmq.IPV6: int("[" in address)}.items():
            socket.set(option, value)
        socket.subscribe("")
        socket.connect(address)
        yield
