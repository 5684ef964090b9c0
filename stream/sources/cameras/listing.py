"""Which cameras this machine has, and which of them is meant.

On Linux the kernel's own files are read. Elsewhere cv2-enumerate-cameras tells names in the order of OpenCV's indices.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from stream.sources.cameras import v4l2
from stream.sources.errors import SourceError

BACKENDS = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_MSMF, "darwin": cv2.CAP_AVFOUNDATION}
BACKEND = BACKENDS.get(sys.platform, cv2.CAP_ANY)

CAN_BE_OPENED = "can be opened"
NO_PERMISSION = "no permission: sudo usermod -aG video $USER, then log in again"


@dataclass(frozen=True, kw_only=True)
class CameraInfo:
    """A camera of this machine.

    Attributes:
        index: What OpenCV counts it as; on Linux the number of its device file.
        name: The maker's. Two cameras of one kind have the same.
        path: Its device file on Linux; elsewhere what the system tells it by.
        permission: Whether this user may open it, and what to do if not.
    """

    index: int
    name: str
    path: str
    permission: str = CAN_BE_OPENED

    def __str__(self) -> str:
        note = "" if self.permission == CAN_BE_OPENED else f", {self.permission}"
        return f'{self.index} "{self.name}" ({self.path}{note})'


def may_open(path: str) -> bool:
    """Whether this user may read from and write to a device file."""
    return os.access(path, os.R_OK | os.W_OK)


def list_cameras() -> list[CameraInfo]:
    """The cameras of this machine, ascending by index; none of them is opened for pictures."""
    if sys.platform != "linux":
        from cv2_enumerate_cameras import enumerate_cameras

        return [
            CameraInfo(index=camera.index, name=camera.name, path=str(camera.path or ""))
            for camera in enumerate_cameras(BACKEND)
        ]
    return list_linux()


def list_linux(
    root: Path = Path("/"),
    *,
    allowed: Callable[[str], bool] = may_open,
    captures: Callable[[str], bool] = v4l2.captures,
) -> list[CameraInfo]:
    """The cameras under a root directory's `dev` and `sys`."""
    found = []
    for device in (root / "dev").glob("video*"):
        if (number := re.fullmatch(r"video(\d+)", device.name)) is None or not captures(str(device)):
            continue
        named = root / "sys/class/video4linux" / device.name / "name"
        found.append(
            CameraInfo(
                index=int(number[1]),
                name=named.read_text(errors="replace").strip() if named.is_file() else device.name,
                path=str(device),
                permission=CAN_BE_OPENED if allowed(str(device)) else NO_PERMISSION,
            )
        )
    return sorted(found, key=lambda camera: camera.index)


def find(spec: str, cameras: Sequence[CameraInfo]) -> CameraInfo:
    """The camera that is meant by an index, a path, or a name: all of it, or a part that only one has; case is nothing.

    Raises:
        SourceError: If there is none, or more than one; the line lists what there is.
    """
    if spec.isdecimal():
        matches = [camera for camera in cameras if camera.index == int(spec)]
        kind = "the index of a camera"
    elif spec.startswith("/"):
        real = os.path.realpath(spec)  # /dev/v4l/by-id/... is a link
        matches = [camera for camera in cameras if os.path.realpath(camera.path) == real]
        kind = "the path of a camera"
    else:
        name = spec.casefold()
        matches = [camera for camera in cameras if camera.name.casefold() == name]
        if not matches:
            matches = [camera for camera in cameras if name in camera.name.casefold()]
        kind = "the name of a camera, or a part that only one has"
    if len(matches) != 1:
        advice = "choose one of them by its index" if cameras else "connect one, or give the URL of a network camera"
        came = "which is none" if not matches else "which means " + " or ".join(map(str, matches))
        raise SourceError(f"expected {kind}, got {spec!r}, {came}; {there_are(cameras)}: {advice}")
    return matches[0]


def find_again(lost: CameraInfo, cameras: Sequence[CameraInfo]) -> CameraInfo:
    """A camera that was lost, by its name: a camera that is plugged in again often has another index.

    Of several with that name it is the one at the same path, or the first.

    Raises:
        SourceError: If none has that name.
    """
    named = [camera for camera in cameras if camera.name == lost.name]
    if not named:
        raise SourceError(f'expected the camera "{lost.name}" to be there, got none; {there_are(cameras)}')
    return next((camera for camera in named if camera.path == lost.path), named[0])


def there_are(cameras: Sequence[CameraInfo]) -> str:
    """What there is, for an error."""
    return "there are " + ", ".join(map(str, cameras)) if cameras else "this machine has no camera"
