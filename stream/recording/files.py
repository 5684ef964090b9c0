"""The files of a recording: their names, and the lines of text that are written as it goes.

For `talk.mkv` they are

- `talk.mkv`: picture and sound; `talk.2.mkv` and so on where the picture's size changed and one file cannot hold that;
- `talk.times.jsonl`: the exact times, and what the session left out (`stream.recording.times`);
- `talk.feed.jsonl`: every message that was published;
- `talk.session.json`: how it was analysed (`stream.recording.settings`).
"""

import contextlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FLUSH_S = 0.25
FLUSH_BYTES = 1 << 16
NAME_BYTES = 200  # of a recording's name: file systems take 255, and the endings need some


class RecordingError(ValueError):
    """A recording that cannot be made or read; the text says what was expected, what came and what to do."""


@dataclass(frozen=True, kw_only=True)
class RecordingFiles:
    """Where the parts of one recording lie."""

    film: Path
    times: Path
    feed: Path
    session: Path

    def part(self, number: int) -> Path:
        """The film's file of that number, from 1."""
        return self.film if number == 1 else self.film.with_suffix(f".{number}.mkv")


def files_of(path: str | Path) -> RecordingFiles:
    """The files of the recording that goes by this name.

    Raises:
        RecordingError: If the name does not end in `.mkv`.
    """
    film = Path(path)
    if film.suffix != ".mkv":
        raise RecordingError(f"expected a recording's name to end in .mkv, got {path}; name it {film.stem}.mkv")
    return RecordingFiles(
        film=film,
        times=film.with_suffix(".times.jsonl"),
        feed=film.with_suffix(".feed.jsonl"),
        session=film.with_suffix(".session.json"),
    )


def new_files(path: str | Path) -> RecordingFiles:
    """The files of a recording that is to be made; nothing is created yet.

    Raises:
        RecordingError: If the name does not end in `.mkv`, there is no such folder, or one of the files exists.
    """
    files = files_of(path)
    if not files.film.parent.is_dir():
        raise RecordingError(f"cannot record {path}: there is no folder {files.film.parent}; create it first")
    for one in (files.film, files.part(2), files.times, files.feed, files.session):
        if os.path.lexists(one):  # a link to nowhere, too
            raise RecordingError(f"expected a new name for the recording, {one} exists; choose another name")
    return files


def named_files(folder: Path, name: str) -> RecordingFiles:
    """The files of a recording that is to be made in a folder, under a name that somebody else chose.

    Raises:
        RecordingError: If the name is anything but that of a new .mkv file in this very folder.
    """
    plain = name.isprintable() and not name.startswith(".") and not any(c in name for c in "/\\:")
    if not plain or not 1 <= len(name.encode(errors="replace")) <= NAME_BYTES:
        raise RecordingError(
            f"expected the plain name of a file, up to {NAME_BYTES} bytes and without / \\ : or a leading dot, got "
            f"{name[:NAME_BYTES]!r}; name it talk.mkv"
        )
    return new_files(folder / name)


class LineFile:
    """Appends lines to a new file, four times a second at the latest, and only whole ones, also where the disk is full.

    A process that is killed in the middle of a write can leave the last line torn; every line before it is whole.

    Args:
        path: The file; must not exist.
        now_s: The clock that says when lines have waited long enough.

    Raises:
        OSError: If it cannot be created; and from `write`, `flush` and `close`, if it cannot be written.
    """

    def __init__(self, path: Path, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._file = io.FileIO(path, "x")
        self._now_s = now_s
        self._lines = bytearray()
        self._n_whole = 0  # bytes in the file that are whole lines
        self._due_s: float | None = None

    def write(self, line: bytes) -> None:
        """Take a line, without its end, and write what is due."""
        self._lines += line + b"\n"
        if self._due_s is None:
            self._due_s = self._now_s() + FLUSH_S
        if len(self._lines) >= FLUSH_BYTES:
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
            with contextlib.suppress(OSError):
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
