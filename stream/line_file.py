"""A text file that grows by whole lines: what a run that is killed, or a full disk, leaves can be read."""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

BYTES = 1 << 16  # that wait at most


class LineFile:
    """Appends lines to a file, each after a bounded time, and only whole ones, also where the disk fills up.

    A process that is killed in the middle of a write can leave the last line torn; every line before it is whole.

    Args:
        path: The file.
        wait_s: How long a line may wait until it is written; where many wait, they are written at once.
        replace: Whether a file that exists is replaced; otherwise that is an error.
        now_s: The clock that says when lines have waited long enough.

    Raises:
        OSError: If it cannot be created; and from `write`, `flush` and `close`, if it cannot be written.
    """

    def __init__(
        self, path: Path, *, wait_s: float, replace: bool = False, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = io.FileIO(path, "w" if replace else "x")
        self._wait_s, self._now_s = wait_s, now_s
        self._lines = bytearray()
        self._n_whole = 0  # bytes in the file that are whole lines
        self._due_s: float | None = None

    @property
    def due_s(self) -> float | None:
        """When `attend` is to be called, on the clock; None where nothing waits."""
        return self._due_s

    def write(self, line: bytes) -> None:
        """Take a line, without its end, and write what is due."""
        self._lines += line + b"\n"
        if self._due_s is None:
            self._due_s = self._now_s() + self._wait_s
        if len(self._lines) >= BYTES:
            self.flush()
        self.attend()

    def attend(self) -> None:
        """Write what has waited long enough."""
        if self._due_s is not None and self._now_s() >= self._due_s:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Where that fails it goes on waiting, and the file ends with the last whole line before."""
        lines, self._due_s = memoryview(bytes(self._lines)), None
        n_written = 0
        try:
            while n_written < len(lines):  # a disk that fills up takes a part
                n_written += self._file.write(lines[n_written:]) or 0
        except OSError:
            with contextlib.suppress(OSError):  # a pipe cannot be cut
                self._file.truncate(self._n_whole)
                self._file.seek(self._n_whole)
            raise
        self._lines.clear()
        self._n_whole += n_written

    def close(self) -> None:
        """Write what waits, and close. Closing twice is harmless."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()
