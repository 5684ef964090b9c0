"""The microphone on a real sound server: a tone is heard as it was, and a server that goes and comes is followed."""

import os
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.clock import MonotonicClock
from stream.records import RATE_HZ
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.drift import LiveAudioGrid
from stream.sources.errors import SourceError
from stream.sources.microphone import Microphone
from stream.sources.microphones.finding import list_microphones
from stream.sources.microphones.level import level
from tests.pulse import PulseServer, pulse_server, require_pulse

WAIT_S = 30.0
TONE_HZ, TONE_S = 1000, 1.5


class Heard:
    """What a microphone handed on, to wait for."""

    def __init__(self) -> None:
        self.items: list[Picture | Sound | Lost | Back] = []
        self._changed = threading.Condition()

    def __call__(self, item: Picture | Sound | Lost | Back) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait_for(self, n: int, kind: type) -> None:
        """Wait until there are n of a kind."""
        with self._changed:
            assert self._changed.wait_for(lambda: sum(isinstance(item, kind) for item in self.items) >= n, WAIT_S)

    def wait_for_sound(self, seconds: float) -> None:
        """Wait for so much more sound, counted by the device."""
        n = sum(isinstance(item, Sound) for item in self.items)
        self.wait_for(n + 1, Sound)
        with self._changed:
            begin = self._newest()

            def enough() -> bool:
                newest = self._newest()
                return (newest.first - begin.first) / newest.rate_hz >= seconds

            assert self._changed.wait_for(enough, WAIT_S)

    def _newest(self) -> Sound:
        return next(item for item in reversed(self.items) if isinstance(item, Sound))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseServer]:
    """A sound server of our own, which this process is a client of."""
    require_pulse()
    with pytest.MonkeyPatch.context() as patch, pulse_server(tmp_path_factory.mktemp("pa"), "desk", "lapel") as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """A tone of half of full scale."""
    samples = 0.5 * 32767 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(TONE_S * 48_000)) / 48_000)
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_a_tone_is_heard_at_its_frequency_and_length(server: PulseServer, tone: Path) -> None:
    heard, clock = Heard(), MonotonicClock()
    began_ns = clock.now_ns()
    with Microphone("desk", clock=clock, sink=heard) as microphone:
        assert microphone.name == "desk"
        assert microphone.text == "desk: 44100 Hz, 1 channel, latency 35 ms"
        heard.wait_for_sound(0.7)
        before_s = (clock.now_ns() - began_ns) / 1e9
        assert server.play("desk", tone).wait(WAIT_S) == 0
        after_s = (clock.now_ns() - began_ns) / 1e9
        heard.wait_for_sound(0.3)
    grid = LiveAudioGrid(began_ns)
    blocks = [block for item in heard.items if isinstance(item, Sound) for block in grid.push(item)] + grid.flush()
    places = np.concatenate([block.first + np.arange(len(block.samples)) for block in blocks])
    samples = np.concatenate([block.samples for block in blocks])
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    begin, end = loud[0], loud[-1]
    # A sample's time is as good as the clock that is fitted to the driver's stamps: some milliseconds.
    assert before_s - 0.005 < places[begin] / RATE_HZ < places[end] / RATE_HZ < after_s + 0.3
    assert places[end] / RATE_HZ - places[begin] / RATE_HZ == pytest.approx(TONE_S, abs=0.02)
    inner = samples[begin + 4000 : begin + 20_000]
    assert np.argmax(np.abs(np.fft.rfft(inner))) == TONE_HZ * len(inner) // RATE_HZ
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_what_there_is_and_how_loud(server: PulseServer, tone: Path) -> None:
    names = {one.name: one for one in list_microphones()}
    assert set(names) == {"desk", "lapel", "default"}
    assert names["default"].is_default
    player = server.play("desk", tone)
    assert level("desk", 1.0).peak_dbfs > -7
    assert player.wait(WAIT_S) == 0
    assert level("lapel", 0.1).peak_dbfs == -120


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_a_server_that_goes_and_comes_is_followed(server: PulseServer, how: str) -> None:
    heard, clock = Heard(), MonotonicClock()
    with Microphone("desk", clock=clock, sink=heard, stall_s=0.5) as microphone:
        counts = []
        for n in range(1, 4):
            server.stop() if how == "killed" else server.pause()
            heard.wait_for(n, Lost)
            server.start() if how == "killed" else server.resume()
            returned_ns = clock.now_ns()
            heard.wait_for(n, Back)
            back = [item for item in heard.items if isinstance(item, Back)][-1]
            assert back.at_ns - returned_ns < 2e9
            assert back.text == f"microphone {microphone.text} is back"
            heard.wait_for_sound(0.1)
            counts.append((len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))
        assert counts[2] <= counts[0]  # handles and threads
    order = [type(item) for item in heard.items if not isinstance(item, Sound)]
    assert order == [Lost, Back] * 3


@pytest.mark.parametrize(
    ("spec", "settings", "line"),
    [
        ("attic", {}, r"expected a microphone of: 0 'desk' \(44100 Hz, 32 ch\), 1 'lapel' .*; got 'attic'"),
        ("e", {}, r"expected a name that one microphone has, 'e' fits: 0 'desk' .*; give more of it"),
        ("desk", {"channels": 40}, r"expected 1 to 32 channels of microphone 'desk', got 40"),
        ("desk", {"rate_hz": 500}, r"expected a rate of 8000, .*, 48000, .* Hz of microphone 'desk', got 500"),
    ],
)
def test_what_cannot_be_met_gives_one_line(server: PulseServer, spec: str, settings: dict[str, int], line: str) -> None:
    with pytest.raises(SourceError, match=line) as caught:
        Microphone(spec, clock=MonotonicClock(), sink=Heard(), **settings).__enter__()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_gives_one_line(server: PulseServer) -> None:
    server.stop()
    try:
        with pytest.raises(SourceError, match=r"expected a microphone, PortAudio lists none; .*pactl info"):
            Microphone("desk", clock=MonotonicClock(), sink=Heard()).__enter__()
    finally:
        server.start()
