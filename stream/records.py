"""What travels along the line: frames, audio, faces, windows and scores, each with its time on the session timeline.

Times are integer nanoseconds since the session began; intervals are [start, end).
"""

from dataclasses import dataclass, field

import numpy as np

from stream.voice import VoiceState
from stream.windows import Draw

RATE_HZ = 16_000  # of all audio past the source; recognisers here take no other
VOICE_ONLY = 0  # the person that a voice without an attributable face is published under; faces count from 1


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """One picture.

    Attributes:
        t_ns: Presentation or capture time.
        image: (height_px, width_px, 3) uint8, RGB, upright (rotation metadata applied).
    """

    t_ns: int
    image: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioBlock:
    """A run of mono samples at 16 kHz.

    Attributes:
        first: Index of its first sample on the session timeline: sample i lies at i / 16000 s. What lies between the
            end of one block and the `first` of the next was never captured: a gap.
        samples: (n,) float32 in [-1, 1].
    """

    first: int
    samples: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SourceEvent:
    """Something that a source wants published: a truncated file, a lost device.

    Attributes:
        t_ns: When, on the session timeline.
        kind: A short name in snake case, `truncated` for example.
        text: What happened, in one line, for a person.
    """

    t_ns: int
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What a source found when it was opened.

    Attributes:
        name: Name of the stream, used in topics: letters, digits, `.`, `_` and `-`.
        has_video: Whether there is a picture.
        has_audio: Whether there is sound.
        frame_rate_hz: Average rate that the container states; None where it states none.
        duration_s: Length that the container states; None where it states none.
        text: The source for a person: codecs, size, rate.
    """

    name: str
    has_video: bool
    has_audio: bool
    frame_rate_hz: float | None
    duration_s: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class SourceHealth:
    """How a source's devices run; a file has none.

    Attributes:
        overruns: Times that a device lost samples, so far.
        left_out: Pictures and runs of sound that came too late to be in order, or found no room, so far.
        drift_ppm: How much faster than the session clock the microphone's runs, in parts per million.
        residual_ms: How far its times lie around the line that was fitted through them.
    """

    overruns: int = 0
    left_out: int = 0
    drift_ppm: float | None = None
    residual_ms: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One tracked person's face in one frame.

    Attributes:
        person: Stable id within the stream, from 1.
        box: x, y, width, height in pixels of the upright frame.
        crop: (size_px, size_px, 3) uint8, RGB, cut as the bundle's geometry asks.
        score: The detector's, in [0, 1]; 0 where the whole picture stands in for a face.
        flow: (size_px, size_px, 2) float32, pixels from the crop before to this one; None where it is not needed, or
            the person was not in the frame before.
        pose: (33, 3) float32, zeros where no body is found; None where it is not needed.
    """

    person: int
    box: tuple[int, int, int, int]
    crop: np.ndarray
    score: float
    flow: np.ndarray | None = None
    pose: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameFaces:
    """The faces of one analysed frame, in ascending order of person; empty where there is none.

    `whole` is the picture as a face of person `VOICE_ONLY`, for recognisers that take it in place of a face.
    """

    t_ns: int
    faces: tuple[Face, ...]
    whole: Face | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """What a clip recogniser's window holds beyond its newest frame and its waveform.

    Attributes:
        frames: The person's pictures in the window, ascending in time; the whole picture where it stands in for one.
        times_ns: Their times.
        chunks: Number and samples of each whole audio chunk up to the window's end that was captured, ascending; chunk
            k begins at k times the chunk's length.
    """

    frames: tuple[Face, ...]
    times_ns: tuple[int, ...]
    chunks: tuple[tuple[int, np.ndarray], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The input of one scoring: one person, one segment.

    Attributes:
        person: The face's person, or `VOICE_ONLY`.
        draw: The frame and audio interval drawn for the segment.
        end_ns: End of the segment: the newest media time that this window speaks of.
        face: The face in the drawn frame, or None.
        voice: State of the audio interval, for this person.
        waveform: (n_samples,) float32, present only where `voice` is `present`.
        clip: The pictures and audio chunks, where the recogniser looks at a whole clip; `face` is then the newest one.
    """

    person: int
    draw: Draw
    end_ns: int
    face: Face | None
    voice: VoiceState
    waveform: np.ndarray | None
    clip: Clip | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """A window's posterior.

    Attributes:
        window: The window.
        posterior: (n_labels,) float32 summing to 1, or None where neither modality was there.
        weights: How much each modality had of it: `face` and `voice`, summing to 1, or both 0.
    """

    window: Window
    posterior: np.ndarray | None
    weights: dict[str, float] = field(default_factory=dict)
