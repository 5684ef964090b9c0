"""Decoded frames made into video frames and audio blocks, each in its place on the session timeline."""

from collections import deque
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from stream.records import RATE_HZ, AudioBlock, VideoFrame
from stream.sources.decode import Decoder
from stream.sources.resample import AudioGrid
from stream.windows import NS_PER_S

RESTART_NS = 1_000_000_000  # timestamps that run back further than this began anew: files joined end to end


class Track(Protocol):
    """What `MediaSource` merges: items in ascending order of the time when they are due."""

    decoder: Decoder
    start_ns: int
    end_ns: int
    n_restarts: int

    @property
    def n_left_out(self) -> int:
        """Frames, or samples, of the file that were not handed out because of their time."""
        ...

    def next(self, zero_ns: int) -> tuple[int, VideoFrame] | tuple[int, AudioBlock] | None:
        """The next item and when it is due on the session timeline; None at the end."""
        ...


class VideoTrack:
    """Upright RGB frames, strictly ascending in time.

    A frame without a timestamp follows its predecessor by one frame period. One whose time repeats or runs back is
    left out and counted; one that runs back by more than a second belongs to a file joined on, and goes on from here.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.start_ns = 0
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
            if self._last_ns is None:
                self.start_ns = t_ns
            self._last_ns = t_ns
            self.end_ns = t_ns + (self.decoder.duration_ns(frame) or self._period_ns)
            return t_ns, VideoFrame(t_ns=t_ns, image=self._image(frame))
        return None

    def _place(self, frame: Any, zero_ns: int) -> int | None:
        stated_ns = self.decoder.time_ns(frame)
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
        self.start_ns = 0
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
        if not self.end_ns:
            self.start_ns = block.first * NS_PER_S // RATE_HZ
        self.end_ns = -(-(block.first + len(block.samples)) * NS_PER_S // RATE_HZ)
        return self.end_ns, block

    def _push(self, frame: Any, zero_ns: int) -> list[AudioBlock]:
        t_ns = self.decoder.time_ns(frame)
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


def mono(frame: Any) -> np.ndarray:
    """(n,) float32 in [-1, 1]: the mean of a decoded audio frame's channels, of any sample format."""
    samples = frame.to_ndarray()
    samples = samples.reshape(-1, frame.layout.nb_channels).T if not frame.format.is_planar else samples
    if samples.dtype.kind == "f":
        # A broken float track may hold NaN, which a filter would spread over all that follows.
        return np.asarray(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).mean(0, dtype=np.float32))
    middle = 128 if samples.dtype == np.uint8 else 0
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return np.asarray((samples.mean(0, dtype=np.float64) - middle) / full_scale, np.float32)


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
