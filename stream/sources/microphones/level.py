"""How loud a microphone is: whether it hears anything at all."""

import threading
from dataclasses import dataclass

import numpy as np

from stream.clock import MonotonicClock
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.errors import SourceError
from stream.sources.microphone import Microphone
from stream.sources.microphones.portaudio import Audio

FLOOR_DBFS = -120.0  # what silence is given as


@dataclass(frozen=True, kw_only=True)
class Level:
    """Loudness against full scale.

    Attributes:
        rms_dbfs: Root mean square: 0 is a square wave at full scale; -120 at the least.
        peak_dbfs: The largest sample, likewise.
        text: The microphone, for a person.
    """

    rms_dbfs: float
    peak_dbfs: float
    text: str


def level(spec: str, seconds: float, *, audio: Audio | None = None) -> Level:
    """Listen to a microphone for a while.

    Raises:
        SourceError: If it cannot be opened, or is lost meanwhile.
    """
    heard: list[np.ndarray] = []
    n_heard_s, why = 0.0, ""
    enough = threading.Event()

    def take(item: Picture | Sound | Lost | Back) -> None:
        nonlocal n_heard_s, why
        if isinstance(item, Lost):
            why = item.text
            enough.set()
        elif isinstance(item, Sound) and not enough.is_set():
            heard.append(item.samples)
            n_heard_s += len(item.samples) / item.rate_hz
            if n_heard_s >= seconds:
                enough.set()

    with Microphone(spec, clock=MonotonicClock(), sink=take, audio=audio) as microphone:
        enough.wait()
        text = microphone.text
    if why:
        raise SourceError(f"expected {seconds:g} s of sound, got {n_heard_s:.1f} s: {why}")
    samples = np.concatenate(heard).astype(np.float64)
    return Level(rms_dbfs=_db(np.sqrt(np.mean(samples**2))), peak_dbfs=_db(np.max(np.abs(samples))), text=text)


def _db(value: np.floating) -> float:
    return max(20 * float(np.log10(max(float(value), 1e-9))), FLOOR_DBFS)
