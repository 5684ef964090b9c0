"""PortAudio through sounddevice, imported when it is first needed: a replay goes without."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stream.sources.errors import SourceError
from stream.sources.microphones.hanging import Hung, Patience

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)  # asked for to list them
OPEN_S = 10.0  # for a device to open; Bluetooth takes some
CLOSE_S = 2.0
TURN_S = 10.0  # for another thread's call into PortAudio, which takes one at a time

# PortAudio is one for the whole process, and so is what guards it.
_turn = threading.Lock()
_patience = Patience(most_stuck=4)
_open: set[int] = set()  # our streams; while there is one, PortAudio cannot begin anew


@dataclass(frozen=True, kw_only=True)
class MicrophoneInfo:
    """A device that gives sound.

    Attributes:
        index: PortAudio's number of it, which changes when devices come and go.
        name: PortAudio's name of it.
        host: The system's interface to it: `ALSA`, `Core Audio`, `Windows WASAPI`.
        channels: How many it has, or says it has.
        rate_hz: Its own rate.
        is_default: Whether the system takes it unasked.
        is_main_host: Whether its host is the one that PortAudio takes unasked; the others list the same devices again.
    """

    index: int
    name: str
    host: str
    channels: int
    rate_hz: int
    is_default: bool
    is_main_host: bool


class Taker(Protocol):
    """Takes sound in PortAudio's own thread; it must neither wait nor raise."""

    def __call__(self, samples: np.ndarray, age_s: float | None, overflowed: bool) -> None:
        """Take (n, n_channels) float32, which is the taker's own; how old the first sample is, where the system says
        so; and whether PortAudio lost some just before.
        """
        ...


class HostStream(Protocol):
    """An open microphone.

    Attributes:
        rate_hz: Rate that it gives.
        latency_s: How long sound is under way to the callback, by PortAudio's account.
    """

    rate_hz: int
    latency_s: float

    def close(self) -> None:
        """Close it, or leave it behind where its driver hangs."""
        ...


class Audio(Protocol):
    """What opens microphones; stands between `Microphone` and PortAudio."""

    def inputs(self) -> list[MicrophoneInfo]:
        """What there is, as of the last `rescan`. Raises SourceError where there is no PortAudio."""
        ...

    def open(
        self, info: MicrophoneInfo, *, rate_hz: int, channels: int, take: Taker, ended: Callable[[], None]
    ) -> HostStream:
        """Open a microphone and start it; `ended` is told when it stops of itself. Raises SourceError."""
        ...

    def rescan(self) -> None:
        """Look for devices anew, unless one is open. Raises SourceError where PortAudio cannot begin anew."""
        ...


class PortAudio:
    """The real one. Any thread may call; a call that hangs in a driver is left behind, and raises."""

    def inputs(self) -> list[MicrophoneInfo]:
        """Every device with an input channel."""
        sd = sounddevice()
        with _Turn():
            try:
                return _inputs(sd)
            except sd.PortAudioError as error:
                raise SourceError(f"expected PortAudio to list devices, got: {_reason(error)}") from error

    def open(
        self, info: MicrophoneInfo, *, rate_hz: int, channels: int, take: Taker, ended: Callable[[], None]
    ) -> HostStream:
        """Open and start a stream of float32 samples, in blocks as the host likes them."""
        sd = sounddevice()

        def attempt() -> _Stream:
            return _Stream(sd, info, rate_hz=rate_hz, channels=channels, take=take, ended=ended)

        with _Turn():
            try:
                return _patience.within(OPEN_S, attempt, late=_Stream.close_now)
            except sd.PortAudioError as error:
                raise SourceError(_refusal(sd, info, rate_hz, channels, error)) from error
            except Hung:
                raise SourceError(
                    f"expected microphone {info.name!r} to open in {OPEN_S:g} s; its driver hangs"
                ) from None

    def rescan(self) -> None:
        """PortAudio lists devices only once, when it begins; so it ends and begins again."""
        sd = sounddevice()

        def begin_anew() -> None:
            # Here, a call that hangs keeps its turn: PortAudio is then neither ended nor begun.
            with _Turn():
                if not _open:
                    if sd._initialized:
                        sd._terminate()
                    sd._initialize()

        try:
            _patience.within(OPEN_S + TURN_S, begin_anew)
        except sd.PortAudioError as error:
            raise SourceError(f"expected PortAudio to look for devices anew, got: {_reason(error)}") from error
        except Hung:
            raise SourceError("expected PortAudio to look for devices anew; it hangs in a driver") from None


