"""What a recogniser needs of a clip, and what preparation made of one: pictures, flow, pose and sound in memory."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engines.bundle import FaceInput
from train.voices import SILENCE_DBFS

Flow = Literal["none", "lucas-kanade", "farneback", "dis"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is taken out of a clip.

    Attributes:
        face: Geometry of the crops; None for a recogniser that only listens.
        frame_hz: Pictures for each second: the first of each 1 / frame_hz, as the stream takes them.
        flow: Optical flow from each crop's predecessor to it.
        pose: Whether body pose is needed.
        audio: Whether sound is needed: a clip without any is then an error.
        silence_dbfs: And so is one whose loudest 50 ms are quieter than this; as the bundle's audio windows have it.
    """

    face: FaceInput | None
    frame_hz: float = 12.5
    flow: Flow = "none"
    pose: bool = False
    audio: bool = True
    silence_dbfs: float = SILENCE_DBFS


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A clip as a recogniser takes it. n pictures of side S; what was not needed is None.

    Attributes:
        name: Of the clip.
        times_s: (n,) float64, each picture's time since the clip's start, ascending.
        crops: (n, S, S, 3) uint8, RGB.
        seen: (n,) bool, whether the crop shows a face that was found; with `align="frame"` all are.
        flow: (n, S, S, 2) float32, pixels from the picture before; the first repeats the second, or is 0 if alone.
        pose: (n, 33, 3) float32; rows where `body` is False are zeros and mean nothing.
        body: (n,) bool, whether a body was found.
        samples: (T,) float32, mono at 16 kHz, from the clip's start on.
    """

    name: str
    times_s: np.ndarray
    crops: np.ndarray | None = None
    seen: np.ndarray | None = None
    flow: np.ndarray | None = None
    pose: np.ndarray | None = None
    body: np.ndarray | None = None
    samples: np.ndarray | None = None
