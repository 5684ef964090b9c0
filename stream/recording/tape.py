"""What a recording writes, in step: the film, a new file of it where the picture's size asks for one, and the times."""

import contextlib
import zlib

import msgspec
import numpy as np

from stream.line_file import LineFile
from stream.recording.files import RecordingFiles
from stream.recording.film import Film
from stream.recording.settings import RecordedSession
from stream.recording.times import AudioLine, EndLine, EventLine, FrameLine, Line, NoteLine
from stream.records import RATE_HZ, AudioBlock, SourceEvent, VideoFrame
from stream.source import Item, complete_ns
from stream.windows import NS_PER_S

BLOCK_NS = NS_PER_S // 10  # no source hands out longer audio blocks
NS_PER_MS = NS_PER_S // 1000
FILM_ORIGIN = "film_origin_ns"  # the note of the session time of a film's zero; without it the two are the same
HEAD_NS = NS_PER_S  # of sound held back at the start, until the first picture says what size the film has


class Tape:
    """The film and the lines of its times, written together by one thread.

    Args:
        files: Where to write.
        settings: Which tracks there are, and whether to keep them bit by bit.
        times: The lines.

    Raises:
        av.FFmpegError, OSError: From every call but `abandon`, where something cannot be written.
    """

    def __init__(self, files: RecordingFiles, settings: RecordedSession, times: LineFile) -> None:
        self._files, self._settings, self._times = files, settings, times
        self._film: Film | None = None
        self._n_parts, self._origin_ns = 0, 0
        self._head: list[Item | NoteLine] = []  # held back until the film begins

    def add(self, item: Item | NoteLine) -> None:
        """Write an item, or hold it back while it is not known what film to begin."""
        self._head.append(item)
        if self._film is not None or self._may_begin(item):
            self._write_head()

    def _may_begin(self, item: Item | NoteLine) -> bool:
        if isinstance(item, VideoFrame) or not self._settings.has_video:
            return True
        times = [complete_ns(one) for one in self._head if not isinstance(one, NoteLine)]
        return bool(times) and times[-1] - times[0] > HEAD_NS

    def _write_head(self) -> None:
        for item in self._head:
            self._write(item)
        self._head.clear()

    def _write(self, item: Item | NoteLine) -> None:
        match item:
            case VideoFrame() if self._settings.has_video:
                part = self._film_for(item)
                self._line(FrameLine(t_ns=item.t_ns, crc=self._checksum(item.image), part=part))
            case AudioBlock() if self._settings.has_audio:
                part = self._film_for(item)
                n, crc = len(item.samples), self._checksum(item.samples)
                self._line(AudioLine(first=item.first, n=n, crc=crc, part=part))
            case SourceEvent():
                self._line(EventLine(t_ns=item.t_ns, kind=item.kind, text=item.text))
            case NoteLine():
                self._line(item)

    def _film_for(self, item: VideoFrame | AudioBlock) -> int | None:
        part = None
        if self._film is None or not self._film.holds(item):
            if self._film is not None:
                film, self._film = self._film, None
                film.close()
            self._n_parts += 1
            part = self._n_parts
            if part == 1 and self._settings.began_s is not None:
                self._shift(item)
            self._film = Film(
                self._files.part(part),
                size_px=self._size_px(),
                has_audio=self._settings.has_audio,
                lossless=self._settings.lossless,
                rate_hz=self._settings.frame_rate_hz,
                origin_ns=self._origin_ns,
            )
        self._film.add(item)
        return part

    def _shift(self, first: VideoFrame | AudioBlock) -> None:
        # A film that begins in mid-session begins near its own zero, for players. The sound that is complete after the
        # first picture may begin before it, by no more than a block.
        began_ns = first.first * NS_PER_S // RATE_HZ if isinstance(first, AudioBlock) else first.t_ns
        self._origin_ns = max(0, began_ns - BLOCK_NS) // NS_PER_MS * NS_PER_MS
        self._line(NoteLine(kind=FILM_ORIGIN, value=self._origin_ns))

    def _size_px(self) -> tuple[int, int] | None:
        first = next((one for one in self._head if isinstance(one, VideoFrame)), None)
        return None if first is None else (first.image.shape[1], first.image.shape[0])

    def _checksum(self, values: np.ndarray) -> int | None:
        return zlib.crc32(np.ascontiguousarray(values).data) if self._settings.lossless else None

    def _line(self, line: Line) -> None:
        self._times.write(msgspec.json.encode(line, enc_hook=str))

    def finish(self, end: EndLine) -> None:
        """Write what is held back, and the end."""
        self._write_head()
        if self._film is not None:
            self._film.close()
            self._film = None
        self._line(end)
        self._times.close()

    def abandon(self, end: EndLine, *, full: bool) -> None:
        """Let go of what cannot be written any more, and say so; `full` makes room for that on the disk."""
        if self._film is not None:
            self._film.abandon(cut=full)
        with contextlib.suppress(OSError), contextlib.closing(self._times):
            self._line(end)
