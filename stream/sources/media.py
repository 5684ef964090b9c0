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
from stream.records import AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.sources.container import check_local, closing_notes, cut_off, describe, pick, stream_name
from stream.sources.decode import Decoder, Packets, Starved
from stream.sources.errors import SourceError
from stream.sources.pacing import Pacer, Speed
from stream.sources.tracks import AudioTrack, Track, VideoTrack

__all__ = ["MediaSource", "SourceError", "Speed"]

Item = VideoFrame | AudioBlock | SourceEvent


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
        timeout_s: Longest wait for a network to answer, or to send more.

    Raises:
        SourceError: On entering, if nothing can be played; and here, if the name is not fit for a topic.
    """

    def __init__(
        self,
        path_or_url: str,
        *,
        speed: Speed,
        name: str | None = None,
        clock: Clock | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._target = str(path_or_url)
        self._name = stream_name(self._target) if name is None else name
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self._name):
            raise SourceError(
                f"expected a stream name of letters, digits, '.', '_' and '-', got {self._name!r}; choose another"
            )
        self._pacer = Pacer(Speed(speed), clock or MonotonicClock())
        self._timeout_s = timeout_s
        self._stopped = threading.Event()
        self._containers: list[Any] = []
        self._tracks: list[Track] = []
        self._packets: list[Packets] = []
        self._empty: list[str] = []
        self._zero_ns = 0
        self._cut: str | None = None
        self._n_late = 0
        self._info: SourceInfo | None = None

    @property
    def info(self) -> SourceInfo:
        """What was found; known once entered."""
        if self._info is None:
            raise RuntimeError("expected an open source: read .info inside its `with` block")
        return self._info

    @property
    def paced(self) -> bool:
        """Whether items are held back until they are due."""
        return self._pacer.paced

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

        A read from a network that has gone silent ends after `timeout_s`.
        """
        self._stopped.set()

    def health(self) -> SourceHealth:
        """A file has no device that could be ill."""
        return SourceHealth()

    def __iter__(self) -> Iterator[Item]:
        """The items, once.

        Raises:
            RuntimeError: Outside the `with` block.
        """
        if not self._tracks:
            raise RuntimeError("expected an open source: iterate inside its `with` block")
        for name in self._empty:
            yield SourceEvent(t_ns=0, kind="empty_track", text=f"the {name} track holds nothing that decodes")
        self._pacer.start()
        last_ns = 0
        for due_ns, item in self._merged():
            self._pacer.await_due(due_ns, self._stopped)
            if self._stopped.is_set():
                return
            last_ns = due_ns
            yield item
        for kind, text in closing_notes(self._tracks, self._packets, self._cut, self._n_late):
            yield SourceEvent(t_ns=last_ns, kind=kind, text=text)

    def _merged(self) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
        heads: dict[int, tuple[int, VideoFrame | AudioBlock]] = {}
        running = set(range(len(self._tracks)))
        last_ns = 0
        while True:
            for k in sorted(running - heads.keys()):
                try:
                    head = self._tracks[k].next(self._zero_ns)
                except Starved:
                    continue  # this track is too far behind to wait for
                if head is None:
                    running.discard(k)
                else:
                    heads[k] = head
            if not heads:
                return
            # Audio first where both are due: what is known at a frame's time includes the audio until then.
            first = min(heads, key=lambda k: (heads[k][0], isinstance(heads[k][1], VideoFrame)))
            due_ns, item = heads.pop(first)
            if due_ns < last_ns:
                self._n_late += 1
            else:
                last_ns = due_ns
                yield due_ns, item

    def _open(self) -> None:
        local = check_local(self._target)
        container = self._open_container(local)
        video, audio = pick(container, "video"), pick(container, "audio")
        wanted = [stream for stream in (video, audio) if stream is not None]
        if not wanted or container.format.name == "tty":  # FFmpeg would play a .txt file as a terminal's picture
            raise SourceError(
                f"expected a file with a video or an audio track, got {self._target} without one that can be decoded; "
                "choose another file"
            )
        if local is not None and Path(local).is_file():
            self._cut = cut_off(local, container.format.name)
            others = [self._open_container(local) for _ in wanted[1:]]
            wanted = [wanted[0], *(other.streams[wanted[1].index] for other in others)]
            self._packets = [Packets(stream.container, [stream]) for stream in wanted]
            decoders = [Decoder(packets, stream) for packets, stream in zip(self._packets, wanted, strict=True)]
        else:
            self._packets = [Packets(container, wanted)]
            decoders = [Decoder(self._packets[0], stream) for stream in wanted]
        self._begin(decoders)
        self._info = describe(self._name, container, [track.decoder.stream for track in self._tracks])

    def _open_container(self, local: str | None) -> Any:
        timeout = None if local is not None else (self._timeout_s, self._timeout_s)
        # The prefix keeps a colon in a file's name from being read as a protocol.
        target = self._target if local is None else f"file:{local}"
        try:
            container = av.open(target, timeout=timeout)
        except (av.FFmpegError, OSError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if local is None:
                text = f"expected a URL that can be read, got {self._target} ({why}); check the address and the network"
            else:
                text = (
                    f"expected a media file, got {self._target}, which FFmpeg cannot read ({why}); it is of another "
                    "kind, or damaged at its start or end"
                )
            raise SourceError(text) from error
        self._containers.append(container)
        return container

    def _begin(self, decoders: list[Decoder]) -> None:
        firsts_ns = []
        for decoder in decoders:
            try:
                frame = decoder.peek()
            except Starved:
                frame = None
            else:
                if frame is None:
                    self._empty.append(decoder.stream.type)
                    continue
            self._tracks.append((VideoTrack if decoder.stream.type == "video" else AudioTrack)(decoder))
            if frame is not None:
                firsts_ns.append(decoder.time_ns(frame) or 0)
        if not self._tracks:
            raise SourceError(
                f"expected a track that can be decoded, got {self._target} with only empty ones; choose another file"
            )
        self._zero_ns = min(firsts_ns, default=0)

    def _close(self) -> None:
        for container in self._containers:
            container.close()
        # The tracks hold decoders: let go of them now, not when the source itself goes.
        self._containers, self._tracks, self._packets = [], [], []
