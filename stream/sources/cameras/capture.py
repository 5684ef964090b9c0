"""An opened camera, whatever reads it: what was asked of it, what it gives, and its pictures one by one."""

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """A size, a rate and a pixel format: None where it is not asked for, or not known.

    Attributes:
        pixel_format: Four characters as V4L2 and OpenCV name it: `MJPG`, `YUYV`, `NV12`.

    Raises:
        ValueError: If one is out of its range.
    """

    width_px: int | None = None
    height_px: int | None = None
    rate_hz: float | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px", "rate_hz"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"expected a {name} above 0, got {value}")
        if self.pixel_format is not None and not re.fullmatch(r"[A-Za-z0-9 ]{4}", self.pixel_format):
            raise ValueError(f"expected a pixel format of four characters, MJPG for example, got {self.pixel_format!r}")

    def __str__(self) -> str:
        parts = []
        if self.width_px is not None or self.height_px is not None:
            parts.append(f"{self.width_px or 'any'}x{self.height_px or 'any'}")
        if self.rate_hz is not None:
            parts.append(f"{self.rate_hz:g} Hz")
        if self.pixel_format is not None:
            parts.append(self.pixel_format)
        return " ".join(parts)

    def met_by(self, came: "PictureFormat") -> bool:
        """Whether `came` is as asked; what it does not know is taken as met, and half a frame per second is nothing."""
        for name in ("width_px", "height_px", "pixel_format"):
            asked, got = getattr(self, name), getattr(came, name)
            if asked is not None and got is not None and asked != got:
                return False
        return self.rate_hz is None or came.rate_hz is None or abs(self.rate_hz - came.rate_hz) <= 0.5


class Capture(Protocol):
    """An opened camera, used by one thread.

    Attributes:
        name: What the camera is found by again.
        came: What it gives.
    """

    name: str
    came: PictureFormat

    def grab(self) -> bool:
        """Wait for the next picture; false when there will be none. May block for as long as a driver pleases."""
        ...

    def picture(self) -> np.ndarray:
        """The picture last grabbed, (height_px, width_px, 3) uint8, RGB, contiguous; the caller owns it."""
        ...

    def close(self) -> None:
        """Let go of the camera."""
        ...
