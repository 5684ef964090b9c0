"""Flashes and clicks for a camera and a microphone: shown by the program, or as a clip for another device."""

import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np

from stream.clock import Clock, MonotonicClock
from stream.windows import NS_PER_S
from tools.capture.window import Window, WindowError

EVERY_S, LIT_S = 1.2, 0.2
STEP_S = 0.0137  # by which flashes come later than every 1.2 s, so that each meets a camera at another phase
CLIP_RATE_HZ, SOUND_HZ = 30, 48_000
DISPLAY_S = 0.025  # from drawing to light: half a refresh to wait, and one to draw; a guess
WINDOW = "emocast calibrate"
OTHER_DEVICE = (
    "use another device: emocast calibrate --make CLIP.mp4, show CLIP.mp4 on a phone held before the camera, and run "
    "emocast calibrate --listen"
)


class Screen(Protocol):
    """What can be lit."""

    def light(self, on: bool) -> None:
        """White or black, now."""


class Speaker(Protocol):
    """What clicks at times that it is told beforehand."""

    def click_at(self, t_ns: int) -> None:
        """Let the sound leave the speaker at a time of the clock."""


def show_flashes(screen: Screen, speaker: Speaker, clock: Clock, *, done: Callable[[], bool], n_most: int = 60) -> int:
    """Flash and click until `done`, on the calling thread; returns how many flashes were shown."""
    never = threading.Event()
    began_ns = clock.now_ns() + NS_PER_S
    for k in range(n_most):
        if done():
            return k
        at_ns = began_ns + round(k * (EVERY_S + STEP_S) * NS_PER_S)
        speaker.click_at(at_ns)
        clock.wait_until(at_ns - round(DISPLAY_S * NS_PER_S), never)
        screen.light(True)
        clock.wait_until(at_ns + round((LIT_S - DISPLAY_S) * NS_PER_S), never)
        screen.light(False)
    return n_most


def click_wave(into_s: np.ndarray) -> np.ndarray:
    """A click by the time since it began: 2 kHz that fades within some 20 ms; 0 before."""
    fading = 0.8 * np.exp(-np.maximum(into_s, 0.0) / 0.004)
    return np.asarray(np.where(into_s >= 0, fading * np.sin(2 * np.pi * 2000 * into_s), 0.0), np.float32)


def click_samples(times_ns: Sequence[int], start_ns: int, n: int, rate_hz: int) -> np.ndarray:
    """The sound of clicks within a block: (n,) float32.

    Args:
        times_ns: When they begin; others may lie before or after the block.
        start_ns: When the block's first sample leaves the speaker.
        n: Samples of the block.
        rate_hz: Their rate.
    """
    t_s = np.arange(n) / rate_hz
    block = np.zeros(n, np.float32)
    for at_ns in times_ns:
        begins_s = (at_ns - start_ns) / NS_PER_S
        if -0.05 < begins_s < n / rate_hz:
            block += click_wave(t_s - begins_s)
    return block


class FlashWindow:
    """A window that fills the screen."""

    def __init__(self) -> None:
        self._window = Window(WINDOW, fullscreen=True)

    def __enter__(self) -> Self:
        self._window.__enter__()
        try:
            self.light(False)
        except WindowError as error:
            self._window.__exit__(None, None, None)
            raise ValueError(f"expected a display to flash on: {error}; {OTHER_DEVICE}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._window.__exit__(kind, error, at)

    def light(self, on: bool) -> None:
        """White or black, now. Raises WindowError if the window is gone."""
        self._window.show(np.full((360, 640, 3), 255 if on else 0, np.uint8))


class ClickSpeaker:
    """The default output of PortAudio; its account of when a block sounds places the click to the sample."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        self._times_ns: list[int] = []
        self._stream: Any = None

    def __enter__(self) -> Self:
        import sounddevice

        def fill(out: np.ndarray, n: int, time: Any, status: Any) -> None:
            ahead_s = time.outputBufferDacTime - time.currentTime
            start_ns = self._clock.now_ns() + round(ahead_s * NS_PER_S)
            out[:, 0] = click_samples(self._times_ns[-2:], start_ns, n, SOUND_HZ)

        try:
            self._stream = sounddevice.OutputStream(samplerate=SOUND_HZ, channels=1, dtype="float32", callback=fill)
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise ValueError(
                f"expected a speaker to click with, PortAudio has none ({error}); {OTHER_DEVICE}"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    def click_at(self, t_ns: int) -> None:
        """Let a click leave the speaker at a time of the clock."""
        self._times_ns.append(t_ns)


def write_clip(path: Path, *, n_flashes: int = 30) -> Path:
    """Write a clip for another device to show: each flash begins with a frame, and its click with it.

    Filmed, its flashes meet the camera at many phases. Read as a file they have only one, at a frame's own beginning,
    and measure half a frame period early.
    """
    step = round((EVERY_S + STEP_S) * CLIP_RATE_HZ) / CLIP_RATE_HZ
    times_s = [1.0 + step * k for k in range(n_flashes)]
    duration_s = times_s[-1] + EVERY_S
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=CLIP_RATE_HZ, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        audio: Any = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        begins_ns = [round(t_s * NS_PER_S) for t_s in times_s]
        for first in range(0, round(duration_s * SOUND_HZ), 1024):
            block = click_samples(begins_ns, first * NS_PER_S // SOUND_HZ, 1024, SOUND_HZ)
            sound = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = SOUND_HZ, first, Fraction(1, SOUND_HZ)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
        for k in range(round(duration_s * CLIP_RATE_HZ)):
            lit = any(0 <= k / CLIP_RATE_HZ - t_s + 1e-6 < LIT_S for t_s in times_s)
            picture = np.full((360, 640, 3), 255 if lit else 0, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return path
