"""The measured offset of each pair of a camera and a microphone, kept in `devices.json` for this user."""

from pathlib import Path

import msgspec

from engines.whole_file import write_whole
from stream.av_offset import Offset, OffsetError
from stream.config_folder import config_folder


class StoredOffset(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a measurement.

    Attributes:
        offset_ms: How late the picture is.
        measured: When, UTC, RFC 3339.
        spread_ms: Standard deviation of one pair of flash and click.
        n: Pairs that it comes from.
    """

    offset_ms: float
    measured: str
    spread_ms: float
    n: int


def offsets_path() -> Path:
    """The file; a JSON object from `camera|microphone` to a measurement."""
    return config_folder() / "devices.json"


def stored_offset(camera: str, microphone: str) -> float | None:
    """How late a camera's picture is against a microphone's sound in ms, or None where it was never measured.

    Raises:
        OffsetError: If the file cannot be read.
    """
    found = _read().get(f"{camera}|{microphone}")
    return None if found is None else found.offset_ms


def store_offset(camera: str, microphone: str, offset: Offset, measured: str) -> Path:
    """Keep a measurement in place of an older one of the pair; returns the file.

    Raises:
        OffsetError: If the file cannot be read or written.
    """
    stored = StoredOffset(offset_ms=offset.offset_ms, measured=measured, spread_ms=offset.spread_ms, n=offset.n_pairs)
    content = msgspec.json.encode({**_read(), f"{camera}|{microphone}": stored})
    path = offsets_path()
    try:
        write_whole(path, msgspec.json.format(content, indent=1) + b"\n")
    except OSError as error:
        raise OffsetError(f"the offset cannot be stored in {path}: {error.strerror or error}") from error
    return path


def _read() -> dict[str, StoredOffset]:
    path = offsets_path()
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, StoredOffset])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise OffsetError(
            f"expected measured offsets of devices in {path}, it cannot be read ({error}); remove it and run "
            "emocast calibrate again"
        ) from error
