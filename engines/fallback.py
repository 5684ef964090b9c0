"""An engine that stands behind another: what the first cannot do any more, the second does from there on."""

import logging
import threading
from collections.abc import Callable, Mapping

import numpy as np

from engines.engine import Engine, EngineError, InputError

_log = logging.getLogger("emocast")


class Fallback:
    """Runs on the first engine until that fails, then on the second. Any thread may call if both allow it.

    Args:
        first: The engine to use, and to close.
        second: Opens the one that takes over.
        name: Of the graph, for the log.

    Attributes:
        why: Why the second runs; empty as long as the first does.
    """

    def __init__(self, first: Engine, second: Callable[[], Engine], *, name: str) -> None:
        self._now, self._second, self._name = first, second, name
        self._lock = threading.Lock()
        self.inputs, self.outputs = first.inputs, first.outputs
        self._closed = False
        self.why = ""

    @property
    def backend(self) -> str:
        return self._now.backend

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._closed:
            raise EngineError("expected an open engine, this one was closed")
        engine = self._now
        try:
            return engine.run(feeds)
        except InputError:
            raise  # the caller's mistake, which the second would find too
        except EngineError as error:
            return self._instead_of(engine, error).run(feeds)

    def _instead_of(self, engine: Engine, error: EngineError) -> Engine:
        with self._lock:
            if self.why and self._now is engine:
                raise error
            if self._now is engine:
                self._now = self._second()
                self.why = f"{engine.backend} failed at {self._name}: {error}"
                _log.warning("%s; %s goes on", self.why, self._now.backend)
                engine.close()
            return self._now

    def close(self) -> None:
        self._closed = True
        self._now.close()
