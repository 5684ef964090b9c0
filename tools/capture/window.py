"""A window in a process of its own: OpenCV's and PyAV's packages carry libraries of the same names for the display.

Where PyAV is loaded first, as everything that reads media does, OpenCV's window waits for ever (opencv-contrib-python
5.1 with av 18.1: Qt's libxcb-shm is then PyAV's, which belongs to another libxcb). A process that never loads PyAV has
no such trouble, and it may open its window on its main thread, where window systems want it.
"""

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

HEADER = struct.Struct("<III")  # height, width, milliseconds to wait for a key
KEY = struct.Struct("<i")
CLOSED = -2  # in the place of a key: the person closed the window


class WindowError(ValueError):
    """A window that cannot be shown; the text says why."""


def has_display() -> bool:
    """Whether a window can be opened here, as far as the environment tells."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Window:
    """A window, opened with the first picture; used with `with`. One thread at a time.

    Args:
        title: Its name.
        fullscreen: Whether it fills the screen.
    """

    def __init__(self, title: str, *, fullscreen: bool = False) -> None:
        self._command = [sys.executable, "-m", "tools.capture.window", title, *(["fullscreen"] if fullscreen else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        root = Path(__file__).parents[2]  # where `tools` is found, wherever this process was started
        self._process = subprocess.Popen(
            self._command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self

    def show(self, picture: np.ndarray, *, wait_ms: int = 1) -> int:
        """Show a (h, w, 3) uint8 BGR picture; returns the key pressed meanwhile, -1 for none, `CLOSED`.

        Raises:
            WindowError: If it cannot be shown.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise WindowError("expected an open window, this one was closed")
        try:
            process.stdin.write(HEADER.pack(*picture.shape[:2], wait_ms) + np.ascontiguousarray(picture).tobytes())
            process.stdin.flush()
            answer = process.stdout.read(KEY.size)
        except OSError:
            answer = b""
        if len(answer) < KEY.size:
            raise WindowError(f"the window could not be shown: {self._last_words()}")
        return int(KEY.unpack(answer)[0])

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        self._process.kill()
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its process ended without a word"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was still to be written has nobody to read it
                        pipe.close()


def serve(title: str, *, fullscreen: bool, pictures: BinaryIO, keys: BinaryIO) -> None:
    """The window's process: show each picture that comes, and answer with a key."""
    import cv2

    # Without the tool bar that OpenCV's Qt adds.
    cv2.namedWindow(title, cv2.WINDOW_GUI_NORMAL | (cv2.WINDOW_NORMAL if fullscreen else cv2.WINDOW_AUTOSIZE))
    if fullscreen:
        cv2.setWindowProperty(title, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
    while len(header := pictures.read(HEADER.size)) == HEADER.size:
        height, width, wait_ms = HEADER.unpack(header)
        content = pictures.read(height * width * 3)
        cv2.imshow(title, np.frombuffer(content, np.uint8).reshape(height, width, 3))
        key = cv2.waitKey(max(wait_ms, 1))
        visible = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
        keys.write(KEY.pack(key if visible else CLOSED))
        keys.flush()


if __name__ == "__main__":
    serve(sys.argv[1], fullscreen="fullscreen" in sys.argv[2:], pictures=sys.stdin.buffer, keys=sys.stdout.buffer)
