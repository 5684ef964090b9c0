"""A microphone that is found again when it was lost."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np

from stream.clock import Clock
from stream.sources.device import FIRST_RETRY_S, LONGEST_RETRY_S, Back, Lost, Sink, Sound
from stream.sources.errors import SourceError
from stream.sources.microphones.finding import find, find_again
from stream.sources.microphones.portaudio import Audio, HostStream, MicrophoneInfo, PortAudio
from stream.sources.microphones.stamps import Stamps
from stream.windows import NS_PER_S

FIRST_S = 3.0  # for an open device to give its first samples
LEAVE_S = 3.0  # for our thread to end when the microphone is left
N_WAITING = 1000  # callbacks' blocks that may wait for our thread: several seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What a callback was given: samples (n, n_channels), their age, when, and how many were left out before."""

    samples: np.ndarray
    age_s: float | None
    arrived_ns: int
    overflowed: bool
    n_left_out: int


class Inlet:
    """What an opening's callbacks put their blocks into: bounded, never waiting. A new opening has a new one.

    Args:
        clock: Stamps the blocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.chunks: SimpleQueue[Chunk | str] = SimpleQueue()  # its put takes no lock that Python code could hold
        self._n_left_out = 0

    def take(self, samples: np.ndarray, age_s: float | None, overflowed: bool) -> None:
        """Keep a block, or count it where too many wait. PortAudio's thread."""
        arrived_ns = self._clock.now_ns()
        if self.chunks.qsize() >= N_WAITING:
            self._n_left_out += len(samples)
            return
        n_left_out, self._n_left_out = self._n_left_out, 0
        self.chunks.put(
            Chunk(samples=samples, age_s=age_s, arrived_ns=arrived_ns, overflowed=overflowed, n_left_out=n_left_out)
        )

    def ended(self) -> None:
        """Note that PortAudio ended the stream of itself. PortAudio's thread."""
        self.chunks.put("its stream ended")


