"""The microphone against a made-up PortAudio: stamps, overruns, losses, and one line where it cannot be opened."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from stream.clock import ManualClock
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.errors import SourceError
from stream.sources.microphone import N_WAITING, Inlet, Microphone
from stream.sources.microphones.finding import find, find_again, list_microphones
from stream.sources.microphones.hanging import Hung, Patience
from stream.sources.microphones.level import level
from stream.sources.microphones.portaudio import HostStream, MicrophoneInfo, Taker
from stream.sources.microphones.stamps import Stamps

WAIT_S = 10.0
Item = Picture | Sound | Lost | Back


def device(index: int, name: str, *, channels: int = 1, rate_hz: int = 48_000, **settings: object) -> MicrophoneInfo:
    """A microphone as PortAudio would list it."""
    kept = {"host": "ALSA", "is_default": False, "is_main_host": True} | settings
    return MicrophoneInfo(index=index, name=name, channels=channels, rate_hz=rate_hz, **kept)  # type: ignore[arg-type]


DESK, LAPEL = device(0, "Desk (hw:0,0)", is_default=True), device(1, "Lapel: USB (hw:1,0)", channels=2)


class MadeUpAudio:
    """Stands for PortAudio: tests say what there is, and call its callback.

    Attributes:
        here: What a scan finds.
        refusals: Errors that the next openings meet, in order.
        first: What each stream gives as it opens; None gives nothing.
        opened: Every opening: device, rate, channels.
    """

    def __init__(self, *here: MicrophoneInfo) -> None:
        self.here = list(here)
        self._listed: list[MicrophoneInfo] = []
        self.refusals: list[SourceError] = []
        self.first: np.ndarray | None = np.zeros((480, 1), np.float32)
        self.opened: list[tuple[MicrophoneInfo, int, int]] = []
        self.n_scans = self.n_closed = 0
        self.give: Taker
        self.end: Callable[[], None]

    def inputs(self) -> list[MicrophoneInfo]:
        return self._listed

    def rescan(self) -> None:
        self.n_scans += 1
        self._listed = list(self.here)

    def open(
        self, info: MicrophoneInfo, *, rate_hz: int, channels: int, take: Taker, ended: Callable[[], None]
    ) -> HostStream:
        if self.refusals:
            raise self.refusals.pop(0)
        self.opened.append((info, rate_hz, channels))
        self.give, self.end = take, ended
        if self.first is not None:
            take(self.first, None, False)
        return MadeUpStream(self, rate_hz)


class MadeUpStream:
    """An opening of it."""

    latency_s = 0.02

    def __init__(self, audio: MadeUpAudio, rate_hz: int) -> None:
        self._audio, self.rate_hz = audio, rate_hz

    def close(self) -> None:
        self._audio.n_closed += 1


class Heard:
    """What a microphone handed on, to wait for."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._changed = threading.Condition()

    def __call__(self, item: Item) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait_for(self, n: int, kind: type[Item]) -> list[Item]:
        """The items once there are n of a kind."""
        with self._changed:
            assert self._changed.wait_for(lambda: sum(isinstance(item, kind) for item in self.items) >= n, WAIT_S)
            return list(self.items)


@contextmanager
def microphone(
    audio: MadeUpAudio, spec: str = "desk", **settings: float
) -> Iterator[tuple[Microphone, Heard, ManualClock]]:
    """One that runs on made-up audio."""
    heard, clock = Heard(), ManualClock(10**9)
    with Microphone(spec, clock=clock, sink=heard, audio=audio, **({"stall_s": 60.0} | settings)) as opened:  # type: ignore[arg-type]
        yield opened, heard, clock


def test_sound_is_handed_on_with_its_place_and_time() -> None:
    audio = MadeUpAudio(DESK, LAPEL)
    audio.first = np.array([[0.5, 0.0], [0.25, -0.25]], np.float32)
    with microphone(audio, "lapel", latency_s=0.003) as (opened, heard, clock):
        clock.advance(5_000_000)
        audio.give(np.full((480, 2), 0.125, np.float32), 0.015, False)
        first, second = [item for item in heard.wait_for(2, Sound) if isinstance(item, Sound)]
        assert opened.name == LAPEL.name
        assert opened.text == "Lapel: USB (hw:1,0): 48000 Hz, 2 channels, latency 20 ms"
    np.testing.assert_array_equal(first.samples, np.array([0.25, 0.0], np.float32))  # the mean of the channels
    assert (first.first, first.rate_hz, first.arrived_ns) == (0, 48_000, 10**9)
    assert first.adc_ns == 10**9 - 2 * 10**9 // 48_000 - 3_000_000  # no age told: the block's length counts
    assert (second.first, second.overflowed, second.samples.dtype) == (2, False, np.float32)
    assert second.arrived_ns - second.adc_ns == 18_000_000
    assert audio.n_closed == 1
    assert audio.opened == [(LAPEL, 48_000, 2)]


