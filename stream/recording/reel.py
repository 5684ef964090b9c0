"""Reads a recording's film back in the order of its times, file after file."""

import contextlib
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from stream.recording.files import RecordingError, RecordingFiles
from stream.windows import NS_PER_S

APART_NS = 2_000_000  # a picture's time in the film differs from the exact one by no more: a rounded millisecond


class Reel:
    """A film that is read once, from its start; each track through a container of its own.

    Args:
        files: The recording's.
        lossless: Whether it is bit by bit.
        origin_ns: Session time of the film's zero.

    Raises:
        RecordingError: If FFmpeg cannot read a file of it; from `picture` and `samples`, too.
    """

    def __init__(self, files: RecordingFiles, *, lossless: bool, origin_ns: int = 0) -> None:
        self._files, self._lossless, self._origin_ns = files, lossless, origin_ns
        self._containers: list[Any] = []
        self._open(1)

    def _open(self, number: int) -> None:
        self.close()
        path = self._files.part(number)
        try:
            self._containers = [av.open(f"file:{path}") for _ in range(2)]
        except (av.FFmpegError, OSError) as error:
            raise RecordingError(
                f"expected a recording's film, got {path}, which FFmpeg cannot read ({error.strerror}); copy it again"
            ) from error
        self._pictures = _decoded(self._containers[0], "video")
        self._sounds = _decoded(self._containers[1], "audio")
        self._held = np.zeros(0, np.float32)
        self._part = number

    def picture(self, t_ns: int, part: int | None) -> np.ndarray | None:
        """The next picture, (height, width, 3) uint8 RGB, which lies at `t_ns`; None where the film ends before it.

        `part` is the number of the file that it begins, if it begins one.
        """
        self._turn_to(part)
        frame = next(self._pictures, None)
        if frame is None:
            return None
        film_ns = round(frame.pts * frame.time_base * NS_PER_S) + self._origin_ns
        if abs(film_ns - t_ns) > APART_NS:
            return None
        return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))

    def samples(self, n: int, part: int | None) -> np.ndarray | None:
        """The next n samples, (n,) float32; None where the film ends before. `part` as in `picture`."""
        self._turn_to(part)
        while len(self._held) < n:
            frame = next(self._sounds, None)
            if frame is None:
                return None
            values = frame.to_ndarray()[0]
            floats = values if self._lossless else values.astype(np.float32) / 32767
            self._held = np.concatenate([self._held, floats])
        taken, self._held = self._held[:n], self._held[n:]
        return taken

    def _turn_to(self, part: int | None) -> None:
        if part is not None and part != self._part:
            self._open(part)

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        for container in self._containers:
            container.close()
        self._containers = []


def _decoded(container: Any, kind: str) -> Iterator[Any]:
    streams = getattr(container.streams, kind)
    with contextlib.suppress(av.FFmpegError):  # what is torn at the end of the file ends it
        for packet in container.demux(streams[0]) if streams else ():
            if not packet.is_corrupt:
                yield from packet.decode()
