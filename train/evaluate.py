"""Evaluation of a bundle by its own graphs: faces one by one, voices by whole utterance, and class-matched pairs.

An utterance is scored as the stream would: a window in each segment, silent ones left out, posteriors summed and
calibrated. Faces and voices here are of different people: a pair joins a face and an utterance of the same label, and
is named class-matched wherever its figure stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.bundle import PAIR_STAGES, Bundle, BundleError, PerModality
from engines.engine import Engine
from engines.select import Engines
from stream.aggregation import calibrate
from stream.config import window_scheme
from stream.windows import WindowScheme
from train.corpora import ferplus
from train.corpora.items import CorpusError, Faces
from train.metrics import Metrics, measure
from train.voices import Voices, load, windows_of

BATCH = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What an encoder gave: features (n, n_features) and posteriors (n, n_labels), float32."""

    features: np.ndarray
    posterior: np.ndarray


class Recogniser:
    """A bundle's graphs, run on material that is already cut."""

    def __init__(self, bundle: Bundle, *, engine: str = "auto", threads: int = 2) -> None:
        if bundle.manifest.clip is not None:
            raise BundleError(
                f"{bundle.manifest.name} looks at whole clips, single faces and utterances cannot be given to it; "
                "emocast train measures it on clips, and its card says with what result"
            )
        engines = Engines(engine, threads=threads)
        self._frame, self._audio, self._head = (engines.open(bundle, stage) for stage in PAIR_STAGES)
        self.size_px = bundle.manifest.face.size_px

    def faces(self, images: np.ndarray) -> Encoded:
        """Encode grey pictures (n, h, w) uint8, scaled to the crop's size where they are not of it."""
        size = (self.size_px, self.size_px)
        if images.shape[1:] != size:
            images = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
        return self._encode(self._frame, "crop", np.repeat(images[..., None], 3, axis=3))

    def voice(self, windows: np.ndarray) -> Encoded:
        """Encode waveforms (n, n_samples) float32."""
        return self._encode(self._audio, "waveform", windows)

    def both(self, face: np.ndarray, voice: np.ndarray) -> np.ndarray:
        """Joint posteriors of paired features, (n, n_labels)."""
        return self._head.run({"face": face, "voice": voice})["posterior"]

    def _encode(self, engine: Engine, name: str, items: np.ndarray) -> Encoded:
        parts = [engine.run({name: items[at : at + BATCH]}) for at in range(0, len(items), BATCH)]
        features, posterior = (np.concatenate([p[key] for p in parts]) for key in ("features", "posterior"))
        return Encoded(features=features, posterior=posterior)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """An utterance scored: features of its windows and its mean posterior by the voice alone."""

    features: np.ndarray
    posterior: np.ndarray
    label: int
    corpus: str


def score_faces(recogniser: Recogniser, faces: Faces) -> Encoded:
    """Encode every picture."""
    return recogniser.faces(faces.images)


def score_voices(recogniser: Recogniser, voices: Voices, scheme: WindowScheme, seed: int = 0) -> list[Spoken]:
    """Score every utterance from its windows."""
    spoken = []
    for samples, utterance in zip(voices.samples, voices.utterances, strict=True):
        encoded = recogniser.voice(windows_of(samples, utterance.name, scheme, seed))
        spoken.append(
            Spoken(
                features=encoded.features,
                posterior=encoded.posterior.mean(0),
                label=utterance.label,
                corpus=utterance.name.split("/")[0],
            )
        )
    return spoken


def match(face_labels: np.ndarray, spoken: Sequence[Spoken], seed: int = 0) -> list[tuple[int, int]]:
    """Class-matched pairs: each face with an utterance of its label, drawn by seed; faces without one are left out."""
    generator = np.random.default_rng(seed)
    voices_of: dict[int, list[int]] = {}
    for index, utterance in enumerate(spoken):
        voices_of.setdefault(utterance.label, []).append(index)
    pairs = []
    for face, label in enumerate(face_labels):
        if voices := voices_of.get(int(label)):
            pairs.append((face, voices[int(generator.integers(len(voices)))]))
    return pairs


