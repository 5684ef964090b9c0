"""Windows and scores made by hand, for tests of what comes after them."""

import numpy as np

from stream.records import Face, Score, Window
from stream.voice import VoiceState
from stream.windows import Draw

SEGMENT_NS = 250_000_000


def draw(segment: int) -> Draw:
    """Frame in the middle of its segment, audio centred on it."""
    frame_ns = segment * SEGMENT_NS + SEGMENT_NS // 2
    return Draw(
        segment=segment,
        frame_ns=frame_ns,
        frame_index=0,
        offset_ns=0,
        audio_start_ns=frame_ns - 640_000_000,
        audio_end_ns=frame_ns + 640_000_000,
    )


def face(person: int = 1, crop: np.ndarray | None = None, box: tuple[int, int, int, int] = (1, 2, 3, 4)) -> Face:
    return Face(person=person, box=box, crop=np.zeros((16, 16, 3), np.uint8) if crop is None else crop, score=0.9)


def window(
    segment: int = 0,
    person: int = 1,
    *,
    seen: Face | None = None,
    heard: np.ndarray | None = None,
    voice: VoiceState = VoiceState.SILENCE,
) -> Window:
    return Window(
        person=person,
        draw=draw(segment),
        end_ns=(segment + 1) * SEGMENT_NS,
        face=seen,
        voice=voice if heard is None else VoiceState.PRESENT,
        waveform=heard,
    )


WEIGHTS = {
    "face": {"face": 1.0, "voice": 0.0},
    "voice": {"face": 0.0, "voice": 1.0},
    "both": {"face": 0.5, "voice": 0.5},
    "none": {"face": 0.0, "voice": 0.0},
}


def score(segment: int, kind: str, posterior: list[float] | None = None, person: int = 1) -> Score:
    """A score of a kind: `face`, `voice`, `both`, or `none`, which has no posterior."""
    seen = face(person) if kind in ("face", "both") else None
    heard = np.zeros(1, np.float32) if kind in ("voice", "both") else None
    values = None if posterior is None or kind == "none" else np.array(posterior, np.float32)
    return Score(window=window(segment, person, seen=seen, heard=heard), posterior=values, weights=WEIGHTS[kind])
