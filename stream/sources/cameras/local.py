"""Cameras of this machine, read by OpenCV."""

import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from stream.sources.cameras import v4l2
from stream.sources.cameras.capture import PictureFormat
from stream.sources.cameras.listing import BACKEND, CAN_BE_OPENED, CameraInfo
from stream.sources.errors import SourceError

# One buffer is filled while the other is read. With a single one a USB camera has nowhere to put the next picture
# until the last is converted, misses every second one, and gives 15 instead of 30 a second.
N_BUFFERS = 2


class LocalCapture:
    """A camera by its index or device file; see `Capture`.

    Args:
        camera: Which.
        asked: What to ask for: the pixel format first, since sizes and rates depend on it.
        video_capture: Stands for cv2.VideoCapture in tests.

    Raises:
        SourceError: If it cannot be opened, or gives something else than was asked for; the line says what there is.
    """

    def __init__(
        self, camera: CameraInfo, asked: PictureFormat, *, video_capture: Callable[[Any, int], Any] = cv2.VideoCapture
    ) -> None:
        self.name = camera.name
        if camera.permission != CAN_BE_OPENED:
            raise SourceError(f"expected a camera that may be opened, got {camera}")
        self._capture = video_capture(camera.path if sys.platform == "linux" else camera.index, BACKEND)
        try:
            if not self._capture.isOpened():
                raise SourceError(
                    f"expected a camera that can be opened, got {camera}, which refuses: another program may be using "
                    "it; close that one, or plug the camera in again"
                )
            self.came = self._negotiate(asked)
            if not asked.met_by(self.came):
                modes = v4l2.modes_text(v4l2.modes(camera.path)) if sys.platform == "linux" else ""
                raise SourceError(
                    f"expected {asked} from {camera}, got {self.came}; "
                    + (f"it gives {modes}: choose one of these" if modes else "choose that, or leave the choice to it")
                )
        except BaseException:
            self._capture.release()
            raise

    def grab(self) -> bool:
        """Wait for the next picture; false when there is none."""
        return bool(self._capture.grab())

    def picture(self) -> np.ndarray:
        """The picture last grabbed.

        Raises:
            OSError: If it is empty.
        """
        came, image = self._capture.retrieve()
        if not came or image is None or image.size == 0:
            raise OSError("it gave an empty picture")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB))

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()

    def _negotiate(self, asked: PictureFormat) -> PictureFormat:
        capture = self._capture
        capture.set(cv2.CAP_PROP_BUFFERSIZE, N_BUFFERS)  # refused by some backends, which keep no queue
        if asked.pixel_format is not None:
            capture.set(cv2.CAP_PROP_FOURCC, int.from_bytes(asked.pixel_format.encode(), "little"))
        if asked.width_px is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, asked.width_px)
        if asked.height_px is not None:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, asked.height_px)
        if asked.rate_hz is not None:
            capture.set(cv2.CAP_PROP_FPS, asked.rate_hz)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        text = code.to_bytes(4, "little").decode("ascii", "replace") if 0 < code < 2**32 else ""
        rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
        return PictureFormat(
            width_px=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) or None,
            height_px=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) or None,
            rate_hz=rate_hz if rate_hz > 0 else None,
            # What some backends answer is no such code.
            pixel_format=text if text.isascii() and text.strip().isalnum() else None,
        )
