"""The window's own process: what is said where no window can be, and a real window on a virtual screen."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from tools.capture.window import Window, WindowError, has_display

GREEN = np.full((40, 60, 3), (0, 200, 0), np.uint8)


def test_without_a_display_the_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert not has_display()
    with (
        Window("emocast test") as window,
        pytest.raises(WindowError, match="the window could not be shown: ") as caught,
    ):
        window.show(GREEN)
    assert "\n" not in str(caught.value)


def test_a_closed_window_says_so() -> None:
    window = Window("emocast test")
    with pytest.raises(WindowError, match="this one was closed"):
        window.show(GREEN)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A virtual screen, where there is a program for one."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb; apt-get install xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"]
    with subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(write)
        with os.fdopen(read) as told:  # Xvfb says which display it took once it listens
            monkeypatch.setenv("DISPLAY", f":{told.readline().strip()}")
        yield
        process.kill()


def test_pictures_are_shown_beside_pyav(screen: None) -> None:
    import av  # noqa: F401 - beside it a window of this process would wait for ever

    with Window("emocast test") as window:
        assert [window.show(GREEN) for _ in range(3)] == [-1, -1, -1]
    with Window("emocast test", fullscreen=True) as window:
        assert window.show(GREEN[:, ::-1]) == -1
