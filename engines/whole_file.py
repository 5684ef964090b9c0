"""Files that appear whole or not at all, though several processes write them."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write `path`, and its folder where it is missing: whoever reads it sees all of `content` or what was there.

    Each process writes a file of its own and renames it.

    Raises:
        OSError: If the folder or the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)  # mkstemp lets nobody else read, but a cache may be shared
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
