"""What cameras and microphones hand on, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

FIRST_RETRY_S = 0.1  # between the loss of a device and the first attempt to open it again; doubles with each failure
LONGEST_RETRY_S = 1.5  # so that what has come back is in use again within 2 s


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture from a camera.

    Attributes:
        at_ns: Clock time of its capture: of its arrival, less the camera's latency. Ascending from one camera.
        image: (height_px, width_px, 3) uint8, RGB, contiguous. Nobody writes to it again.
    """

    at_ns: int
    image: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """One run of samples from a microphone.

    Attributes:
        first: Index of its first sample, in samples of the device since this opening of it; gaps count.
        samples: (n,) float32 in [-1, 1], mono, at the device's own rate. The receiver owns it.
        rate_hz: The device's rate.
        adc_ns: Clock time at which the first sample was converted, by PortAudio's account, less the microphone's
            latency.
        arrived_ns: Clock time at which the callback was entered.
        overflowed: Whether samples were lost just before this run.
    """

    first: int
    samples: np.ndarray
    rate_hz: int
    adc_ns: int
    arrived_ns: int
    overflowed: bool


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A device that stopped giving anything; it is looked for from then on.

    Attributes:
        at_ns: Clock time at which it was noticed.
        text: What happened, in one line, for a person.
    """

    at_ns: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Back:
    """A lost device that gives something again; its first item follows.

    Attributes:
        at_ns: Clock time at which it was noticed.
        text: What came back, in one line, for a person.
    """

    at_ns: int
    text: str


Sink = Callable[[Picture | Sound | Lost | Back], None]
"""Takes what a device hands on, in the device's own thread; it copies nothing and must return at once."""


class Device(Protocol):
    """A camera or a microphone: entered, it runs in threads of its own until it is left. Any thread may read.

    Attributes:
        name: What it is found by again: a device's name, or a URL.
        text: For a person: what was asked for and what came.
    """

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str: ...

    def __enter__(self) -> Self:
        """Open it, and begin to hand things on.

        Raises:
            SourceError: If it cannot be opened; one line lists what there is.
        """
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; nothing is handed on from then on."""
        ...
