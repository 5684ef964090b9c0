"""A recording as a source: the very items that its session analysed, for a session that is to conclude the same."""

import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from stream.clock import Clock, MonotonicClock
from stream.recording.files import RecordingError, files_of
from stream.recording.reel import Reel
from stream.recording.settings import read_settings
from stream.recording.tape import FILM_ORIGIN
from stream.recording.times import AudioLine, EndLine, EventLine, FrameLine, NoteLine, read_lines
from stream.records import AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.source import Item, complete_ns
from stream.sources.pacing import Pacer, Speed
from stream.windows import NS_PER_S


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a recorded session decided, and how far its recording goes.

    Attributes:
        dropped_frames: Times of the pictures that were not analysed, because newer ones had come.
        left_out_segments: Numbers of the segments that were not scored.
        others: Every other note, by its kind, in order.
        ended: Whether the recording ended in order, and not with its process.
        why: Why it ended before the session; None where it did not.
        end_ns: When the newest item was complete.
    """

    dropped_frames: frozenset[int]
    left_out_segments: frozenset[int]
    others: dict[str, list[Any]]
    ended: bool
    why: str | None
    end_ns: int

    @property
    def whole(self) -> bool:
        """Whether all that the session analysed is there."""
        return self.ended and self.why is None


def read_decisions(times: Path) -> Decisions:
    """What FILE.times.jsonl says beyond the items themselves."""
    notes: dict[str, list[Any]] = defaultdict(list)
    end, end_ns = None, 0
    for line in read_lines(times):
        match line:
            case NoteLine():
                notes[line.kind].append(line.value)
            case EndLine():
                end = line
            case AudioLine():
                end_ns = max(end_ns, complete_ns(AudioBlock(first=line.first, samples=np.empty(line.n, np.float32))))
            case _:
                end_ns = max(end_ns, line.t_ns)
    return Decisions(
        dropped_frames=frozenset(notes.pop("dropped_frame", ())),
        left_out_segments=frozenset(notes.pop("left_out_segment", ())),
        others=dict(notes),
        ended=end is not None,
        why=None if end is None else end.why,
        end_ns=end_ns,
    )


class RecordedSource:
    """A recording, item by item as it was taken, without the pictures that were dropped before they were analysed.

    Times are the exact ones. Of a recording whose process was killed, it hands out what both the film and its times
    hold, and tells by an event `truncated` what is missing. A picture or a sound that is not, bit by bit, what was
    recorded (lossless recordings know) is handed out as it is, after an event `changed`.

    Enter, iterate once, and leave in one thread; `stop` may be called from any.

    Args:
        path: The recording, `talk.mkv`.
        speed: `realtime` hands out each item when it is due, `max` as fast as they are taken.
        clock: Paces `realtime`.

    Attributes:
        settings: How it was analysed.
        decisions: What the session decided meanwhile.
        reached_ns: When the newest item that was handed out was complete.

    Raises:
        RecordingError: If there is no such recording.
    """

    def __init__(self, path: str | Path, *, speed: Speed, clock: Clock | None = None) -> None:
        self._files = files_of(path)
        self.settings = read_settings(self._files.session)
        for file in (self._files.film, self._files.times):
            if not file.is_file():
                raise RecordingError(
                    f"expected the recording {path} to have {file}, which is not there; copy all files"
                )
        self.decisions = read_decisions(self._files.times)
        self._pacer = Pacer(Speed(speed), clock or MonotonicClock())
        self._stopped = threading.Event()
        self._reel: Reel | None = None
        self.reached_ns = 0

    @property
    def info(self) -> SourceInfo:
        """What the recorded source was."""
        return SourceInfo(
            name=self.settings.stream,
            has_video=self.settings.has_video,
            has_audio=self.settings.has_audio,
            frame_rate_hz=self.settings.frame_rate_hz,
            duration_s=self.decisions.end_ns / NS_PER_S,
            text=self.settings.source,
        )

    @property
    def paced(self) -> bool:
        """Whether items are held back until they are due."""
        return self._pacer.paced

    def health(self) -> SourceHealth:
        """A recording has no device that could be ill."""
        return SourceHealth()

    def __enter__(self) -> Self:
        """Open the film's first file. Raises RecordingError if FFmpeg cannot read it."""
        origin_ns = next(iter(self.decisions.others.get(FILM_ORIGIN, ())), 0)
        self._reel = Reel(self._files, lossless=self.settings.lossless, origin_ns=origin_ns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reel is not None:
            self._reel.close()
            self._reel = None

    def stop(self) -> None:
        """End the iteration at its next item, and a paced wait at once. Any thread may call."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Item]:
        """The items, once.

        Raises:
            RuntimeError: Outside the `with` block.
        """
        if self._reel is None:
            raise RuntimeError("expected an open source: iterate inside its `with` block")
        self._pacer.start()
        for item in self._items(self._reel):
            self._pacer.await_due(complete_ns(item), self._stopped)
            if self._stopped.is_set():
                return
            yield item

    def _items(self, reel: Reel) -> Iterator[Item]:
        for line in read_lines(self._files.times):
            item: Item | None = None
            match line:
                case FrameLine():
                    image = reel.picture(line.t_ns, line.part)
                    if image is None:
                        break
                    if line.t_ns in self.decisions.dropped_frames:
                        continue
                    yield from self._compared("picture", line.t_ns, line.crc, image)
                    item = VideoFrame(t_ns=line.t_ns, image=image)
                case AudioLine():
                    samples = reel.samples(line.n, line.part)
                    if samples is None:
                        break
                    item = AudioBlock(first=line.first, samples=samples)
                    yield from self._compared("sound", complete_ns(item), line.crc, samples)
                case EventLine():
                    item = SourceEvent(t_ns=line.t_ns, kind=line.kind, text=line.text)
                case EndLine():
                    return
                case NoteLine():
                    continue
            self.reached_ns = complete_ns(item)
            yield item
        lost_s = (self.decisions.end_ns - self.reached_ns) / NS_PER_S
        text = f"the recording was cut off at {self.reached_ns / NS_PER_S:.3f} s"
        if lost_s:
            text += f"; of {lost_s:.3f} s more only the times are there"
        yield SourceEvent(t_ns=self.reached_ns, kind="truncated", text=text)

    def _compared(self, what: str, t_ns: int, crc: int | None, values: np.ndarray) -> Iterator[SourceEvent]:
        if crc is not None and crc != zlib.crc32(values.data):
            text = f"the {what} at {t_ns / NS_PER_S:.6f} s is not the one that was recorded"
            yield SourceEvent(t_ns=t_ns, kind="changed", text=text)