def test_rate_and_channels_asked_for_are_asked_for() -> None:
    audio = MadeUpAudio(device(0, "pulse", channels=32, rate_hz=44_100))
    with microphone(audio, "pulse"), microphone(audio, "0", rate_hz=16_000, channels=2) as (opened, _, _):
        assert [entry[1:] for entry in audio.opened] == [(44_100, 1), (16_000, 2)]
        assert opened.text == "pulse: 16000 Hz, 2 channels, latency 20 ms, asked for 16000 Hz, 2 channels"


def test_what_portaudio_lost_leaves_a_gap_of_its_length() -> None:
    audio = MadeUpAudio(DESK)
    with microphone(audio) as (opened, heard, clock):
        clock.advance(10_000_000)
        audio.give(np.zeros((480, 1), np.float32), None, False)
        clock.advance(40_000_000)
        audio.give(np.zeros((480, 1), np.float32), None, True)
        sounds = [item for item in heard.wait_for(3, Sound) if isinstance(item, Sound)]
        assert [sound.first for sound in sounds] == [0, 480, 960 + 1440]
        assert [sound.overflowed for sound in sounds] == [False, False, True]
        assert opened.n_overruns == 1


def test_too_many_blocks_that_wait_are_counted() -> None:
    inlet = Inlet(ManualClock())
    for _ in range(N_WAITING + 3):
        inlet.take(np.zeros((100, 1), np.float32), None, False)
    taken = [inlet.chunks.get() for _ in range(N_WAITING)]
    inlet.take(np.zeros((100, 1), np.float32), None, False)
    after = inlet.chunks.get()
    assert all(not isinstance(chunk, str) and chunk.n_left_out == 0 for chunk in taken)
    assert not isinstance(after, str)
    assert after.n_left_out == 300
    stamps = Stamps(48_000, 0.02)
    assert stamps.next(100, 0, None).first == 0
    assert stamps.next(100, 0, None, n_lost=300).first == 400


def test_ages_that_cannot_be_are_not_believed() -> None:
    stamps = Stamps(48_000, 0.03)
    ages = [0.002, 0.055, 0.5, 0.015, 0.015]
    arrivals_ns = [0, 10_000_000, 20_000_000, 30_000_000, 130_000_000]
    got = [at - stamps.next(480, at, age).adc_ns for at, age in zip(arrivals_ns, ages, strict=True)]
    # Younger than the block is long; credible; far older than stated, and doubted for 0.1 s after; credible again.
    assert got == [10_000_000, 55_000_000, 10_000_000, 10_000_000, 15_000_000]


@pytest.mark.parametrize("how", ["ends", "falls silent"])
def test_a_lost_microphone_is_found_again_by_name(how: str) -> None:
    audio = MadeUpAudio(DESK, LAPEL)
    with microphone(audio, stall_s=0.2 if how == "falls silent" else 60.0) as (opened, heard, _):
        audio.here = [LAPEL]
        audio.refusals = [SourceError("busy")]
        if how == "ends":
            audio.end()
        heard.wait_for(1, Lost)
        # It was plugged in elsewhere, as another number.
        audio.here = [LAPEL, device(4, "Desk (hw:2,0)")]
        heard.wait_for(1, Back)
        audio.give(np.zeros((480, 1), np.float32), None, False)
        items = heard.wait_for(3, Sound)
        assert opened.name == "Desk (hw:2,0)"
    why = "its stream ended" if how == "ends" else "no sound came for 0.2 s"
    assert [item.text for item in items if isinstance(item, Lost | Back)] == [
        f"microphone Desk (hw:0,0) is lost: {why}",
        "microphone Desk (hw:2,0): 48000 Hz, 1 channel, latency 20 ms is back",
    ]
    # The first sample after Back is counted anew.
    assert [item.first if isinstance(item, Sound) else type(item) for item in items] == [0, Lost, Back, 0, 480]
    assert [entry[0].index for entry in audio.opened] == [0, 4]
    assert audio.n_closed == 2
    assert audio.n_scans >= 3


def test_late_blocks_of_a_lost_stream_are_left_out() -> None:
    audio = MadeUpAudio(DESK)
    with microphone(audio) as (_, heard, _):
        give_late = audio.give
        audio.end()
        heard.wait_for(1, Back)
        give_late(np.full((7, 1), 0.5, np.float32), None, False)
        audio.give(np.full((9, 1), 0.25, np.float32), None, False)
        sounds = [item for item in heard.wait_for(3, Sound) if isinstance(item, Sound)]
    assert [len(sound.samples) for sound in sounds] == [480, 480, 9]


