"""A person's baseline: how far this person's neutral face and voice lie from what the recogniser takes for neutral.

A recogniser reads standing features as expressions: a low brow as anger, a high voice as happiness. FaceReader
calibrates by person, OpenFace subtracts a neutral video frame, and BLEMORE (2026) finds personal expression to be the
main limit. Here a few seconds are taken while the person is neutral, and what remains is a correction of posteriors,
so that it serves every recogniser, the face and the voice:

- m is the mean log posterior of the neutral windows, one for each kind of window (`face`, `voice`, `both`).
- Where neutral does not lead another label by MARGIN in m, that label is lowered, for this person, by what is missing:
  shift_j = -min(BOUND, max(0, m_j - m_neutral + MARGIN)). That is the smallest lowering after which neutral leads as
  it does in others: of RAVDESS's 16 speakers in training, 14 lead by MARGIN or more. Where it does so already, all
  shifts are 0 and nothing is changed.
- Corrected is p_j exp(shift_j), normalised, for each window before the rolling sum.

Limits. The ratio of two labels changes by a factor of exp(BOUND) = 4 at most, so a label that leads all others of its
window by more than that stays the label: a clear expression is never turned into another. Nothing is raised but by
what others lose, so it cannot find an expression that was missed. It is a guess from some seconds: who was not neutral
then is corrected for their mood. And it holds for one recogniser, one person, and conditions (light, microphone)
like those it was taken in. `python -m tools.measure.baseline_check` measures what it gains on speakers not trained on.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from engines.bundle import Bundle
from engines.whole_file import write_whole
from stream.config_folder import config_folder
from stream.records import VOICE_ONLY, Score
from stream.scoring import modality

MARGIN = BOUND = math.log(4)
FLOOR = 1e-4  # of a probability, so that one window that is sure of itself does not outweigh all others
MIN_WINDOWS = 8  # of a kind, 2 s of hops; fewer say too little, and that kind is left as it is
NEUTRAL = "neutral"
PERSON = r"[A-Za-z0-9._-]+"
Kind = Literal["face", "voice", "both"]
KINDS: tuple[Kind, ...] = ("face", "voice", "both")
Shift = Annotated[float, Meta(ge=-BOUND - 1e-9, le=0.0)]


class BaselineError(ValueError):
    """A baseline that cannot be taken or used; the text says what was expected, what came and what to do."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of one person, as JSON.

    Attributes:
        format: Version of the file's format.
        person: The name that the user chose: letters, digits, `.`, `_` and `-`.
        labels: Order of the shifts.
        shift: For each kind of window what is added to the log of each label's probability, 0 or less.
        n_windows: How many neutral windows of each kind it comes from.
        recogniser: Name of the bundle.
        bundle: The bundle's SHA-256.
        measured: When, UTC, RFC 3339.
    """

    format: Literal[1] = 1
    person: Annotated[str, Meta(pattern=f"^{PERSON}$")]
    labels: tuple[str, ...]
    shift: dict[Kind, tuple[Shift, ...]]
    n_windows: dict[Kind, Annotated[int, Meta(ge=0)]]
    recogniser: str
    bundle: str
    measured: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every kind has a count, and a shift for each label."""
        counted = all(kind in self.n_windows for kind in KINDS)
        return counted and all(len(self.shift.get(kind, ())) == len(self.labels) for kind in KINDS)

    def apply(self, posterior: np.ndarray, kind: str) -> np.ndarray:
        """Correct the posterior of one window, or of many: (..., n_labels) to the same in float64, summing to 1."""
        corrected = posterior.astype(np.float64) * np.exp(self.shift[kind])  # type: ignore[index]
        return np.asarray(corrected / corrected.sum(-1, keepdims=True))

    def text(self) -> str:
        """For a person: what it changes."""
        parts = []
        for kind in (kind for kind in KINDS if self.n_windows[kind]):
            lowered = [
                f"{label} x {math.exp(s):.2f}"
                for label, s in zip(self.labels, self.shift[kind], strict=True)
                if s < -5e-3
            ]
            n = self.n_windows[kind]
            told = ", ".join(lowered) or ("read as neutral already" if n >= MIN_WINDOWS else "too few, left as it is")
            parts.append(f"{kind} ({n} windows): {told}")
        return "; ".join(parts)


def neutral_shift(posteriors: np.ndarray, neutral: int) -> np.ndarray:
    """The shift that follows from the posteriors of neutral windows.

    Args:
        posteriors: (n, n_labels), rows sum to 1.
        neutral: Index of the neutral label.

    Returns:
        (n_labels,) float64 in [-BOUND, 0], 0 for neutral.
    """
    if len(posteriors) < MIN_WINDOWS:
        return np.zeros(posteriors.shape[-1])
    mean = np.log(np.maximum(posteriors.astype(np.float64), FLOOR)).mean(0)
    missing = mean - mean[neutral] + MARGIN
    missing[neutral] = 0.0
    return np.asarray(-np.clip(missing, 0.0, BOUND))


