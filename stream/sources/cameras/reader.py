"""One opening of a camera: a thread that reads pictures until it is given up."""

import threading
from collections.abc import Callable

import numpy as np

from stream.clock import Clock
from stream.sources.cameras.backlog import Backlog
from stream.sources.cameras.capture import Capture, PictureFormat


class Reader(threading.Thread):
    """Opens a camera and hands each picture on with the time of its arrival.

    OpenCV may block for ever, in opening as in reading, and nothing can be done about that from outside. So the thread
    is a daemon that nobody has to wait for: it is given up, and closes the camera itself if it ever comes back.

    Args:
        open_capture: Opens the camera; called in this thread.
        take: Called with this reader, the arrival and the picture, in this thread.
        changed: Called when the camera was opened, and when this thread ends.

    Attributes:
        given_up: Set by the owner: hand on nothing more, and end.
        capture_name, came: Of the opened camera; None before.
        error: Why the camera could not be opened, or read on; None while all is well.
        fresh_ns: When the newest picture arrived that differed from the one before; None before there was one.
        n_repeated: Pictures since then that did not differ. Both are the owner's.
        backlog: Tells which pictures had waited; there once the camera is open.
    """

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        take: Callable[["Reader", int, np.ndarray], None],
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        super().__init__(name="camera", daemon=True)
        self._open_capture, self._take, self._changed, self._clock = open_capture, take, changed, clock
        self.given_up = False
        self.capture_name: str | None = None
        self.came: PictureFormat | None = None
        self.error: Exception | None = None
        self.fresh_ns: int | None = None
        self.n_repeated = 0
        self.backlog = Backlog(None)

    def run(self) -> None:
        """Read until there is nothing more or nobody wants more."""
        try:
            self._read()
        except Exception as error:  # whatever a driver raises: the camera is lost, and this is why
            self.error = error
        self._changed()

    def _read(self) -> None:
        capture = self._open_capture()
        try:
            self.backlog = Backlog(capture.came.rate_hz)
            self.capture_name, self.came = capture.name, capture.came
            self._changed()
            while not self.given_up:
                if not capture.grab():
                    raise OSError("it gives no more pictures")
                at_ns = self._clock.now_ns()  # before the picture is converted, which takes a while
                self._take(self, at_ns, capture.picture())
        finally:
            capture.close()
