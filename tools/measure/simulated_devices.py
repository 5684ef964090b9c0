"""A camera and a microphone made of a clip, for soaks: each hands on what is due, on a clock that may run fast."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stream.clock import Clock
from stream.records import RATE_HZ, AudioBlock, VideoFrame
from stream.sources.device import Picture, Sink, Sound
from stream.sources.drift import LiveAudioGrid
from stream.sources.live import LiveSource
from stream.sources.media import MediaSource, Speed
from stream.windows import NS_PER_S

DRIFT_PPM = 80.0  # of the simulated microphone
CALLBACK = 320  # samples that it hands on at once: 20 ms


class FastClock:
    """The machine's clock, running `speed` times as fast. Any thread may call."""

    def __init__(self, speed: float) -> None:
        self._speed, self._began_ns = speed, time.monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since it was made, times the speed."""
        return round((time.monotonic_ns() - self._began_ns) * self._speed)

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Sleep until `t_ns`; `stop` ends the sleep at once."""
        while (left_ns := t_ns - self.now_ns()) > 0 and not stop.wait(left_ns / NS_PER_S / self._speed):
            pass


class Simulated:
    """A device that hands on one thing after the other, when each is due, in a thread of its own.

    Args:
        name: Of the device.
        period_ns: Clock time from one to the next.
        make: Makes the k-th of its number and its clock time.
    """

    def __init__(
        self, name: str, *, period_ns: float, make: Callable[[int, int], Picture | Sound], clock: Clock, sink: Sink
    ) -> None:
        self.name, self.text = name, f"simulated {name}"
        self._period_ns, self._make, self._clock, self._sink = period_ns, make, clock, sink
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        began_ns, k = self._clock.now_ns(), 0
        while not self._stopped.is_set():
            at_ns = began_ns + round(k * self._period_ns)
            made = self._make(k, at_ns)
            self._clock.wait_until(at_ns if isinstance(made, Picture) else made.arrived_ns, self._stopped)
            if not self._stopped.is_set():
                self._sink(made)
            k += 1


def simulated(clip: Path, clock: Clock) -> LiveSource:
    """A clip over and over, as a camera and a microphone on a clock would give it."""
    camera, microphone = simulated_devices(clip, clock)
    return LiveSource(camera=camera, microphone=microphone, grid=LiveAudioGrid, clock=clock, name="soak")


def simulated_devices(clip: Path, clock: Clock) -> tuple[Callable[[Sink], Simulated], Callable[[Sink], Simulated]]:
    """What makes the camera and the microphone that give a clip's pictures, and its sound, over and over."""
    with MediaSource(str(clip), speed=Speed.MAX) as media:
        items = list(media)
    images = [item.image for item in items if isinstance(item, VideoFrame)]
    heard = np.concatenate([item.samples for item in items if isinstance(item, AudioBlock)])
    sound = heard[: len(heard) // CALLBACK * CALLBACK].reshape(-1, CALLBACK)
    rate_hz = len(images) * RATE_HZ / len(heard)
    callback_ns = CALLBACK * NS_PER_S / RATE_HZ / (1 + DRIFT_PPM * 1e-6)

    def picture_of(k: int, at_ns: int) -> Picture:
        return Picture(at_ns=at_ns, image=images[k % len(images)])

    def sound_of(k: int, at_ns: int) -> Sound:
        samples, arrived_ns = sound[k % len(sound)].copy(), round(at_ns + callback_ns)
        return Sound(
            first=k * CALLBACK, samples=samples, rate_hz=RATE_HZ, adc_ns=at_ns, arrived_ns=arrived_ns, overflowed=False
        )

    def camera(sink: Sink) -> Simulated:
        return Simulated("camera", period_ns=NS_PER_S / rate_hz, make=picture_of, clock=clock, sink=sink)

    def microphone(sink: Sink) -> Simulated:
        return Simulated("microphone", period_ns=callback_ns, make=sound_of, clock=clock, sink=sink)

    return camera, microphone
