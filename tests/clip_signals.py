"""What a made clip shows and sounds like: its class stands in one signal, and every other signal tells nothing of it.

A picture is a public-domain portrait (see `tools.replaying.demo_clip`) that the face detector and BlazePose see, or a
texture that moves. Where and how large the portrait stands, its light, the noise and the phases differ from clip to
clip. Whatever carries a class survives a mirror, since recognisers are trained on mirrored pictures too.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np

from stream.records import RATE_HZ
from tools.replaying.demo_clip import read_portrait

# appearance: marks on the face. motion: speed of a texture, up or down. spectrum: pitch and formants of the voice.
# skeleton: how far the body leans. agreement: marks and voice together, neither alone. both: marks and voice alike.
Signal = Literal["appearance", "motion", "spectrum", "skeleton", "agreement", "both"]
SIDE_PX = 96
# In pixels of the portrait: spots of the three marks, alike on both sides, and what the detector finds.
MARKS = (((184, 78),), ((156, 132), (212, 132)), ((184, 172),))
EYES, BOX = ((165.2, 101.4), (209.0, 103.0)), (132.0, 71.0, 104.0, 104.0)
FACE_CENTRE, BODY_CENTRE = (184, 125), (184, 260)
MAX_LEAN_DEG = 24.0  # beyond some 28, BlazePose loses this portrait
SIDES_PER_S = 0.5  # fastest motion


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One clip. Codes lie in [0, n_labels); those that are no label are drawn at random.

    Attributes:
        n_labels: Number of codes.
        label: Of the clip.
        marks: Code of the marks on the face.
        voice: Code of the voice.
        body: Code of the posture; None shows the face large and upright.
        motion: Code of the motion; None shows the portrait.
        seed: Of whatever tells nothing.
    """

    n_labels: int
    label: int
    marks: int
    voice: int
    body: int | None = None
    motion: int | None = None
    seed: int = 0

    def picture(self, t_s: float) -> np.ndarray:
        """The picture at a moment, (SIDE_PX, SIDE_PX, 3) uint8 RGB."""
        chance = np.random.default_rng((self.seed, 1))
        gain = chance.uniform(0.92, 1.08)
        if self.motion is not None:
            speed = SIDES_PER_S * SIDE_PX * (2 * self.motion / (self.n_labels - 1) - 1)
            # Whole pixels: to interpolate would blur a texture by its speed.
            clear = np.roll(_texture(self.seed), round(chance.uniform(0, SIDE_PX) + speed * t_s), axis=0)
        else:
            clear = cv2.warpAffine(
                _marked(self.marks), self.place(t_s), (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
        noise = np.random.default_rng((self.seed, 2, round(t_s * 1000))).integers(-6, 7, clear.shape)
        return np.asarray((clear * gain + noise).clip(0, 255), np.uint8)

    def place(self, t_s: float) -> np.ndarray:
        """The similarity transform from the portrait to the picture, (2, 3) float64."""
        chance = np.random.default_rng((self.seed, 3))
        (dx, dy), size = chance.uniform(-0.04, 0.04, 2) * SIDE_PX, chance.uniform(0.94, 1.06)
        if self.body is None:
            (x, y), scale, at = FACE_CENTRE, 0.5 * SIDE_PX / 96, (0.5, 0.52)
        else:
            (x, y), scale, at = BODY_CENTRE, 0.9 * SIDE_PX / 400, (0.46, 0.66)
        matrix = cv2.getRotationMatrix2D((x, y), self.lean_deg(t_s), scale * size)
        matrix[:, 2] += at[0] * SIDE_PX + dx - x, at[1] * SIDE_PX + dy - y
        return np.asarray(matrix)

    def lean_deg(self, t_s: float) -> float:
        """How far the body leans, counter-clockwise; of eight codes the upper four sway besides."""
        chance = np.random.default_rng((self.seed, 4))
        sway = chance.uniform(1, 2) * np.sin(2 * np.pi * 0.4 * t_s + chance.uniform(0, 6.28))
        if self.body is None:
            return float(sway)
        n_leans = min(self.n_labels, 4)
        lean = MAX_LEAN_DEG * (self.body % n_leans) / (n_leans - 1)
        wide = 8 * np.sin(2 * np.pi * 1.5 * t_s + chance.uniform(0, 6.28)) if self.body >= n_leans else 0.0
        return float(chance.choice((-1, 1)) * lean + sway + wide)

    def sound(self, duration_s: float) -> np.ndarray:
        """The voice at 16 kHz, (n,) float64: harmonics under two formants, in four syllables a second."""
        chance = np.random.default_rng((self.seed, 5))
        t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
        place = self.voice / (self.n_labels - 1)
        pitch = 110 * 3**place * chance.uniform(0.97, 1.03)
        phase = 2 * np.pi * pitch * t + 0.3 * np.sin(2 * np.pi * 5 * t + chance.uniform(0, 6.28))
        wave = np.zeros_like(t)
        for k in range(1, 13):
            loud = sum(1 / (1 + ((k * pitch - f) / 120) ** 2) for f in (350 + 500 * place, 1900 - 800 * place))
            wave += loud * np.sin(k * phase + chance.uniform(0, 6.28))
        syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t + chance.uniform(0, 6.28))
        wave = wave / np.sqrt((wave**2).mean()) * syllables * chance.uniform(0.1, 0.14)
        return np.asarray((wave + 0.003 * chance.standard_normal(len(t))).clip(-0.9, 0.9))


def scenes(signal: Signal, n_clips: int, n_labels: int = 2, seed: int = 0) -> list[Scene]:
    """Clips whose labels go round; `signal` says where they show. Two to eight labels."""
    assert 2 <= n_labels <= 8
    chance = np.random.default_rng((seed, 6))
    # As many of each partner as of any other with every label, in an order that tells nothing.
    partners = np.zeros(n_clips, int)
    for label in range(n_labels):
        own = np.arange(label, n_clips, n_labels)
        partners[own] = chance.permutation(np.arange(len(own)) % n_labels)
    made = []
    for number, partner in enumerate(int(p) for p in partners):
        label = number % n_labels
        marks, voice = (int(code) for code in chance.integers(0, n_labels, 2))
        if signal == "agreement":
            marks, voice = partner, (label - partner) % n_labels
        made.append(
            Scene(
                n_labels=n_labels,
                label=label,
                marks=label if signal in ("appearance", "both") else marks,
                voice=label if signal in ("spectrum", "both") else voice,
                body=label if signal == "skeleton" else None,
                motion=label if signal == "motion" else None,
                seed=int(chance.integers(1 << 31)),
            )
        )
    return made


@cache
def _marked(code: int) -> np.ndarray:
    face = read_portrait().astype(np.float32)
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]]
    for bit, spots in enumerate(MARKS):
        for x, y in spots:
            share = 0.9 * np.exp(-((((columns - x) ** 2 + (rows - y) ** 2) / (2 * 9**2)) ** 2))[..., None]
            # Codes 0 and 1, all that two labels need, differ in every mark.
            light = (code >> bit) & 1 if bit == 0 else (code >> bit ^ code) & 1
            face = face * (1 - share) + share * (225 if light else 30)
    return np.asarray(face, np.uint8)


@cache
def _texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng((seed, 8)).standard_normal((SIDE_PX, SIDE_PX, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 2.5)[SIDE_PX:-SIDE_PX, SIDE_PX:-SIDE_PX]
    return np.asarray((128 + 45 * smooth / smooth.std()).clip(0, 255), np.uint8)
