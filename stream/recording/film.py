"""One Matroska file being written: picture and sound as they come, readable up to the last half second at any moment.

Each picture and each block of sound carries its own time, so a rate that varies and a gap in the sound stay what they
were; nothing is written in place of sound that never came. Matroska's clock ticks in milliseconds.
"""

import contextlib
import os
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from stream.records import RATE_HZ, AudioBlock, VideoFrame
from stream.windows import NS_PER_S

KEY_NS = NS_PER_S  # between pictures that can be decoded by themselves
TICKS_HZ = 1_000_000  # of the encoders' clock
NOMINAL_HZ = 30  # where the source states no rate: a hint for rate control, times are given one by one
MUXER = {
    "cluster_time_limit": "250",  # ms until a stretch of media is written
    "max_interleave_delta": "200000",  # microseconds that one track waits for the other
    "flush_packets": "1",
}
# No picture waits in the encoder for a later one.
LOSSY = {"preset": "superfast", "tune": "zerolatency", "crf": "20", "g": "600"}
# Version 3 with checksums and slices; the fastest coder and context that it has.
LOSSLESS = {"level": "3", "slices": "4", "slicecrc": "1", "coder": "0", "context": "0", "g": "1"}
LOSSLESS_TINY = {"level": "1", "g": "1"}  # for pictures that cannot be cut into slices
TINY_PX = 16


class Film:
    """A file of a recording.

    Args:
        path: The file; must not exist.
        size_px: Width and height of its first picture; None has no picture.
        has_audio: Whether it has sound.
        lossless: FFV1 in RGB and float32 samples, bit by bit; otherwise H.264 and 16 bits.
        rate_hz: Rate that the source states.
        origin_ns: Session time of the film's zero, in whole milliseconds.

    Raises:
        av.FFmpegError, OSError: If it cannot be written; `add` and `close` may raise them, too.
    """

    def __init__(
        self,
        path: Path,
        *,
        size_px: tuple[int, int] | None,
        has_audio: bool,
        lossless: bool,
        rate_hz: float | None,
        origin_ns: int = 0,
    ) -> None:
        self._path, self._lossless, self._size_px, self._origin_ns = path, lossless, size_px, origin_ns
        self._sizes = deque([0], maxlen=2)  # of the file, in bytes, whenever a stretch of media was written whole
        path.open("xb").close()
        self._container: Any = av.open(f"file:{path}", "w", format="matroska", container_options=MUXER)
        self._last_tick, self._key_ns, self._last_sample = -1, -KEY_NS, 0
        try:
            self._video = self._add_video(size_px, rate_hz) if size_px is not None else None
            self._audio = self._add_audio() if has_audio else None
            self._container.start_encoding()
        except BaseException:
            self._container.close()
            raise

    def _add_video(self, size_px: tuple[int, int], rate_hz: float | None) -> Any:
        codec, options = "libx264", LOSSY
        if self._lossless:
            codec, options = "ffv1", LOSSLESS_TINY if min(size_px) < TINY_PX else LOSSLESS
        rate = Fraction(rate_hz or NOMINAL_HZ).limit_denominator(1001)
        video = self._container.add_stream(codec, rate=rate, options=dict(options))
        self._canvas_px = size_px if self._lossless else (size_px[0] + size_px[0] % 2, size_px[1] + size_px[1] % 2)
        video.width, video.height = self._canvas_px
        video.pix_fmt = "bgr0" if self._lossless else "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, TICKS_HZ)
        context.thread_type = "SLICE"  # threads by picture would each hold one back
        if not self._lossless:
            context.colorspace, context.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        return video

    def _add_audio(self) -> Any:
        audio = self._container.add_stream("pcm_f32le" if self._lossless else "pcm_s16le", rate=RATE_HZ)
        audio.layout = "mono"
        return audio

    def holds(self, item: VideoFrame | AudioBlock) -> bool:
        """Whether an item can be added; where not, it needs another file."""
        if isinstance(item, AudioBlock):
            return self._audio is not None
        size_px = item.image.shape[1], item.image.shape[0]
        return self._video is not None and (not self._lossless or size_px == self._size_px)

    def add(self, item: VideoFrame | AudioBlock) -> None:
        """Encode an item, which the file `holds`, after all before it."""
        if isinstance(item, AudioBlock):
            track, frame = self._audio, self._sound(item)
        else:
            track, frame = self._video, self._picture(item)
        assert track is not None  # it `holds` the item
        self._container.mux(track.encode(frame))
        n_bytes = self._path.stat().st_size
        if n_bytes != self._sizes[-1]:
            self._sizes.append(n_bytes)

    def _sound(self, block: AudioBlock) -> Any:
        samples, kind = block.samples, "flt"
        if not self._lossless:
            samples, kind = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16), "s16"
        frame: Any = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format=kind, layout="mono")
        first = block.first - self._origin_ns * RATE_HZ // NS_PER_S
        self._last_sample = max(first, self._last_sample)  # Matroska's time neither runs back nor begins below 0
        frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), self._last_sample
        return frame

    def _picture(self, item: VideoFrame) -> Any:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(item.image), format="rgb24")
        if (frame.width, frame.height) != self._canvas_px:
            frame = _letterboxed(frame, self._canvas_px)
        self._last_tick = max((item.t_ns - self._origin_ns) * TICKS_HZ // NS_PER_S, self._last_tick + 1)
        frame.time_base, frame.pts = Fraction(1, TICKS_HZ), self._last_tick
        if item.t_ns - self._key_ns >= KEY_NS:
            frame.pict_type, self._key_ns = PictureType.I, item.t_ns
        return frame

    def close(self) -> None:
        """Write what the encoders hold, and the index."""
        try:
            for track in (self._video, self._audio):
                if track is not None:
                    self._container.mux(track.encode())
        finally:
            self._container.close()

    def abandon(self, *, cut: bool) -> None:
        """Let go of a file whatever comes of it; nothing is raised.

        Args:
            cut: Take what is torn off its end, and the stretch before that: on a full disk the times of what stays
                need the room.
        """
        with contextlib.suppress(av.FFmpegError, OSError):
            self.close()
        with contextlib.suppress(OSError):
            if cut:
                os.truncate(self._path, self._sizes[0])


def _letterboxed(frame: av.VideoFrame, canvas_px: tuple[int, int]) -> av.VideoFrame:
    width_px, height_px = canvas_px
    if not (0 <= width_px - frame.width < 2 and 0 <= height_px - frame.height < 2):
        scale = min(width_px / frame.width, height_px / frame.height)
        inner = max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)
        frame = frame.reformat(width=inner[0], height=inner[1])
    canvas = np.zeros((height_px, width_px, 3), np.uint8)
    left, top = (width_px - frame.width) // 2, (height_px - frame.height) // 2
    canvas[top : top + frame.height, left : left + frame.width] = frame.to_ndarray(format="rgb24")
    return av.VideoFrame.from_ndarray(canvas, format="rgb24")
