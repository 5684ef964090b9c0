"""`emocast live` in a process of its own, on devices that are real but no hardware: a server on loopback as a camera,
PulseAudio's null sink as a microphone."""

import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from stream.feed.messages import Estimate, Event, Message
from stream.feed.subscriber import Subscriber
from tests.mjpeg_server import MjpegServer
from tests.pulse import PulseServer

ROOT = Path(__file__).parents[1]
RATE_HZ = 48_000


def voice_of(clip: Path, target: Path) -> Path:
    """A clip's sound as a .wav of 48 kHz."""
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    with av.open(str(clip)) as container:
        parts = [part.to_ndarray().ravel() for f in container.decode(audio=0) for part in resampler.resample(f)]
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.concatenate(parts).astype(np.int16).tobytes())
    return target


class Speaker:
    """Plays a file into a microphone, over and over, also while the sound server comes and goes."""

    def __init__(self, pulse: PulseServer, microphone: str, wav: Path) -> None:
        self._pulse, self._microphone, self._wav = pulse, microphone, wav
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._player: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Speaker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._player is not None:
            self._player.kill()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._player = self._pulse.play(self._microphone, self._wav)
            if self._player.wait():
                self._ended.wait(0.2)  # the server is away


class Live:
    """A running `emocast live` and a subscriber to its feed.

    Attributes:
        messages: Received so far.
        pid: Of the process.
    """

    def __init__(self, pulse: PulseServer, folder: Path, *arguments: str) -> None:
        address = f"ipc://{folder}/feed"
        command = [sys.executable, "-c", "from tools.cli import main; main()", "live", "--quiet", "--address", address]
        self._process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=os.environ | pulse.environment, stderr=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.messages: list[Message] = []
        self._feed = Subscriber(address)

    def first(self, wanted: Callable[[Message], bool], timeout_s: float = 30.0) -> Message:
        """The first message from now on that fits; all that came is kept in `messages`."""
        give_up = time.monotonic() + timeout_s
        while (left_s := give_up - time.monotonic()) > 0 and self._process.poll() is None:
            message = self._feed.receive(min(left_s, 1.0))
            if message is not None:
                self.messages.append(message)
                if wanted(message):
                    return message
        state = "runs" if self._process.poll() is None else f"ended with {self._process.returncode}: {self.errors()}"
        raise AssertionError(f"no such message within {timeout_s} s of {len(self.messages)}; the process {state}")

    def event(self, kind: str, timeout_s: float = 30.0) -> Event:
        """The next event of a kind."""
        found = self.first(lambda message: isinstance(message, Event) and message.kind == kind, timeout_s)
        assert isinstance(found, Event)
        return found

    def estimate(self, wanted: Callable[[Estimate], bool], timeout_s: float = 30.0) -> Estimate:
        """The next estimate that fits."""
        found = self.first(lambda message: isinstance(message, Estimate) and wanted(message), timeout_s)
        assert isinstance(found, Estimate)
        return found

    def errors(self) -> str:
        """What the process said on standard error; once it has ended."""
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask for the end, and wait for it."""
        self._process.send_signal(number)
        return self._process.wait(30)

    def close(self) -> None:
        """Kill it, if it still runs, and let go of the feed."""
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._feed.close()


@contextmanager
def live_on(
    folder: Path, clip: Path, *arguments: str, voice: Path | None = None
) -> Iterator[tuple[Live, MjpegServer, PulseServer]]:
    """A camera that shows the clip, a microphone that hears its voice, and `emocast live` on the two.

    Args:
        folder: For everything; its path must be short (sockets).
        clip: Shown over and over.
        arguments: More for the command line.
        voice: A .wav to hear in place of the clip's.
    """
    pulse, camera = PulseServer(folder, ("mic",)), MjpegServer(str(clip))
    pulse.start()
    camera.start()
    try:
        with Speaker(pulse, "mic", voice or voice_of(clip, folder / "voice.wav")):
            line = Live(pulse, folder, "--camera", camera.url, "--microphone", "mic", *arguments)
            try:
                yield line, camera, pulse
            finally:
                line.close()
    finally:
        camera.kill()
        pulse.stop()
