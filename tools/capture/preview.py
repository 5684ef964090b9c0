"""`--preview`: the picture with what is thought of each person in it, in a window of its own thread."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from stream.feed.messages import Estimate, Event, Message, Status
from stream.records import VideoFrame
from stream.source import Item
from tools.capture.window import CLOSED, Window, WindowError, has_display

TITLE = "emocast"
ESCAPE = 27
PICTURE_MS = 33  # between two pictures, in which a key may be pressed
SIDE_PX, BAR_PX, MIN_HEIGHT_PX = 260, 150, 360
FORGET_S = 3.0  # of media without an estimate, a person is no longer shown
LIGHT, DIM, DARK = (235, 235, 235), (150, 150, 150), (32, 32, 36)
COLOURS = ((80, 175, 76), (66, 133, 244), (244, 160, 0), (219, 68, 55))  # RGB, by person
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Preview:
    """A window with the newest picture and what the feed says; used with `with`.

    It is a sink of the feed and a witness of the session. Where no window can be opened, one line says so and the
    session goes on without.

    Args:
        stop: Called when `q`, Escape or the window's own button closes it.
        neutral: Called when `n` is pressed; None where there is nothing to call.
        show: Shows a (h, w, 3) uint8 BGR picture and gives the key pressed, -1 for none; None is a window.
    """

    def __init__(
        self,
        *,
        stop: Callable[[], None],
        neutral: Callable[[], None] | None = None,
        show: Callable[[np.ndarray], int] | None = None,
    ) -> None:
        self._stop, self._neutral, self._show = stop, neutral, show
        self._lock = threading.Lock()
        self._frame: VideoFrame | None = None
        self._estimates: dict[int, Estimate] = {}
        self._status: Status | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preview", daemon=True)

    def __enter__(self) -> Self:
        if self._show is None and not has_display():
            print("emocast: no display here (DISPLAY is not set): going on without the preview", file=sys.stderr)
        else:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    # --- a witness of the session ---

    def take(self, item: Item) -> None:
        """Keep the newest picture; whatever else comes is left alone."""
        if isinstance(item, VideoFrame):
            with self._lock:
                self._frame = item

    def note(self, kind: str, value: int) -> None:
        """What is left out shows in the status."""

    # --- a sink of the feed ---

    def open(self) -> None:
        """There is nothing to claim."""

    def send(self, message: Message) -> None:
        """Keep the newest of what is shown."""
        with self._lock:
            match message:
                case Estimate():
                    self._estimates[message.person] = message
                case Status():
                    self._status = message
                case Event(kind="face_lost") if message.person is not None:
                    self._estimates.pop(message.person, None)

    def attend(self) -> float | None:
        """Nothing waits."""
        return None

    def readable(self) -> Any | None:
        """It listens to nothing."""
        return None

    def close(self) -> None:
        """The window goes with the `with` block."""

    # --- the window's thread ---

    def _run(self) -> None:
        try:
            if self._show is not None:
                self._serve(self._show)
            else:
                with Window(TITLE) as window:
                    self._serve(lambda picture: window.show(picture, wait_ms=PICTURE_MS))
        except WindowError as error:
            print(f"emocast: {error}: going on without the preview", file=sys.stderr)

    def _serve(self, show: Callable[[np.ndarray], int]) -> None:
        while not self._ended.is_set():
            with self._lock:
                frame, estimates, status = self._frame, list(self._estimates.values()), self._status
            key = show(drawn(None if frame is None else frame.image, estimates, status)[..., ::-1])
            if key in (ord("q"), ESCAPE, CLOSED):
                self._stop()
                return
            if key == ord("n") and self._neutral is not None:
                self._neutral()


def drawn(image: np.ndarray | None, estimates: list[Estimate], status: Status | None) -> np.ndarray:
    """The picture with boxes and labels, and beside it each person's bars and the line's rates.

    Args:
        image: (h, w, 3) uint8 RGB, or None where no picture came yet.
        estimates: The newest of each person.
        status: The newest, if one came.

    Returns:
        (max(h, 360), w + 260, 3) uint8 RGB.
    """
    seen = np.full((MIN_HEIGHT_PX, 480, 3), 60, np.uint8) if image is None else image
    height, width = max(seen.shape[0], MIN_HEIGHT_PX), seen.shape[1]
    canvas: np.ndarray = np.full((height, width + SIDE_PX, 3), DARK, np.uint8)
    canvas[: seen.shape[0], :width] = seen
    newest_s = max((estimate.t for estimate in estimates), default=0.0)
    shown = [e for e in sorted(estimates, key=lambda e: e.person) if newest_s - e.t <= FORGET_S]
    y = 12
    for estimate in shown:
        colour = COLOURS[estimate.person % len(COLOURS)]
        if estimate.box is not None:
            left, top, wide, high = estimate.box
            cv2.rectangle(canvas[:, :width], (left, top), (left + wide, top + high), colour, 2)
            _text(canvas[:, :width], _verdict(estimate), (left, max(top - 8, 14)), colour, 0.6)
        y = _bars(canvas, estimate, width + 12, y, colour)
    _rates(canvas, status, width + 12, height)
    return canvas


def _verdict(estimate: Estimate) -> str:
    return f"{estimate.label} {estimate.confidence:.0%}" if estimate.label else f"({estimate.reason})"


def _bars(canvas: np.ndarray, estimate: Estimate, x: int, y: int, colour: tuple[int, int, int]) -> int:
    who = "voice" if estimate.person == 0 else f"person {estimate.person}"
    _text(canvas, f"{who}: {_verdict(estimate)}", (x, y + 12), colour, 0.5)
    y += 22
    for label, share in estimate.posterior.items():
        _text(canvas, label, (x, y + 10), LIGHT if label == estimate.label else DIM, 0.4)
        cv2.rectangle(canvas, (x + 78, y + 2), (x + 78 + round(BAR_PX * share), y + 11), colour, cv2.FILLED)
        y += 15
    return y + 10


def _rates(canvas: np.ndarray, status: Status | None, x: int, height: int) -> None:
    if status is None:
        return
    dropped = sum(n for name, n in status.drops.items() if name != "audio_samples")
    age = "-" if status.age_ms is None else f"{status.age_ms[0]:.0f} ms"
    drift = "" if status.drift_ppm is None else f", drift {status.drift_ppm:+.0f} ppm"
    lines = (
        f"{status.frame_rate_hz:.0f} frames/s, {status.hop_rate_hz:.1f} hops/s",
        f"age {age}, dropped {dropped}{drift}",
        "n: neutral, q: quit. Not facts about a person.",
    )
    for k, line in enumerate(lines):
        _text(canvas, line, (x, height - 12 - 16 * (len(lines) - 1 - k)), DIM, 0.38)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    # Legible on any picture. Not a thicker copy behind it: since OpenCV 5 thicker letters are wider, too.
    cv2.putText(canvas, text, (at[0] + 1, at[1] + 1), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, at, FONT, scale, colour, 1, cv2.LINE_AA)
