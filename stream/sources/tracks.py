"""One track of a container, decoded: packets in, video frames or audio blocks in ascending order of time out.

Times are still the container's here, in nanoseconds; `MediaSource` says what time zero is before the first item.
"""

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from stream.records import RATE_HZ, AudioBlock, VideoFrame
from stream.sources.resample import AudioGrid
from stream.windows import NS_PER_S

RESTART_NS = 1_000_000_000  # timestamps that run back further than this began anew: files joined end to end
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
        return sum(packet.size for packet in queue) > MAX_AHEAD_BYTES


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
        return self._ready.popleft() if self.peek() is not None else None

    def _decode(self, packet: Any | None) -> bool:
        try:
            frames = self.stream.decode(packet)
        except EOFError:
            return True
        except av.FFmpegError:
            self.n_damaged += 1
            self.n_damaged_last += 1
            return False
        for frame in frames:
            self.n_damaged_last = self.n_damaged_last + 1 if frame.is_corrupt else 0
            self.n_damaged += frame.is_corrupt
        self._ready.extend(frames)
        return not frames

    def _flush(self) -> None:
        # A damaged tail raises, and what is good lies behind it: ask again, within a bound.
        for _ in range(MAX_READ_ERRORS):
            if self._decode(None):
                break
        self._flushed = True


class Track(Protocol):
    """What `MediaSource` merges: items in ascending order of the time when they are due."""

    decoder: Decoder
    end_ns: int
    n_left_out: int
    n_restarts: int

    def next(self, zero_ns: int) -> tuple[int, VideoFrame | AudioBlock] | None:
        """The next item and when it is due on the session timeline; None at the end."""
        ...


class VideoTrack:
    """Upright RGB frames, strictly ascending in time.

    A frame without a timestamp follows its predecessor by one frame period. One whose time repeats or runs back is
    left out and counted; one that runs back by more than a second belongs to a file joined on, and goes on from here.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.end_ns = 0
        self.n_left_out = 0
        self.n_restarts = 0
        rate = decoder.stream.average_rate or decoder.stream.guessed_rate or Fraction(25)
        self._period_ns = int(NS_PER_S / rate)
        self._shift_ns = 0
        self._last_ns: int | None = None
        self._reformatter = VideoReformatter()  # kept: building swscale's tables takes ten times as long as a frame

    def next(self, zero_ns: int) -> tuple[int, VideoFrame] | None:
        """The next frame and its time."""
        while (frame := self.decoder.next()) is not None:
            t_ns = self._place(frame, zero_ns)
            if t_ns is None:
                self.n_left_out += 1
                continue
            self._last_ns = t_ns
            self.end_ns = t_ns + (duration_ns(frame) or self._period_ns)
            return t_ns, VideoFrame(t_ns=t_ns, image=self._image(frame))
        return None

    def _place(self, frame: Any, zero_ns: int) -> int | None:
        stated_ns = time_ns(frame)
        following_ns = 0 if self._last_ns is None else self._last_ns + self._period_ns
        if stated_ns is None:
            return following_ns
        t_ns = stated_ns - zero_ns + self._shift_ns
        if self._last_ns is not None and t_ns <= self._last_ns - RESTART_NS:
            self._shift_ns += following_ns - t_ns
            self.n_restarts += 1
            return following_ns
        return t_ns if t_ns > (-1 if self._last_ns is None else self._last_ns) else None

    def _image(self, frame: Any) -> np.ndarray:
        # One thread: slices of small pictures cost more to hand out than to convert.
        image: np.ndarray = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
        return image if matrix is None else upright(image, np.frombuffer(bytes(matrix), np.int32))


class AudioTrack:
    """Mono blocks at 16 kHz on the session grid; see `AudioGrid` for what is done with the timestamps."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.end_ns = 0
        self.n_restarts = 0
        self._grid = AudioGrid()
        self._ready: deque[AudioBlock] = deque()
        self._shift_ns = 0
        self._heard_ns = 0
        self._ended = False

    @property
    def n_left_out(self) -> int:
        """Samples of the file whose time had already been served."""
        return self._grid.n_left_out

    def next(self, zero_ns: int) -> tuple[int, AudioBlock] | None:
        """The next block and its end: only then has all of it been heard."""
        while not self._ready and not self._ended:
            frame = self.decoder.next()
            self._ended = frame is None
            self._ready.extend(self._grid.flush() if frame is None else self._push(frame, zero_ns))
        if not self._ready:
            return None
        block = self._ready.popleft()
        self.end_ns = -(-(block.first + len(block.samples)) * NS_PER_S // RATE_HZ)
        return self.end_ns, block

    def _push(self, frame: Any, zero_ns: int) -> list[AudioBlock]:
        t_ns = time_ns(frame)
        if t_ns is not None:
            t_ns += self._shift_ns - zero_ns
            if t_ns <= self._heard_ns - RESTART_NS:
                self._shift_ns += self._heard_ns - t_ns
                t_ns = self._heard_ns
                self.n_restarts += 1
        samples = mono(frame)
        start_ns = self._heard_ns if t_ns is None else t_ns
        self._heard_ns = start_ns + len(samples) * NS_PER_S // frame.sample_rate
        return self._grid.push(samples, frame.sample_rate, t_ns)


def time_ns(frame: Any) -> int | None:
    """When a decoded frame is shown or heard, by the container's clock; None where the file does not say."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else int(stamp * frame.time_base * NS_PER_S)


def duration_ns(frame: Any) -> int:
    """How long a decoded frame is shown; 0 where the file does not say."""
    return int(frame.duration * frame.time_base * NS_PER_S) if frame.duration and frame.time_base else 0


def mono(frame: Any) -> np.ndarray:
    """(n,) float32 in [-1, 1]: the mean of a decoded audio frame's channels, of any sample format."""
    samples = frame.to_ndarray()
    samples = samples.reshape(-1, frame.layout.nb_channels).T if not frame.format.is_planar else samples
    if samples.dtype.kind == "f":
        # A broken float track may hold NaN, which a filter would spread over all that follows.
        return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).mean(0, dtype=np.float32)
    middle = 128 if samples.dtype == np.uint8 else 0
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples.mean(0, dtype=np.float64) - middle) / full_scale).astype(np.float32)


def upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror a picture as its display matrix asks.

    Args:
        image: (height_px, width_px, 3) uint8.
        matrix: (9,) int32: FFmpeg's display matrix, which maps (x, y) to (a x + c y, b x + d y) for (a, b, c, d) =
            entries 0, 1, 3, 4. It is taken to the nearest of the eight orientations.

    Returns:
        (height_px, width_px, 3) or (width_px, height_px, 3) uint8, contiguous.
    """
    a, b, c, d = (int(matrix[k]) for k in (0, 1, 3, 4))
    if abs(b) > abs(a):
        image, flip_x, flip_y = image.swapaxes(0, 1), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