def _inputs(sd: Any) -> list[MicrophoneInfo]:
    main_host = sd.default.hostapi
    hosts = sd.query_hostapis()
    default = hosts[main_host]["default_input_device"] if hosts else -1
    return [
        MicrophoneInfo(
            index=device["index"],
            name=device["name"],
            host=hosts[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            rate_hz=round(device["default_samplerate"]),
            is_default=device["index"] == default,
            is_main_host=device["hostapi"] == main_host,
        )
        for device in sd.query_devices()
        if device["max_input_channels"] > 0
    ]


class _Stream:
    def __init__(
        self, sd: Any, info: MicrophoneInfo, *, rate_hz: int, channels: int, take: Taker, ended: Callable[[], None]
    ) -> None:
        def callback(samples: np.ndarray, n: int, time: Any, status: Any) -> None:
            # PortAudio's own clock is read here, and not taken as it was when this thread began to wait for its turn:
            # what Python makes it wait is then no part of the sample's age.
            age_s = self._stream.time - time.inputBufferAdcTime if time.inputBufferAdcTime > 0 else None
            take(samples.copy(), age_s, bool(status.input_overflow))

        self._stream = sd.InputStream(
            device=info.index,
            samplerate=rate_hz,
            channels=channels,
            dtype="float32",
            latency="high",  # tens of milliseconds that the machine may be busy without a loss
            callback=callback,
            finished_callback=ended,
        )
        _open.add(id(self))
        self.rate_hz, self.latency_s = round(self._stream.samplerate), float(self._stream.latency)
        try:
            self._stream.start()
        except Exception:
            self.close_now()
            raise

    def close(self) -> None:
        with _Turn():
            try:
                _patience.within(CLOSE_S, self.close_now)
            except Hung:
                return  # left behind; while it hangs, devices cannot be looked for anew, but those listed can be opened

    def close_now(self) -> None:
        self._stream.close()
        _open.discard(id(self))


class _Turn:
    """PortAudio's lock, which is not waited for without end: who holds it may hang in a driver."""

    def __enter__(self) -> None:
        if not _turn.acquire(timeout=TURN_S):
            raise SourceError(f"expected PortAudio to be free within {TURN_S:g} s; another call into it hangs")

    def __exit__(self, *_: object) -> None:
        _turn.release()


def sounddevice() -> Any:
    """The library, imported now.

    Raises:
        SourceError: If it or PortAudio is not installed.
    """
    try:
        import sounddevice as sd
    except ImportError as error:
        raise SourceError("expected the package sounddevice for a microphone; run: pip install sounddevice") from error
    except OSError as error:
        raise SourceError(
            "expected the library PortAudio for a microphone, found none; run: apt-get install libportaudio2 "
            "(or what brings it on this system)"
        ) from error
    return sd


def _refusal(sd: Any, info: MicrophoneInfo, rate_hz: int, channels: int, error: Any) -> str:
    code = error.args[1] if len(error.args) > 1 else 0
    what = f"microphone {info.name!r}"
    if code == sd._lib.paInvalidChannelCount or channels > info.channels:
        return f"expected 1 to {info.channels} channels of {what}, got {channels}"
    if code == sd._lib.paInvalidSampleRate:
        offered = [rate for rate in RATES_HZ if _takes(sd, info, rate, channels)]
        return f"expected a rate of {', '.join(map(str, offered)) or 'none at all'} Hz of {what}, got {rate_hz}"
    if code == sd._lib.paDeviceUnavailable:
        return f"expected {what} to be free, it cannot be used now; another program may hold it: close that one"
    return f"expected to open {what} at {rate_hz} Hz with {channels} channels, got: {_reason(error)}"


def _takes(sd: Any, info: MicrophoneInfo, rate_hz: int, channels: int) -> bool:
    try:
        sd.check_input_settings(device=info.index, channels=channels, dtype="float32", samplerate=rate_hz)
    except sd.PortAudioError:
        return False
    return True


def _reason(error: Any) -> str:
    # The host's own words, where PortAudio has them.
    host = error.args[2][2] if len(error.args) > 2 else ""
    return f"{error.args[0]} ({host})" if host else str(error.args[0])
