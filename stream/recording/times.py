"""The lines of FILE.times.jsonl: what a source handed out, in order, and what the session decided about it.

Pictures and samples themselves lie in the film, in the same order. Matroska keeps times to the millisecond; here they
are exact. Checksums are there where the film is lossless: they tell a changed pixel or sample from the one recorded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class FrameLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="frame"):
    """A picture: its time, and the CRC-32 of its RGB bytes. `part` is the film's file that it begins, if it does."""

    t_ns: int
    crc: int | None = None
    part: int | None = None


class AudioLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="audio"):
    """A block of sound: index of its first sample on the session timeline, samples, CRC-32 of their float32 bytes."""

    first: int
    n: int
    crc: int | None = None
    part: int | None = None


class EventLine(msgspec.Struct, frozen=True, kw_only=True, tag="event"):
    """Something that the source told."""

    t_ns: int
    kind: str
    text: str


class NoteLine(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """Something that the session decided: `dropped_frame` with its time, `left_out_segment` with its number.

    `film_origin_ns` is the session time of the film's zero, where that is not the session's.
    """

    kind: str
    value: Any


class EndLine(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The recording ended in order: with the session, or before it, stopped or broken off, and then why."""

    t_ns: int
    why: str | None


Line = FrameLine | AudioLine | EventLine | NoteLine | EndLine

_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file up to its end, or to the first that is not whole."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield _DECODER.decode(line)
            except msgspec.DecodeError:
                return
