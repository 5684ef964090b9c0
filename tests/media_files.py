"""Makes small media files whose content is known: each picture tells its number, each sound its time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICKS_HZ = 90_000  # time base of pictures whose times are given one by one

Packets = Callable[[], Iterator[Any]]  # encodes a track, once its container has begun


def numbered(i: int, height_px: int, width_px: int) -> np.ndarray:
    """A grey picture whose level is 20 + 8 i (up to i = 25), so that `number_of` reads i from it again."""
    return np.full((height_px, width_px, 3), 20 + 8 * (i % 26), np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number, modulo 26, of a picture made by `numbered` and coded with losses."""
    return round((float(image.mean()) - 20) / 8)


def quadrants(i: int, height_px: int, width_px: int) -> np.ndarray:
    """Red, green / blue, white quadrants: top left, top right / bottom left, bottom right."""
    image = np.full((height_px, width_px, 3), 255, np.uint8)
    image[: height_px // 2, : width_px // 2] = 255, 0, 0
    image[: height_px // 2, width_px // 2 :] = 0, 255, 0
    image[height_px // 2 :, : width_px // 2] = 0, 0, 255
    return image


def tone(t_s: np.ndarray) -> np.ndarray:
    """440 Hz at half of full scale, as a function of time in seconds."""
    return 0.5 * np.sin(2 * np.pi * 440 * t_s)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video track.

    Attributes:
        n_frames: Number of pictures, at `rate_hz` from `start_s` on; without meaning where `times_s` is given.
        times_s: Presentation time of each picture, for a variable frame rate.
        rotation_deg: Counter-clockwise turn that the display matrix asks of a player; `mirrored` a flip after it.
        picture: (number, height_px, width_px) to (height_px, width_px, 3) uint8, RGB, before any rotation.
    """

    width_px: int = 64
    height_px: int = 48
    rate_hz: int = 25
    n_frames: int = 25
    start_s: float = 0.0
    times_s: Sequence[float] | None = None
    codec: str = "libx264"
    pixels: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("crf", "10"))
    rotation_deg: int = 0
    mirrored: bool = False
    picture: Callable[[int, int, int], np.ndarray] = numbered

    @property
    def time_base(self) -> Fraction:
        """Unit of the presentation times; MPEG-1 and MPEG-4 take no finer one than the frame rate."""
        return Fraction(1, self.rate_hz if self.times_s is None else TICKS_HZ)

    def stamps(self) -> list[int]:
        """Presentation time of every picture, in `time_base`."""
        times_s = self.times_s
        if times_s is None:
            times_s = [self.start_s + i / self.rate_hz for i in range(self.n_frames)]
        return [round(t_s / self.time_base) for t_s in times_s]


@dataclass(frozen=True, kw_only=True)
class Audio:
    """An audio track.

    Attributes:
        duration_s: Length from `start_s` on.
        gaps_s: [start, end) parts that are left out, timestamps and all, on the file's timeline.
        sound: Time in seconds, (n,) float64, to (n,) or (n_channels, n) in [-1, 1].
        packet: Samples handed to the encoder at once; for PCM the size of the file's packets.
        empty: Declare the track and write nothing to it.
    """

    rate_hz: int = 44_100
    layout: str = "mono"
    codec: str = "pcm_s16le"
    duration_s: float = 1.0
    start_s: float = 0.0
    gaps_s: Sequence[tuple[float, float]] = ()
    sound: Callable[[np.ndarray], np.ndarray] = tone
    packet: int = 1024
    empty: bool = False


def write_media(
    path: Path, *, video: Video | None = None, audio: Audio | None = None, interleaved: bool = True
) -> Path:
    """Write a file; the suffix of `path` says the container. PCM audio goes into .mkv, .mov, .avi and .wav.

    Args:
        path: Where to; returned for convenience.
        video: The video track, if any.
        audio: The audio track, if any.
        interleaved: False writes all of the video before any of the audio.
    """
    options = {} if interleaved else {"max_interleave_delta": "1"}
    with av.open(str(path), "w", container_options=options) as container:
        encoders = []
        if video is not None:
            encoders.append(_video_packets(container, video))
        if audio is not None:
            encoders.append(_audio_packets(container, audio))
        container.start_encoding()
        for packets in encoders:
            for packet in packets():
                container.mux(packet)
    return path


def truncate(path: Path, fraction: float) -> Path:
    """Cut a file to its first `fraction` of bytes; returns a new file beside it."""
    cut = path.with_stem(f"{path.stem}_cut")
    content = path.read_bytes()
    cut.write_bytes(content[: int(len(content) * fraction)])
    return cut


def damage(path: Path, start: float, end: float, seed: int = 0) -> Path:
    """Overwrite the bytes between two fractions of a file with noise; returns a new file beside it."""
    broken = path.with_stem(f"{path.stem}_broken")
    content = bytearray(path.read_bytes())
    first, last = int(len(content) * start), int(len(content) * end)
    content[first:last] = np.random.default_rng(seed).bytes(last - first)
    broken.write_bytes(content)
    return broken


def _video_packets(container: Any, video: Video) -> Packets:
    stream = container.add_stream(video.codec, rate=video.rate_hz, options=dict(video.options))
    stream.width, stream.height, stream.pix_fmt = video.width_px, video.height_px, video.pixels
    stream.codec_context.time_base = video.time_base
    if video.rotation_deg or video.mirrored:
        stream.set_display_rotation(video.rotation_deg, hflip=video.mirrored)

    def packets() -> Iterator[Any]:
        for i, stamp in enumerate(video.stamps()):
            frame = av.VideoFrame.from_ndarray(video.picture(i, video.height_px, video.width_px), format="rgb24")
            frame.time_base, frame.pts = video.time_base, stamp
            yield from stream.encode(frame)
        yield from stream.encode()

    return packets


def _audio_packets(container: Any, audio: Audio) -> Packets:
    stream = container.add_stream(audio.codec, rate=audio.rate_hz)
    stream.layout = audio.layout

    def packets() -> Iterator[Any]:
        if audio.empty:
            return
        for first, last in _runs(audio):
            for start in range(first, last, audio.packet):
                index = np.arange(start, min(start + audio.packet, last))
                yield from stream.encode(_audio_frame(audio, stream, index))
        yield from stream.encode()

    return packets


def _runs(audio: Audio) -> list[tuple[int, int]]:
    # [first, last) sample numbers, counted from the file's time 0, of what lies between the gaps.
    edges = [audio.start_s, *(t_s for gap in audio.gaps_s for t_s in gap), audio.start_s + audio.duration_s]
    samples = [round(t_s * audio.rate_hz) for t_s in edges]
    return list(zip(samples[::2], samples[1::2], strict=True))


def _audio_frame(audio: Audio, stream: Any, index: np.ndarray) -> Any:
    sound = np.atleast_2d(audio.sound(index / audio.rate_hz))
    n_channels = av.AudioLayout(audio.layout).nb_channels
    channels = np.ascontiguousarray(np.broadcast_to(sound, (n_channels, sound.shape[1])), np.float32)
    frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=audio.layout)
    frame.sample_rate = audio.rate_hz
    converted = av.AudioResampler(stream.codec_context.format, audio.layout, audio.rate_hz).resample(frame)[0]
    converted.pts, converted.time_base = int(index[0]), Fraction(1, audio.rate_hz)
    return converted