class Microphone:
    """A microphone of this machine, in a thread of its own, which hands on what PortAudio's callbacks copied.

    It is lost when its stream ends, or no callback came for `stall_s`. Then it is closed, or left behind where that
    hangs, and looked for by name: after 0.1 s, then after twice as long each time, up to 1.5 s. PortAudio lists devices
    only when it begins, so it begins anew for each search, unless another microphone is open.

    Args:
        spec: An index, a name or a part of one, or `default`.
        rate_hz: Rate to ask for; None takes the device's own.
        channels: How many to ask for; they are averaged. None takes the device's own one or two; of a device with
            more, the system's mix to one or the first.
        latency_s: From the sound to PortAudio's notice of it; taken off the time of conversion.
        clock: The session clock; must run, for it stamps in the callback.
        sink: Takes `Sound`, `Lost` and `Back`; the first `Sound` may come before `__enter__` returns.
        stall_s: Without a callback for so long the microphone is lost.
        audio: Opens microphones; stands for PortAudio in tests.

    Attributes:
        n_overruns: Times that samples were lost before they could be handed on.

    Raises:
        SourceError: On entering, if it cannot be opened; one line lists what there is.
    """

    def __init__(
        self,
        spec: str,
        *,
        rate_hz: int | None = None,
        channels: int | None = None,
        latency_s: float = 0.0,
        clock: Clock,
        sink: Sink,
        stall_s: float = 1.0,
        audio: Audio | None = None,
    ) -> None:
        for what, value in (("a rate", rate_hz), ("a number of channels", channels), ("a time to stall", stall_s)):
            if value is not None and value <= 0:
                raise SourceError(f"expected {what} above 0 of microphone {spec!r}, got {value}")
        self._spec, self._rate_hz, self._channels = spec, rate_hz, channels
        self._latency_ns, self._stall_s = round(latency_s * NS_PER_S), stall_s
        self._clock, self._sink, self._audio = clock, sink, audio or PortAudio()
        self._info: MicrophoneInfo | None = None
        self._text = f"{spec}: not opened yet"
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards which inlet is listened to
        self._inlet: Inlet | None = None
        self._opened: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self.n_overruns = 0

    @property
    def name(self) -> str:
        """PortAudio's name of the device, by which it is found again."""
        return self._spec if self._info is None else self._info.name

    @property
    def text(self) -> str:
        """The device, what it gives, and what was asked for."""
        return self._text

    def __enter__(self) -> Self:
        """Open the microphone and wait for its first samples.

        Raises:
            SourceError: If it cannot be opened, or gives nothing.
        """
        self._thread.start()
        if (error := self._opened.get()) is not None:
            self._thread.join()
            raise error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the microphone; nothing is handed on from then on. A driver that hangs is left behind."""
        self._stop.set()
        with self._lock:
            if self._inlet is not None:
                self._inlet.chunks.put("left")
        if threading.current_thread() is not self._thread:
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        try:
            stream, first = self._open(lambda: find(self._audio.inputs(), self._spec))
        except BaseException as error:
            self._opened.put(error)
            return
        self._opened.put(None)
        while True:
            why = self._listen(stream, first)
            if not self._stop.is_set():
                self._sink(Lost(at_ns=self._clock.now_ns(), text=f"microphone {self.name} is lost: {why}"))
            stream.close()
            if self._stop.is_set():
                return
            found = self._search()
            if found is None:
                return
            stream, first = found
            self._sink(Back(at_ns=self._clock.now_ns(), text=f"microphone {self._text} is back"))

    def _open(self, choose: Callable[[], MicrophoneInfo]) -> tuple[HostStream, Chunk]:
        inlet = Inlet(self._clock)
        with self._lock:
            self._inlet = inlet

        self._audio.rescan()
        self._info = info = choose()
        # More than two channels are an array, or a sound server's idea of what it could mix: one, then.
        channels = self._channels or (info.channels if info.channels <= 2 else 1)
        rate_hz = self._rate_hz or info.rate_hz
        stream = self._audio.open(info, rate_hz=rate_hz, channels=channels, take=inlet.take, ended=inlet.ended)
        try:
            first = inlet.chunks.get(timeout=FIRST_S)
        except Empty:
            first = f"it opened, and gave nothing for {FIRST_S:g} s"
        if isinstance(first, str):
            stream.close()
            raise SourceError(f"expected sound from microphone {self.name!r}: {first}; plug it in again")
        self._text = self._told(info, stream, channels)
        return stream, first

    def _told(self, info: MicrophoneInfo, stream: HostStream, channels: int) -> str:
        asked = [f"{self._rate_hz} Hz"] if self._rate_hz else []
        asked += [f"{self._channels} channels"] if self._channels else []
        return (
            f"{info.name}: {stream.rate_hz} Hz, {channels} channel{'s' if channels > 1 else ''}, "
            f"latency {1e3 * stream.latency_s:.0f} ms" + (f", asked for {', '.join(asked)}" if asked else "")
        )

    def _listen(self, stream: HostStream, first: Chunk) -> str:
        # Hands on until there is nothing more; says why.
        assert self._inlet is not None
        stamps = Stamps(stream.rate_hz, stream.latency_s)
        chunk: Chunk | str = first
        while not isinstance(chunk, str) and not self._stop.is_set():
            self._sink(self._sound(chunk, stamps))
            try:
                chunk = self._inlet.chunks.get(timeout=self._stall_s)
            except Empty:
                chunk = f"no sound came for {self._stall_s:g} s"
        return chunk if isinstance(chunk, str) else "left"

    def _sound(self, chunk: Chunk, stamps: Stamps) -> Sound:
        overflowed = chunk.overflowed or chunk.n_left_out > 0
        self.n_overruns += overflowed
        n_channels = chunk.samples.shape[1]
        stamp = stamps.next(
            len(chunk.samples), chunk.arrived_ns, chunk.age_s, n_lost=chunk.n_left_out, lost_more=chunk.overflowed
        )
        return Sound(
            first=stamp.first,
            samples=chunk.samples[:, 0] if n_channels == 1 else chunk.samples.mean(axis=1, dtype=np.float32),
            rate_hz=stamps.rate_hz,
            adc_ns=stamp.adc_ns - self._latency_ns,
            arrived_ns=chunk.arrived_ns,
            overflowed=overflowed,
        )

    def _search(self) -> tuple[HostStream, Chunk] | None:
        lost, pause_s = self._info, FIRST_RETRY_S
        assert lost is not None
        while not self._stop.wait(pause_s):
            try:
                return self._open(lambda: find_again(self._audio.inputs(), lost))
            except SourceError:
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        return None