def test_it_can_be_left_while_it_is_looked_for() -> None:
    audio = MadeUpAudio(DESK)
    with microphone(audio) as (_, heard, _):
        audio.here = []
        audio.end()
        heard.wait_for(1, Lost)
    assert audio.n_closed == 1
    assert "microphone" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("spec", "here", "line"),
    [
        ("x", [], "expected a microphone, PortAudio lists none; plug one in"),
        ("x", [DESK, LAPEL], "expected a microphone of: 0 'Desk (hw:0,0)' (48000 Hz, 1 ch), 1 'Lapel: USB (hw:1,0)' "),
        ("7", [DESK], "expected a microphone of: 0 'Desk (hw:0,0)' (48000 Hz, 1 ch); got '7'"),
        ("hw:", [DESK, LAPEL], "expected a name that one microphone has, 'hw:' fits: 0 'Desk (hw:0,0)' "),
        ("", [DESK], "expected a microphone of: 0 'Desk (hw:0,0)' (48000 Hz, 1 ch); got ''"),
    ],
)
def test_a_microphone_that_is_not_there_gives_one_line(spec: str, here: list[MicrophoneInfo], line: str) -> None:
    with pytest.raises(SourceError) as caught, microphone(MadeUpAudio(*here), spec):
        pass
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_one_that_opens_and_ends_at_once_is_refused_and_closed() -> None:
    audio = MadeUpAudio(DESK)
    audio.first = None
    ends = threading.Timer(0, lambda: audio.end())
    opening = audio.open

    def open_and_end(*arguments: object, **settings: object) -> HostStream:
        stream = opening(*arguments, **settings)  # type: ignore[arg-type]
        ends.start()
        return stream

    audio.open = open_and_end  # type: ignore[assignment, method-assign]
    with pytest.raises(SourceError, match=r"expected sound from microphone 'Desk \(hw:0,0\)': its stream ended; plug"):
        microphone(audio).__enter__()
    assert audio.n_closed == 1


@pytest.mark.parametrize("settings", [{"rate_hz": 0}, {"channels": -1}, {"stall_s": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SourceError, match=r"expected .* above 0 of microphone 'desk', got"):
        microphone(MadeUpAudio(DESK), **settings).__enter__()


def test_finding() -> None:
    twice = [device(3, "Desk (hw:0,0)", host="MME", is_main_host=False), DESK, LAPEL]
    assert find(twice, "DEFAULT") == DESK
    assert find(twice, "desk (HW:0,0)") == DESK  # of two hosts, the main one
    assert find(twice, "usb") == LAPEL
    assert find(twice, "3") == twice[0]
    assert find([device(0, "default"), device(1, "default 2")], "default").index == 0  # a name, where none is default
    assert find_again(twice, twice[0]) == twice[0]
    with pytest.raises(SourceError, match=r"expected microphone 'Desk \(hw:0,0\)', there is: 1 'Lapel"):
        find_again([LAPEL], DESK)
    with pytest.raises(SourceError, match="expected microphone 'Desk"):
        find_again([device(1, "Desk (hw:1,0)"), device(2, "Desk (hw:2,0)")], DESK)  # which, cannot be told
    assert list_microphones(MadeUpAudio(DESK, LAPEL)) == [DESK, LAPEL]


def test_level() -> None:
    audio = MadeUpAudio(DESK)
    audio.first = (0.5 * np.sin(np.arange(48_000) * 2 * np.pi / 48)).astype(np.float32)[:, None]
    loud = level("desk", 1.0, audio=audio)
    assert loud.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert loud.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    audio.first = np.zeros((48_000, 1), np.float32)
    assert level("desk", 1.0, audio=audio).rms_dbfs == -120


def test_a_call_that_hangs_is_left_behind() -> None:
    patience, go, closed = Patience(most_stuck=1), threading.Event(), threading.Event()
    assert patience.within(WAIT_S, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        patience.within(WAIT_S, lambda: 1 // 0)
    with pytest.raises(Hung):
        patience.within(0.01, lambda: go.wait(WAIT_S), late=lambda _: closed.set())
    assert patience.n_stuck == 1
    with pytest.raises(Hung):
        patience.within(WAIT_S, lambda: 3)  # no other is begun
    go.set()
    assert closed.wait(WAIT_S)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "driver call"] or [None]
    if thread is not None:
        thread.join(WAIT_S)
    assert patience.within(WAIT_S, lambda: 4) == 4


@pytest.mark.parametrize(
    ("raises", "line"),
    [
        ("OSError('PortAudio library not found')", "found none; run: apt-get install libportaudio2"),
        (
            "ImportError('no sounddevice')",
            "expected the package sounddevice for a microphone; run: pip install sounddevice",
        ),
    ],
)
def test_a_machine_without_portaudio_gives_one_line(tmp_path: Path, raises: str, line: str) -> None:
    (tmp_path / "sounddevice.py").write_text(f"raise {raises}\n")
    code = (
        "from stream.sources.errors import SourceError\n"
        "from stream.sources.microphones.finding import list_microphones\n"  # importing it needs no PortAudio
        "try: list_microphones()\n"
        "except SourceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert line in done.stdout
    assert done.stdout.count("\n") == 1
