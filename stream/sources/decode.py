"""One container's packets, and the decoders that turn them into frames; what is damaged is skipped and counted."""

import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import av

from stream.windows import NS_PER_S

MAX_AHEAD_BYTES = 64 * 2**20  # of packets kept for one track while the other one's are sought
MAX_AHEAD_S = 10.0
MAX_READ_ERRORS = 64  # in a row, before the rest of a damaged container is given up


class Starved(Exception):  # noqa: N818 - a state, not an error
    """A track has no packet within the bound on how far the other track is read ahead."""


class Packets:
    """Reads a container's packets and keeps each for its track; the bound holds only where several tracks share it.

    Args:
        container: Open container; nobody else reads it.
        streams: The tracks wanted.
    """

    def __init__(self, container: Any, streams: list[Any]) -> None:
        self._container = container
        self._streams = streams
        self._queues: dict[int, deque[Any]] = {stream.index: deque() for stream in streams}
        self._packets: Iterator[Any] = container.demux(*streams)
        self._n_errors_in_row = 0
        self.failure: str | None = None  # why reading ended before the end

    def next(self, index: int) -> Any | None:
        """The next packet of track `index`; None at the end.

        Raises:
            Starved: If the other track already lies 10 s or 64 MiB ahead.
        """
        queue = self._queues[index]
        while not queue:
            if any(self._full(other) for key, other in self._queues.items() if key != index):
                raise Starved
            packet = self._read()
            if packet is None:
                return None
            if packet.size:  # the empty one that ends a track is not needed: the decoder is flushed by hand
                self._queues[packet.stream_index].append(packet)
        return queue.popleft()

    def _read(self) -> Any | None:
        while True:
            try:
                packet = next(self._packets, None)
            except av.FFmpegError as error:
                self._n_errors_in_row += 1
                lost = isinstance(error, OSError) and not isinstance(error, EOFError)
                if lost or self._n_errors_in_row >= MAX_READ_ERRORS:
                    self.failure = error.strerror or type(error).__name__
                    return None
                self._packets = self._container.demux(*self._streams)
            else:
                self._n_errors_in_row = 0
                return packet

    def _full(self, queue: deque[Any]) -> bool:
        if len(queue) < 2:
            return False
        first, last = queue[0], queue[-1]
        if first.dts is not None and last.dts is not None and (last.dts - first.dts) * last.time_base > MAX_AHEAD_S:
            return True
        return sum(int(packet.size) for packet in queue) > MAX_AHEAD_BYTES


class Decoder:
    """Decodes one track; what does not decode is skipped and counted.

    Attributes:
        n_damaged: Packets that did not decode, and frames that the decoder marked as corrupt.
        n_damaged_last: How many of them came after the last good frame.
    """

    def __init__(self, packets: Packets, stream: Any) -> None:
        self.stream = stream
        self.n_damaged = 0
        self.n_damaged_last = 0
        self._packets = packets
        self._ready: deque[Any] = deque()
        self._flushed = False
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(os.cpu_count() or 1, 4)

    def peek(self) -> Any | None:
        """The next frame as PyAV has it, left in place; None at the end.

        Raises:
            Starved: As `Packets.next`.
        """
        while not self._ready and not self._flushed:
            packet = self._packets.next(self.stream.index)
            if packet is None:
                self._flush()
            else:
                self._decode(packet)
        return self._ready[0] if self._ready else None

    def next(self) -> Any | None:
        """The next frame, taken."""
        return None if self.peek() is None else self._ready.popleft()

    def time_ns(self, frame: Any) -> int | None:
        """When a frame is shown or heard, by the container's clock; None where the file does not say."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        # Frames that come out when the decoder is flushed carry no time base of their own: the track's is theirs.
        return None if stamp is None else int(stamp * self.stream.time_base * NS_PER_S)

    def duration_ns(self, frame: Any) -> int:
        """How long a frame is shown; 0 where the file does not say."""
        return int((frame.duration or 0) * self.stream.time_base * NS_PER_S)

    def _decode(self, packet: Any | None) -> bool:
        # True where there is nothing more to come for now.
        try:
            frames: list[Any] = self.stream.decode(packet)
        except EOFError:
            return True
        except av.FFmpegError:
            self.n_damaged += 1
            self.n_damaged_last += 1
            return False
        for frame in frames:
            self.n_damaged_last = self.n_damaged_last + 1 if frame.is_corrupt else 0
            self.n_damaged += int(frame.is_corrupt)
        self._ready.extend(frames)
        return not frames

    def _flush(self) -> None:
        # A damaged tail raises, and what is good lies behind it: ask again, within a bound.
        for _ in range(MAX_READ_ERRORS):
            if self._decode(None):
                break
        self._flushed = True
