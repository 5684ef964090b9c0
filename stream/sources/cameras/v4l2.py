"""What a Linux camera says of itself: Video4Linux's own questions, asked of its device file.

Sizes, offsets and numbers are those of linux/videodev2.h, checked against a C compiler on x86-64; they are the same on
every 64-bit and little-endian machine.
"""

import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

if sys.platform == "linux":
    import fcntl

QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
VIDEO_CAPTURE = 1  # a capability, and the type of a buffer that holds a picture
DISCRETE = 1  # sizes or intervals given one by one; otherwise as a range

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One size that a camera gives in one pixel format.

    Attributes:
        rates_hz: Ascending; of a continuous range, only its ends.
    """

    pixel_format: str
    width_px: int
    height_px: int
    rates_hz: tuple[float, ...]


def ask(descriptor: int, question: int, answer: bytearray) -> bool:
    """Fill `answer`; false where the driver has no more to say. Linux only."""
    try:
        fcntl.ioctl(descriptor, question, answer)
    except OSError:
        return False
    return True


def captures(path: str, ioctl: Ioctl = ask) -> bool:
    """Whether a device file gives pictures: a webcam has a second one for metadata. True where it cannot be asked."""
    answer = bytearray(104)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return not ioctl(descriptor, QUERYCAP, answer) or bool(
            struct.unpack_from("<I", answer, 88)[0] & VIDEO_CAPTURE  # device_caps: of this file, not of the device
        )
    finally:
        os.close(descriptor)


def modes(path: str, ioctl: Ioctl = ask) -> list[Mode]:
    """Every mode of a camera, in the driver's order; empty where it cannot be asked."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        return [
            Mode(
                pixel_format=code.to_bytes(4, "little").decode("ascii", "replace"),
                width_px=width_px,
                height_px=height_px,
                rates_hz=tuple(sorted(set(_rates_hz(descriptor, ioctl, code, width_px, height_px)))),
            )
            for code in _formats(descriptor, ioctl)
            for width_px, height_px in _sizes(descriptor, ioctl, code)
        ]
    finally:
        os.close(descriptor)


def modes_text(found: list[Mode]) -> str:
    """Modes in one line: `MJPG 1280x720@30 640x480@60; YUYV 640x480@30`, each with its highest rate."""
    by_format: dict[str, list[str]] = {}
    for mode in found:
        rate = f"@{mode.rates_hz[-1]:g}" if mode.rates_hz else ""
        by_format.setdefault(mode.pixel_format, []).append(f"{mode.width_px}x{mode.height_px}{rate}")
    return "; ".join(f"{pixel_format} {' '.join(sizes)}" for pixel_format, sizes in by_format.items())


def _answers(descriptor: int, ioctl: Ioctl, question: int, size: int, *key: int) -> Iterator[bytearray]:
    for index in range(256):  # a driver that never ends is no reason to hang
        answer = bytearray(size)
        struct.pack_into(f"<{1 + len(key)}I", answer, 0, index, *key)
        if not ioctl(descriptor, question, answer):
            return
        yield answer


def _formats(descriptor: int, ioctl: Ioctl) -> Iterator[int]:
    for answer in _answers(descriptor, ioctl, ENUM_FMT, 64, VIDEO_CAPTURE):
        yield struct.unpack_from("<I", answer, 44)[0]


def _sizes(descriptor: int, ioctl: Ioctl, code: int) -> Iterator[tuple[int, int]]:
    for answer in _answers(descriptor, ioctl, ENUM_FRAMESIZES, 44, code):
        kind, *size = struct.unpack_from("<7I", answer, 8)
        if kind != DISCRETE:
            least_width, most_width, _, least_height, most_height, _ = size
            yield from ((least_width, least_height), (most_width, most_height))
            return
        yield size[0], size[1]


def _rates_hz(descriptor: int, ioctl: Ioctl, code: int, width_px: int, height_px: int) -> Iterator[float]:
    for answer in _answers(descriptor, ioctl, ENUM_FRAMEINTERVALS, 52, code, width_px, height_px):
        kind, *interval = struct.unpack_from("<5I", answer, 16)
        ends = [interval[:2]] if kind == DISCRETE else [interval[:2], interval[2:]]
        yield from (denominator / numerator for numerator, denominator in ends if numerator)
        if kind != DISCRETE:
            return
