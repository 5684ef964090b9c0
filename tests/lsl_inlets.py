"""Lab Streaming Layer in tests: real inlets on this machine, where pylsl is installed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stream.feed.security import FeedError
from tests.feeds import WAIT_S, until

try:
    from stream.bridges.lsl import load_pylsl

    pylsl = load_pylsl()
except FeedError:
    pylsl = None

needs_pylsl = pytest.mark.skipif(pylsl is None, reason="needs pylsl, of the extra `lsl`")
Sample = tuple[list[Any], float]


class Inlet:
    """An inlet that keeps what it receives, as a recorder does: LSL drops what was not read when an outlet closes."""

    def __init__(self, source_id: str, *, recover: bool = False) -> None:
        (info,) = pylsl.resolve_byprop("source_id", source_id, 1, WAIT_S)
        self._inlet = pylsl.StreamInlet(info, recover=recover)
        self._inlet.open_stream(WAIT_S)
        self.info = self._inlet.info(WAIT_S)
        self.got: list[Sample] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_for(self, n: int) -> list[Sample]:
        """The first samples, once there are so many."""
        until(lambda: len(self.got) >= n)
        return self.got

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._inlet.close_stream()

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                sample, t_s = self._inlet.pull_sample(0.05)
            except pylsl.util.LostError:
                return
            if sample is not None:
                self.got.append((sample, t_s))


@contextmanager
def inlet(source_id: str, *, recover: bool = False) -> Iterator[Inlet]:
    opened = Inlet(source_id, recover=recover)
    try:
        yield opened
    finally:
        opened.close()
