"""A camera that is found again when it was lost."""

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from stream.clock import Clock
from stream.sources.cameras.capture import Capture, PictureFormat
from stream.sources.cameras.finding import Finder
from stream.sources.cameras.network import shown
from stream.sources.cameras.reader import Reader
from stream.sources.device import FIRST_RETRY_S, LONGEST_RETRY_S, Back, Lost, Picture, Sink
from stream.sources.errors import SourceError
from stream.windows import NS_PER_S

OPEN_S = 15.0  # for a camera to be opened and give its first picture; some systems take ten
LEAST_STALL_S = 1.0
STALL_PERIODS = 5
MOST_STUCK = 4  # threads that hang in a driver; with so many, no other is begun until one of them returns
LEAVE_S = 1.0  # for the thread that reads to end, when the camera is left

Opener = Callable[[], Capture]


class Camera:
    """A camera of this machine or on the network, in threads of its own.

    One thread reads and hands on; another watches it. A camera is lost when a read fails, when none returns for
    `stall_s`, or when all pictures of that time are the same, byte for byte: some drivers go on to give the last
    picture after the plug was pulled. A repeated picture is never handed on, and a picture that never changes is no
    camera's. A lost camera is opened again after 0.1 s, then after twice as long each time up to 1.5 s: by its name, or
    its URL. `Backlog` says which pictures are left out because they may have waited before they arrived.

    Args:
        spec: An index, a path under /dev, a name or a part of one, or a URL.
        width, height: Size to ask for, in pixels; None leaves it to the camera. So with the other two.
        rate_hz: Frames per second to ask for.
        pixel_format: Four characters, `MJPG` for example.
        latency_s: From the light to the arrival of a picture; taken off its stamp.
        clock: Stamps, and measures the waits.
        sink: Takes `Picture`, `Lost` and `Back`, one at a time; the first may come before `__enter__` returns.
        stall_s: Without a new picture for so long the camera is lost; by default 5 frame periods, and at least 1 s.
        opener: Opens the camera; stands for the real ones in tests.

    Attributes:
        left_out: How many pictures were not handed on: `repeated` or `backlog`.

    Raises:
        SourceError: Here, if the settings are out of range; on entering, if the camera cannot be opened.
    """

    def __init__(
        self,
        spec: str,
        *,
        width: int | None = None,
        height: int | None = None,
        rate_hz: float | None = None,
        pixel_format: str | None = None,
        latency_s: float = 0.0,
        clock: Clock,
        sink: Sink,
        stall_s: float | None = None,
        opener: Opener | None = None,
    ) -> None:
        try:
            self._asked = PictureFormat(width_px=width, height_px=height, rate_hz=rate_hz, pixel_format=pixel_format)
        except ValueError as error:
            raise SourceError(str(error)) from error
        self._spec, self._clock, self._sink = spec, clock, sink
        self._latency_ns, self._stall_s = round(latency_s * NS_PER_S), stall_s
        self._opener = opener or Finder(spec, self._asked).open
        self._name, self._came = shown(spec), PictureFormat()
        self.left_out: Counter[str] = Counter()
        self._lock = threading.Lock()  # what is handed on, is handed on under it, and in order
        self._reader: Reader | None = None  # the one whose pictures count
        self._stuck: list[Reader] = []
        self._newest: np.ndarray | None = None
        self._handed_ns: int | None = None
        self._lost = False
        self._stop, self._wake = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="camera watch", daemon=True)

    @property
    def name(self) -> str:
        """What the camera is found by again: its name, or its URL without a password."""
        return self._name

    @property
    def text(self) -> str:
        """The camera, what it gives, and what was asked for."""
        asked = f", asked for {self._asked}" if str(self._asked) else ""
        return f"{self._name}: {self._came or 'nothing known of its format'}{asked}"

    def __enter__(self) -> Self:
        """Open the camera and wait for its first picture.

        Raises:
            SourceError: If it cannot be opened, or gives no picture.
        """
        reader = self._begin()
        if not self._await_picture(reader):
            self._give_up()
            if isinstance(reader.error, SourceError):
                raise reader.error
            raise SourceError(
                f"expected a picture from camera {self._name}, got none ({reader.error or f'{OPEN_S:g} s passed'}); "
                "another program may be using it: close that one, or plug the camera in again"
            ) from reader.error
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the camera; nothing is handed on from then on. A thread that hangs in a driver is left behind."""
        self._stop.set()
        self._wake.set()
        self._watcher.join()
        reader = self._give_up()
        if reader is not None:
            reader.join(LEAVE_S)

    # --- in the thread that reads ---

    def _take(self, reader: Reader, at_ns: int, image: np.ndarray) -> None:
        with self._lock:
            if reader is not self._reader:  # it was given up in the meantime: this is too late
                return
            if same(image, self._newest):
                reader.n_repeated += 1
                self.left_out["repeated"] += 1
                return
            self._newest, reader.n_repeated = image, 0
            first, reader.fresh_ns = reader.fresh_ns is None, at_ns
            if first:
                self._wake.set()
            if reader.backlog.waited(at_ns):
                self.left_out["backlog"] += 1
                return
            if self._lost:
                self._lost = False
                self._sink(Back(at_ns=at_ns, text=f"camera {self.text}"))
            taken_ns = at_ns - self._latency_ns
            if self._handed_ns is not None:
                taken_ns = max(taken_ns, self._handed_ns + 1)
            self._handed_ns = taken_ns
            self._sink(Picture(at_ns=taken_ns, image=image))

    # --- in the thread that watches ---

    def _watch(self) -> None:
        while (why := self._await_loss()) is not None:
            self._give_up(why)
            self._find_again()

    def _await_loss(self) -> str | None:
        """Block until the camera is lost, and say why; None when it is to be left."""
        reader = self._reader
        while reader is not None and not self._stop.is_set():
            self._wake.clear()
            if reader.error is not None:
                return str(reader.error)
            with self._lock:
                due_ns, repeats = (reader.fresh_ns or 0) + self._stall_ns(), reader.n_repeated > 0
            if self._clock.now_ns() >= due_ns:
                what = "the same picture again and again" if repeats else "no picture"
                return f"it stalled: {what} for {self._stall_ns() / NS_PER_S:g} s"
            self._clock.wait_until(due_ns, self._wake)
        return None

    def _find_again(self) -> None:
        """Block until the camera gives pictures again, or is to be left."""
        pause_s = FIRST_RETRY_S
        while not self._stop.is_set():
            self._clock.wait_until(self._clock.now_ns() + round(pause_s * NS_PER_S), self._stop)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            self._stuck = [reader for reader in self._stuck if reader.is_alive()]
            if self._stop.is_set() or len(self._stuck) >= MOST_STUCK:
                continue
            if self._await_picture(self._begin()):
                return
            self._give_up()

    # --- in the thread that enters, then in the one that watches ---

    def _begin(self) -> Reader:
        reader = Reader(self._opener, self._take, self._wake.set, self._clock)
        with self._lock:
            self._reader = reader
        reader.start()
        return reader

    def _await_picture(self, reader: Reader) -> bool:
        limit_ns = self._clock.now_ns() + round(OPEN_S * NS_PER_S)
        while not self._stop.is_set():
            self._wake.clear()
            if reader.came is not None and reader.capture_name is not None:
                self._name, self._came = reader.capture_name, reader.came
            if reader.fresh_ns is not None:
                return True
            if reader.error is not None or self._clock.now_ns() >= limit_ns:
                return False
            self._clock.wait_until(limit_ns, self._wake)
        return False

    def _give_up(self, why: str | None = None) -> Reader | None:
        """Take nothing more from the present reader; with a reason, the camera is lost."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.given_up = True
                self._stuck.append(reader)
            if why is not None and not self._lost:
                self._lost = True
                self._sink(Lost(at_ns=self._clock.now_ns(), text=f"camera {self._name}: {why}"))
        return reader

    def _stall_ns(self) -> int:
        stall_s = self._stall_s
        if stall_s is None:
            rate_hz = self._came.rate_hz
            stall_s = max(LEAST_STALL_S, STALL_PERIODS / rate_hz if rate_hz else 0.0)
        return round(stall_s * NS_PER_S)


def same(image: np.ndarray, other: np.ndarray | None) -> bool:
    """Whether two pictures are equal byte for byte. Most differ in a few rows already, which are looked at first."""
    return (
        other is not None
        and image.shape == other.shape
        and np.array_equal(image[::32], other[::32])
        and np.array_equal(image, other)
    )
