"""A short look through a camera, for a person who wonders whether it works."""

import threading
from dataclasses import dataclass

from stream.clock import Clock, MonotonicClock
from stream.sources.camera import Camera
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.errors import SourceError
from stream.windows import NS_PER_S

DARK = 12.0  # mean level of a covered lens, noise and all


@dataclass(frozen=True, kw_only=True)
class PictureCheck:
    """What a camera showed.

    Attributes:
        n_pictures: How many came.
        rate_hz: Measured between the first and the last of them; 0 for fewer than two.
        brightness: Mean level of the last picture, in [0, 255].
        text: All of this in one line, with what the camera says of itself.
    """

    width_px: int
    height_px: int
    n_pictures: int
    rate_hz: float
    brightness: float
    text: str


def check(spec: str, seconds: float = 1.0, *, clock: Clock | None = None) -> PictureCheck:
    """Open a camera with its own settings and count its pictures for a while.

    Raises:
        SourceError: If it cannot be opened, or is lost before it gave a picture that counts.
    """
    clock = clock or MonotonicClock()
    pictures: list[Picture] = []
    losses: list[str] = []

    def take(item: Picture | Sound | Lost | Back) -> None:
        match item:
            case Picture():
                pictures[1:] = [item]  # the first and the last
                counts[0] += 1
            case Lost():
                losses.append(item.text)

    counts = [0]
    with Camera(spec, clock=clock, sink=take) as camera:
        clock.wait_until(clock.now_ns() + round(seconds * NS_PER_S), threading.Event())
        text = camera.text
    if not pictures:
        raise SourceError(
            f"expected pictures from camera {camera.name} for {seconds:g} s, got none; {'; '.join(losses)}"
        )
    last = pictures[-1]
    took_ns = last.at_ns - pictures[0].at_ns
    rate_hz = (counts[0] - 1) * NS_PER_S / took_ns if took_ns else 0.0
    brightness = float(last.image.mean())
    height_px, width_px = last.image.shape[:2]
    dark = ", dark: is the lens covered?" if brightness < DARK else ""
    return PictureCheck(
        width_px=width_px,
        height_px=height_px,
        n_pictures=counts[0],
        rate_hz=rate_hz,
        brightness=brightness,
        text=f"{text}; measured {width_px}x{height_px} at {rate_hz:.1f} Hz, brightness {brightness:.0f} of 255{dark}",
    )
