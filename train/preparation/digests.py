"""Hashes of media, so that a cache knows them by content."""

import hashlib
import json
import threading
from pathlib import Path


class Digests:
    """Hashes of media's content, remembered by path, size and times so that a corpus is read through only once.

    Any thread may call.

    Args:
        folder: The cache, where `media.jsonl` keeps them.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "media.jsonl"
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            try:
                *stamp, digest = json.loads(line)
            except ValueError:  # a killed run tore its last line
                continue
            self._known[tuple(stamp)] = digest

    def of(self, path: Path) -> str:
        """Hash of a file's content. Raises OSError where it cannot be read."""
        state = path.stat()
        # The time of change too: a copy may keep the time of modification.
        stamp = (str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if stamp not in self._known:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
            with self._lock, self._path.open("a", encoding="utf-8") as lines:
                lines.write("\n" + json.dumps([*stamp, digest]))  # first the break: the line before may be torn
                self._known[stamp] = digest
        return self._known[stamp]
