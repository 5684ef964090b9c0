"""The threads of a session: whatever ends one of them ends the others, and the first fault is what is raised."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream.delivery import Aborted


class Works:
    """Runs pieces of work in threads beside the calling one.

    Args:
        stop: Ends what they all read from.
        abort: Ends every wait of every piece at once. Any thread may call.
        interrupted: Called before a KeyboardInterrupt goes on, when all threads have ended.
    """

    def __init__(
        self, *, stop: Callable[[], None], abort: Callable[[], None], interrupted: Callable[[], object]
    ) -> None:
        self._stop, self._abort, self._interrupted = stop, abort, interrupted
        self._faults: list[BaseException] = []

    @contextmanager
    def running(self, *works: Callable[[], None]) -> Iterator[None]:
        """While the block runs, the works do; then they are stopped and waited for.

        Raises:
            BaseException: The first fault of a work.
        """
        threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in works]

        def end() -> None:
            self._stop()
            self._abort()
            for thread in threads:
                thread.join()

        for thread in threads:
            thread.start()
        try:
            yield
        except Aborted:
            pass  # the fault that caused it is raised below
        except KeyboardInterrupt:
            end()
            self._interrupted()
            raise
        finally:
            end()
        if self._faults:
            fault = self._faults[0]
            raise fault from fault.__cause__  # not from the Aborted that it led to

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Aborted:
            pass  # somebody else asked for the end
        except BaseException as error:
            self._faults.append(error)
            self._abort()
