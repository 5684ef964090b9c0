"""How bounded memory between two threads behaves: when it is full, at the end of the stream, and when stopped."""

import threading
from enum import StrEnum


class Delivery(StrEnum):
    """What a full ring does with a new item."""

    WAIT = "wait"  # the writer waits: nothing is lost (replay)
    DROP_OLDEST = "drop_oldest"  # the oldest goes, and is counted (live)


class Aborted(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """Somebody asked for the end: whoever writes or waits should stop."""


class Bounded:
    """What every bounded memory between two threads shares: one lock, the end of the stream, the abort."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = Delivery(delivery)
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False

    @property
    def closed(self) -> bool:
        """Whether the writer has said that nothing more comes."""
        with self._changed:
            return self._closed

    def close(self) -> None:
        """End of the stream: what is held can still be read. Any thread may call, more than once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Stop at once: a blocked `write` and every wait raise `Aborted`, now and from here on. Any thread may call."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._aborted:
            raise Aborted(f"the {type(self).__name__} was aborted")
        if self._closed:
            raise ValueError(f"expected no write to a closed {type(self).__name__}, got one; make a new ring")