def score_pairs(
    recogniser: Recogniser, faces: Encoded, spoken: Sequence[Spoken], pairs: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Mean joint posterior of each pair over the windows of its utterance, (n_pairs, n_labels)."""
    posteriors = []
    for face, voice in pairs:
        features = spoken[voice].features
        joined = recogniser.both(np.repeat(faces.features[face : face + 1], len(features), axis=0), features)
        posteriors.append(joined.mean(0))
    return np.stack(posteriors)


def evaluate(
    bundle: Bundle,
    *,
    faces: Sequence[tuple[str, Path]] = (),
    voices: Sequence[tuple[str, Path]] = (),
    split: str = "valid",
    engine: str = "auto",
    seed: int = 0,
) -> dict[str, Metrics]:
    """Metrics by name: of the only or both modalities asked for, and of each part of it.

    With faces alone: `face`. With voices alone: `voice`, and each corpus by name. With both: `both` (class-matched
    pairs), and on the same pairs `face` and `voice` alone.

    Raises:
        CorpusError: If no corpus is given, one is unknown, or one is not in its official layout.
    """
    if not faces and not voices:
        raise CorpusError("expected --faces ferplus:DIR, --voices CORPUS:DIR or both, got neither")
    _check_labels(bundle)
    recogniser = Recogniser(bundle, engine=engine)
    heat = bundle.manifest.temperature
    seen = _read_faces(faces, split) if faces else None
    encoded = score_faces(recogniser, seen) if seen else None
    spoken = score_voices(recogniser, load(voices, split), window_scheme(bundle, None), seed) if voices else []
    if seen is None or encoded is None:
        return _voice_metrics(spoken, heat.voice)
    if not spoken:
        return {"face": measure(calibrate(encoded.posterior, heat.face), seen.majority)}
    return _pair_metrics(recogniser, seen, encoded, spoken, heat, seed)


def _read_faces(corpora: Sequence[tuple[str, Path]], split: str) -> Faces:
    if len(corpora) != 1 or corpora[0][0] != "ferplus":
        raise CorpusError(f"expected one face corpus, ferplus:DIR, got {', '.join(name for name, _ in corpora)}")
    return ferplus.read(corpora[0][1], split)


def _check_labels(bundle: Bundle) -> None:
    if bundle.manifest.labels != ferplus.COLUMNS[: ferplus.N_LABELS]:
        raise BundleError(f"expected the seven labels of FER+, {bundle.manifest.name} has {bundle.manifest.labels}")


def _voice_metrics(spoken: Sequence[Spoken], temperature: float) -> dict[str, Metrics]:
    posteriors = calibrate(np.stack([s.posterior for s in spoken]), temperature)
    labels = np.array([s.label for s in spoken])
    corpora = np.array([s.corpus for s in spoken])
    found = {"voice": measure(posteriors, labels)}
    for corpus in dict.fromkeys(s.corpus for s in spoken):
        found[corpus] = measure(posteriors[corpora == corpus], labels[corpora == corpus])
    return found


def _pair_metrics(
    recogniser: Recogniser, seen: Faces, encoded: Encoded, spoken: Sequence[Spoken], heat: PerModality, seed: int
) -> dict[str, Metrics]:
    pairs = match(seen.majority, spoken, seed)
    if not pairs:
        raise CorpusError("expected faces and utterances with a label in common, got none; give a larger voice corpus")
    at = np.array(pairs)
    labels = seen.majority[at[:, 0]]
    voice = np.stack([s.posterior for s in spoken])[at[:, 1]]
    return {
        "both": measure(calibrate(score_pairs(recogniser, encoded, spoken, pairs), heat.both), labels),
        "face": measure(calibrate(encoded.posterior[at[:, 0]], heat.face), labels),
        "voice": measure(calibrate(voice, heat.voice), labels),
    }
