"""Calls into drivers that may never return: waited for a while, then left behind."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


class Hung(Exception):  # noqa: N818 - a state, not an error
    """A call that did not return in time; its thread is left behind."""


class Patience:
    """Runs calls in daemon threads of their own, and waits for each only so long. Any thread may call.

    Args:
        most_stuck: Calls that may be left behind; with so many, no other is begun until one of them returns.

    Attributes:
        n_stuck: Calls that were left behind and did not return yet.
    """

    def __init__(self, most_stuck: int) -> None:
        self._most_stuck = most_stuck
        self._lock = threading.Lock()
        self.n_stuck = 0

    def within(self, seconds: float, call: Callable[[], T], *, late: Callable[[T], object] | None = None) -> T:
        """What `call` returns or raises, if it does so in time.

        Args:
            seconds: Longest wait.
            call: What may hang.
            late: Given what a call that was left behind returns in the end, in its own thread: to close it, say.

        Raises:
            Hung: If it did not return in time, or too many are stuck already.
        """
        if self.n_stuck >= self._most_stuck:
            raise Hung
        told: Future[T] = Future()
        left = threading.Event()

        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                with self._lock:
                    told.set_exception(error)
                    self.n_stuck -= left.is_set()
                return
            with self._lock:
                told.set_result(result)
            if left.is_set():
                if late is not None:
                    late(result)
                with self._lock:
                    self.n_stuck -= 1

        threading.Thread(target=run, name="driver call", daemon=True).start()
        wait([told], seconds)
        with self._lock:
            if not told.done():
                left.set()
                self.n_stuck += 1
                raise Hung
        return told.result()