class NeutralPeriod:
    """Gathers the windows of one person who is neutral.

    Args:
        bundle: The recogniser that scores them.
        person: Name to keep the baseline by.

    Attributes:
        n_crowded: Hops that were left out because several persons were in view.

    Raises:
        BaselineError: If the name is not fit for a file, or the recogniser knows no neutral.
    """

    def __init__(self, bundle: Bundle, person: str) -> None:
        if not re.fullmatch(PERSON, person):
            raise BaselineError(f"person: expected a name of letters, digits, '.', '_' and '-', got {person!r}")
        if NEUTRAL not in bundle.manifest.labels:
            raise BaselineError(
                f"expected a recogniser with the label neutral, {bundle.manifest.name} has "
                f"{', '.join(bundle.manifest.labels)}; choose another --model"
            )
        self._bundle, self._person = bundle, person
        self._posteriors: dict[Kind, list[np.ndarray]] = {kind: [] for kind in KINDS}
        self.n_crowded = 0

    def take(self, scores: Sequence[Score]) -> None:
        """The scores of one hop, uncorrected."""
        if len(scores) > 1:
            self.n_crowded += 1
            return
        for score in scores:
            if score.posterior is not None and (kind := modality(score.window)) is not None:
                self._posteriors[kind].append(score.posterior)  # type: ignore[index]

    def baseline(self, measured: str = "") -> Baseline:
        """What follows from them.

        Raises:
            BaselineError: If no kind of window was there often enough.
        """
        labels = self._bundle.manifest.labels
        n_windows = {kind: len(found) for kind, found in self._posteriors.items()}
        if max(n_windows.values()) < MIN_WINDOWS:
            crowd = f", {self.n_crowded} more had several persons" if self.n_crowded else ""
            raise BaselineError(
                f"expected {MIN_WINDOWS} or more windows with one face or a voice, got {max(n_windows.values())}"
                f"{crowd}; sit alone before the camera, read something aloud, and take longer"
            )
        shift = {
            kind: neutral_shift(np.array(found).reshape(-1, len(labels)), labels.index(NEUTRAL))
            for kind, found in self._posteriors.items()
        }
        return Baseline(
            person=self._person,
            labels=labels,
            shift={kind: tuple(float(round(s, 6)) + 0.0 for s in values) for kind, values in shift.items()},
            n_windows=n_windows,
            recogniser=self._bundle.manifest.name,
            bundle=self._bundle.sha256,
            measured=measured,
        )


class Subject:
    """Whom of those in view a baseline is for, where nobody knows the faces.

    It follows whoever is alone in view, or the voice where there is no face. When others come it stays with that
    person, and they never get it while they are tracked, even if they stay behind alone. Where several come into view
    at once, nobody gets it until one is alone. A person who is lost and found again has a new number, and gets it by
    being alone again; so would another person who takes the seat meanwhile.
    """

    def __init__(self) -> None:
        self._person: int | None = None
        self._others: set[int] = set()

    def follow(self, present: Iterable[int]) -> int | None:
        """The person to correct now, `VOICE_ONLY` for a voice without a face, or None."""
        faces = {person for person in present if person != VOICE_ONLY}
        if not faces:
            return VOICE_ONLY
        if len(faces) == 1 and not faces & self._others:
            (self._person,) = faces
        if self._person not in faces:
            return None
        self._others |= faces - {self._person}
        return self._person

    def forget(self, person: int) -> None:
        """Someone has left."""
        self._others.discard(person)
        if person == self._person:
            self._person = None


def kept_path(person: str) -> Path:
    """Where a person's baseline is kept for this user."""
    return config_folder() / "baselines" / f"{person}.json"


def write_baseline(baseline: Baseline, path: Path | None = None) -> Path:
    """Write it whole, by default where it is kept; returns the path.

    Raises:
        BaselineError: If that is not possible.
    """
    target = path or kept_path(baseline.person)
    try:
        write_whole(target, msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n")
    except OSError as error:
        raise BaselineError(f"the baseline cannot be written to {target}: {error.strerror or error}") from error
    return target


def baseline_json(name_or_file: str | Path, bundle: Bundle) -> dict[str, Any]:
    """A kept baseline as a JSON object, to be stored in a recording. Raises BaselineError as `read_baseline`."""
    made: dict[str, Any] = msgspec.to_builtins(read_baseline(name_or_file, bundle))
    return made


def read_baseline(name_or_file: str | Path, bundle: Bundle) -> Baseline:
    """A kept person's baseline by name, or any by its file, for a recogniser.

    Raises:
        BaselineError: If there is none, the file is no baseline, or it was taken with another recogniser.
    """
    path = Path(name_or_file)
    if not path.is_file() and re.fullmatch(PERSON, str(name_or_file)):
        path = kept_path(str(name_or_file))
    try:
        baseline = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in kept_path("x").parent.glob("*.json"))) or "nobody"
        raise BaselineError(
            f"baseline: expected a JSON file or a person ({known}), got {str(name_or_file)!r}; "
            "take one with emocast calibrate --neutral"
        ) from error
    except msgspec.DecodeError as error:
        raise BaselineError(f"baseline: {path} is none ({error}); take it again") from error
    labels = bundle.manifest.labels
    if baseline.bundle != bundle.sha256:
        raise BaselineError(
            f"baseline: {path} was taken with {baseline.recogniser} ({baseline.bundle[:16]}), this is "
            f"{bundle.manifest.name} ({bundle.sha256[:16]}); take it again with this recogniser"
        )
    if baseline.labels != labels or not baseline.is_whole:
        raise BaselineError(f"baseline: {path} does not fit {', '.join(labels)}; it was changed: take it again")
    return baseline
