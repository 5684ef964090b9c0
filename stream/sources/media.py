"""Files and URLs as a source: whatever FFmpeg reads, in the order of its presentation times.

A file on disk is opened once per track, so that no interleaving, however poor, can hold one track back or fill the
memory. What cannot be opened twice (a URL, a pipe) is opened once; the packets of the track that lies ahead are kept,
undecoded, at most 10 s or 64 MiB of them. A track further behind than that is not waited for: what then comes too
late to be in order is left out and counted.
"""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.logging

from stream.clock import Clock, MonotonicClock
from stream.records import AudioBlock, SourceEvent, SourceInfo, VideoFrame
from stream.sources.errors import SourceError
from stream.sources.pacing import Pacer, Speed
from stream.sources.tracks import AudioTrack, Decoder, Packets, Starved, Track, VideoTrack, time_ns
from stream.windows import NS_PER_S

__all__ = ["MediaSource", "SourceError", "Speed"]

Item = VideoFrame | AudioBlock | SourceEvent

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
# Demuxers that read the length in the file. The others estimate it from bit rate or size, so it proves nothing.
STATE_DURATION = {"mov", "matroska", "webm", "avi", "flv", "wav", "w64", "flac", "asf", "mxf", "aiff", "caf"}
SHORT_S = 0.25  # a shortfall under this is a matter of how containers round
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters at least: C:\ is a drive


class MediaSource:
    """A recorded file, or a URL, as video frames, audio blocks and events in ascending order of time.

    An item's time is when it is complete: a frame's `t_ns`, the end of an audio block. Time zero is the earlier of
    the tracks' first presentation times, so audio that starts late starts late. Where both fall on one instant the
    audio comes first. Rules for bad timestamps are at `VideoTrack` and `AudioGrid`.

    Enter, iterate once, and leave in one thread; `stop` may be called from any.

    Args:
        path_or_url: What to open.
        speed: `realtime` hands out each item when it is due, `max` as fast as they are taken.
        name: Name of the stream; by default made of the file's name.
        clock: Paces `realtime`.

    Raises:
        SourceError: On entering, if nothing can be played; and here, if the name is not fit for a topic.
    """

    def __init__(
        self, path_or_url: str, *, speed: Speed, name: str | None = None, clock: Clock | None = None
    ) -> None:
        self._target = str(path_or_url)
        self._name = stream_name(self._target) if name is None else name
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self._name):
            raise SourceError(
                f"expected a stream name of letters, digits, '.', '_' and '-', got {self._name!r}; choose another"
            )
        self._pacer = Pacer(Speed(speed), clock or MonotonicClock())
        self._stopped = threading.Event()
        self._containers: list[Any] = []
        self._tracks: list[Track] = []
        self._packets: list[Packets] = []
        self._empty: list[str] = []
        self._zero_ns = 0
        self._n_late = 0
        self._info: SourceInfo | None = None

    @property
    def info(self) -> SourceInfo:
        """What was found; known once entered."""
        if self._info is None:
            raise RuntimeError("expected an open source: read .info inside its `with` block")
        return self._info

    def __enter__(self) -> Self:
        """Open, and decode the first item of each track.

        Raises:
            SourceError: If there is no such file, it is none that FFmpeg reads, or it holds neither video nor audio.
        """
        av.logging.set_level(None)  # what FFmpeg prints, this source says in events
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the containers."""
        self._close()

    def stop(self) -> None:
        """End the iteration at its next item, and a paced wait at once. Any thread may call.

        A read from a network that has gone silent ends by its own timeout, 10 s at most.
        """
        self._stopped.set()

    def __iter__(self) -> Iterator[Item]:
        """The items, once."""
        for name in self._empty:
            yield SourceEvent(t_ns=0, kind="empty_track", text=f"the {name} track holds nothing that decodes")
        self._pacer.start()
        heads: list[tuple[int, VideoFrame | AudioBlock] | None] = [None] * len(self._tracks)
        open_tracks = set(range(len(self._tracks)))
        last_ns = 0
        while open_tracks and not self._stopped.is_set():
            self._fill(heads, open_tracks)
            ready = [k for k in open_tracks if heads[k] is not None]
            if not ready:
                continue
            first = min(ready, key=lambda k: (heads[k][0], -k))  # type: ignore[index]  # audio is the later track
            due_ns, item = heads[first]  # type: ignore[misc]
            heads[first] = None
            if due_ns < last_ns:
                self._n_late += 1
                continue
            last_ns = due_ns
            self._pacer.await_due(due_ns, self._stopped)
            if not self._stopped.is_set():
                yield item
        if not self._stopped.is_set():
            yield from self._closing_events(last_ns)
