"""The demo's clip: a real face that changes its expression, and a made voice, encoded as any recording would be.

The face is astronaut Eileen Collins, photographed by NASA in 1993; the portrait is in the public domain and is cropped
from the copy that scikit-image carries. Its expressions are made by pushing brows, lips and the corners of the mouth.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

PORTRAIT = Path(__file__).parents[1] / "assets" / "astronaut.jpg"
RATE_HZ, FRAME_RATE_HZ, DURATION_S = 48_000, 25, 10
# Landmarks of the portrait in pixels: where a push acts, its direction, and how far around it (standard deviation).
Push = tuple[float, float, float, float, float]
CLOSED: tuple[Push, ...] = ((184, 138, 0, 4, 13), (184, 154, 0, -5, 11))
EXPRESSIONS: dict[str, tuple[Push, ...]] = {
    "smiling": (),
    "surprised": (
        (160, 89, 0, -7, 10), (207, 91, 0, -7, 10), (184, 158, 0, 10, 13), (160, 141, 9, 2, 9), (207, 141, -9, 2, 9),
        (150, 130, 4, 0, 9), (217, 130, -4, 0, 9),
    ),
    "sad": (
        *CLOSED, (160, 140, 7, 14, 9), (207, 140, -7, 14, 9), (172, 92, 0, -8, 6), (195, 93, 0, -8, 6),
        (152, 92, 0, 6, 7), (216, 94, 0, 6, 7),
    ),
    "angry": (
        *CLOSED, (160, 140, 9, 10, 9), (207, 140, -9, 10, 9), (170, 91, 7, 12, 8), (198, 92, -7, 12, 8),
        (152, 88, 0, -4, 6), (216, 90, 0, -4, 6),
    ),
}  # fmt: skip
# How far the lips cover the teeth, or the mouth is dark inside: colour (RGB) and strength.
LIPS, DARK = (176, 104, 98), (52, 22, 20)
MOUTH: dict[str, tuple[tuple[int, int, int], float]] = {
    "smiling": (LIPS, 0.0), "surprised": (DARK, 0.9), "sad": (LIPS, 0.9), "angry": (LIPS, 0.95),
}  # fmt: skip
SEQUENCE = ("smiling", "surprised", "sad", "angry")
# Fundamental frequency, its swing in octaves, syllables a second and loudness of the voice with each.
VOICES = {
    "smiling": (210, 0.35, 4.5, 0.20),
    "surprised": (270, 0.6, 4.0, 0.25),
    "sad": (160, 0.08, 2.2, 0.08),
    "angry": (240, 0.25, 5.5, 0.35),
}
FORMANTS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (300, 870, 2240), (570, 840, 2410))


def make(path: Path) -> None:
    """Write the clip: 400 x 400 at 25 Hz with mono voice at 48 kHz, ten seconds, H.264 and AAC."""
    partial = path.with_name(path.name + ".partial")
    with av.open(str(partial), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"preset": "ultrafast", "crf": "20"})
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        portrait = read_portrait()
        video.height, video.width = portrait.shape[:2]
        video.pix_fmt = "yuv420p"
        _write_voice(container, audio)
        for index in range(DURATION_S * FRAME_RATE_HZ):
            frame = av.VideoFrame.from_ndarray(picture(portrait, index / FRAME_RATE_HZ), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    partial.replace(path)


def read_portrait() -> np.ndarray:
    """The portrait as it is, (400, 400, 3) uint8 RGB."""
    with av.open(str(PORTRAIT)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def picture(portrait: np.ndarray, t_s: float) -> np.ndarray:
    """The portrait at a moment of the clip: its expression, and a head that sways; (h, w, 3) uint8 RGB."""
    face = expressed(portrait, blend(t_s))
    turn = cv2.getRotationMatrix2D((184, 120), 4 * np.sin(1.7 * t_s), 1.25 + 0.04 * np.sin(1.1 * t_s))
    turn[:, 2] += 8 * np.sin(0.9 * t_s), 25 + 4 * np.sin(1.3 * t_s)
    return np.asarray(cv2.warpAffine(face, turn, portrait.shape[1::-1], borderMode=cv2.BORDER_REFLECT))


def expressed(portrait: np.ndarray, strengths: Mapping[str, float]) -> np.ndarray:
    """The portrait with expressions of a given strength in [0, 1]; (h, w, 3) uint8 RGB."""
    height, width = portrait.shape[:2]
    columns: np.ndarray = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    rows: np.ndarray = np.tile(np.arange(height, dtype=np.float32)[:, None], (1, width))
    bend = 4 * ((columns - 184) / 21) ** 2  # of the smiling mouth, whose inside is covered
    inside = np.exp(-(((columns - 184) / 21) ** 4) - ((rows - 145.5 + bend) / 5.0) ** 4)
    face: np.ndarray = portrait.astype(np.float32)
    for name, strength in strengths.items():
        colour, cover = MOUTH[name]
        share = (strength * cover * inside)[..., None]
        face = face * (1 - share) + share * np.array(colour, np.float32)
        for x, y, dx, dy, spread in EXPRESSIONS[name]:
            near = strength * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
            columns, rows = columns - dx * near, rows - dy * near
    pushed = cv2.remap(
        face.astype(np.uint8),
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(pushed)


def blend(t_s: float) -> dict[str, float]:
    """Strength of each expression at a moment: one after the other, each change taking 0.4 s."""
    each_s = DURATION_S / len(SEQUENCE)
    index = min(int(t_s / each_s), len(SEQUENCE) - 1)
    into = min(1.0, (t_s - index * each_s) / 0.4) if index else 1.0
    if index == 0 or into >= 1.0:
        return {SEQUENCE[index]: 1.0}
    return {SEQUENCE[index - 1]: 1.0 - into, SEQUENCE[index]: into}


def voice() -> np.ndarray:
    """The made voice: harmonics under three formants, in syllables; (n,) float32 at 48 kHz."""
    t = np.arange(DURATION_S * RATE_HZ) / RATE_HZ
    part = np.minimum((t * len(SEQUENCE) / DURATION_S).astype(int), len(SEQUENCE) - 1)
    pitch, swing, pace, loudness = (np.array([VOICES[name] for name in SEQUENCE])[part, k] for k in range(4))
    syllables = np.cumsum(pace) / RATE_HZ
    f0 = pitch * 2 ** (swing * np.sin(2 * np.pi * 0.7 * t) - 0.1 * (syllables % 1))
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    vowel = np.array(FORMANTS_HZ)[(syllables.astype(int) * 7) % len(FORMANTS_HZ)]
    wave = np.zeros_like(t)
    for harmonic in range(1, 17):
        frequency = harmonic * f0
        resonance = sum(1 / (1 + ((frequency - vowel[:, k]) / 110) ** 2) for k in range(3))
        wave += resonance * np.sin(harmonic * phase) / harmonic**0.5
    envelope = np.clip(np.sin(np.pi * (syllables % 1)), 0, None) ** 0.7
    breath = np.random.default_rng(0).standard_normal(len(t)) * 0.02
    spoken = envelope * (wave / np.abs(wave).max() + breath)
    return np.asarray(spoken * loudness / 0.35, dtype=np.float32)


def _write_voice(container: Any, stream: Any) -> None:
    samples = voice()
    for at in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
