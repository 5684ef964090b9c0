"""Cameras on the network, read by FFmpeg: MJPEG over HTTP, RTSP, and whatever else it knows.

PyAV and not OpenCV opens these, though both use FFmpeg. OpenCV does not say why a camera could not be opened, prints
FFmpeg's complaints on the terminal at each attempt, decodes H.264 with as many frames of delay as there are cores,
and takes FFmpeg's options only from the environment of the whole process.
"""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import av
import av.logging
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from stream.sources.cameras.capture import PictureFormat
from stream.sources.errors import SourceError

OPEN_S = 5.0  # for a camera to answer and say what it sends
READ_S = 3.0  # longest that a read blocks: the thread of a camera that hangs ends by itself
# Over UDP a lost packet is a smeared picture.
OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}, "rtsps": {"rtsp_transport": "tcp"}}


def shown(url: str) -> str:
    """A URL that may be shown: without the password in it."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


class NetworkCapture:
    """A camera by its URL; see `Capture`.

    Args:
        url: Where it is.
        asked: What it must give: a camera on the network cannot be asked for anything else.

    Raises:
        SourceError: If it cannot be opened, or gives something else than was asked for.
    """

    def __init__(self, url: str, asked: PictureFormat, *, open_s: float = OPEN_S, read_s: float = READ_S) -> None:
        self.name = shown(url)
        self._frame: av.VideoFrame | None = None
        av.logging.set_level(None)  # what FFmpeg prints, the errors here say
        try:
            self._container: Any = av.open(url, timeout=(open_s, read_s), options=OPTIONS.get(urlsplit(url).scheme, {}))
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"expected a camera at {self.name}, got {_why(url, error, open_s)}") from error
        try:
            self.came = self._begin()
            if not asked.met_by(self.came):
                raise SourceError(
                    f"expected {asked} from {self.name}, got {self.came}; change it in the camera's own settings, or "
                    "leave the choice to it"
                )
        except BaseException:
            self._container.close()
            raise

    def grab(self) -> bool:
        """Wait for the next picture; false when the stream has ended or been silent for too long."""
        try:
            self._frame = next(self._frames, None)
        except (av.FFmpegError, OSError):
            self._frame = None
        return self._frame is not None

    def picture(self) -> np.ndarray:
        """The picture last grabbed."""
        assert self._frame is not None
        # One thread: slices of small pictures cost more to hand out than to convert.
        return np.asarray(self._reformatter.reformat(self._frame, format="rgb24", threads=1).to_ndarray())

    def close(self) -> None:
        """Close the connection."""
        self._frames, self._frame = iter(()), None  # they hold the decoder
        self._container.close()

    def _begin(self) -> PictureFormat:
        stream = next(iter(self._container.streams.video), None)
        if stream is None or self._container.format.name == "tty":
            raise SourceError(
                f"expected a camera at {self.name}, got what holds no video; check the path after the host"
            )
        if self._container.duration and urlsplit(self.name).scheme.startswith("http"):
            length_s = self._container.duration / av.time_base
            raise SourceError(
                f"expected a camera at {self.name}, got a recording of {length_s:.1f} s; use `emocast replay` for it"
            )
        codec = stream.codec_context
        codec.thread_count = 1  # each more would hold one picture back
        codec.flags |= Flags.low_delay
        self._reformatter = VideoReformatter()  # kept: building swscale's tables takes ten times as long as a frame
        self._frames = self._decoded(stream)
        return PictureFormat(
            width_px=codec.width or None,
            height_px=codec.height or None,
            rate_hz=float(stream.average_rate) if stream.average_rate else None,
        )

    def _decoded(self, stream: Any) -> Iterator[Any]:
        for packet in self._container.demux(stream):
            try:
                yield from packet.decode()
            except av.InvalidDataError:  # one damaged picture; the next one may be whole
                continue


def _why(url: str, error: Exception, open_s: float) -> str:
    """What came instead of a camera, and what to do."""
    match error:
        case ConnectionRefusedError():
            return "a refusal: nothing listens there; start the camera, or check its host and port"
        case av.ExitError() | TimeoutError():
            return f"no answer within {open_s:g} s; check the address and the network"
        case av.HTTPUnauthorizedError():
            return "a demand for a password; write the URL as scheme://user:password@host/..."
        case av.HTTPError() | av.HTTPClientError() | av.HTTPServerError():
            return f"the answer {error.strerror!r}; check the path after the host"
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, UnicodeError):
        return "no such host; check its name, or give its address"
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"what is no video ({why}); check the scheme, and the path after the host"
