"""The files of a recording: their names, and the lines of text that are written as it goes.

For `talk.mkv` they are

- `talk.mkv`: picture and sound; `talk.2.mkv` and so on where the picture's size changed and one file cannot hold that;
- `talk.times.jsonl`: the exact times, and what the session left out (`stream.recording.times`);
- `talk.feed.jsonl`: every message that was published;
- `talk.session.json`: how it was analysed (`stream.recording.settings`).
"""

import os
from dataclasses import dataclass
from pathlib import Path

FLUSH_S = 0.25  # that a line may wait until it is written
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
