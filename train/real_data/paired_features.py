"""Face and voice features of the same clips of RAVDESS, as sets for the attentions of Zhou et al. (2019).

What is ours, because a clip has one vector of each modality here and attention wants a set:

- Face: 35 means over the clip from OpenFace, 17 action units' intensities and 18 units' presences. Each of the 18
  units is a member of the set. AU28 has a presence alone; its intensity reads zero.
- Voice: 259 numbers. They go with the mean of librosa's 13 MFCC in each frame of 512 samples at 44.1 kHz, from 0.5 s
  to 3.5 s of the clip (correlation 0.80 to 0.97 in three clips; 0.4 to 0.6 without the 0.5 s), and are exact zeros
  after its end. Mostly that is loudness over time, a poorer sound than the text's. Each span of 37 frames (0.43 s) is
  a member of the set; one wholly after the clip's end is left out, a missing frame reads its mean.

Columns are standardised by the training actors alone. Labels are RAVDESS's own eight. `read` leaves out the second of
two utterances that are one recording. Actors are apart: fold k of five tests actors k + 1, k + 6, k + 11, k + 16, two
women and two men.

Dimension letters: U units (18), S spans (7), F frames in a span (37).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from train.corpora.items import CorpusError, listed

FILE = "ravdess-features.npz"
LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SAME_RECORDING = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
N_INTENSITIES, N_UNITS, AU28 = 17, 18, 16  # presences lie as the intensities do, AU28 before the last
N_SPANS, N_FRAMES = 7, 37
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedClips:
    """Features of clips: `units` (n, 35) and `frames` (n, 259) float32, `labels` and `actors` (n,) int64."""

    units: np.ndarray
    frames: np.ndarray
    labels: np.ndarray
    actors: np.ndarray

    @property
    def folds(self) -> np.ndarray:
        """(n,) int64, the fold that tests each clip."""
        return (self.actors - 1) % N_FOLDS


def read(folder: Path) -> PairedClips:
    """The clips of `ravdess-features.npz` in a folder.

    Raises:
        CorpusError: If the file is missing or is not of that form; all that is wrong in one list.
    """
    path = folder / FILE
    if not path.is_file():
        raise CorpusError(f"expected {FILE} in {folder}, found none; give the folder that holds it")
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    n = len(found.get("utterance", ()))
    expected = {"utterance": (n,), "action_units": (n, 35), "mfcc": (n, N_SPANS * N_FRAMES)}
    shapes = {name: found[name].shape if name in found else "missing" for name in expected}
    if wrong := [f"{name} {shapes[name]}, expected {shape}" for name, shape in expected.items()
                 if shapes[name] != shape]:  # fmt: skip
        raise CorpusError(f"{path} is not as expected: {'; '.join(wrong)}")
    names = [str(name) for name in found["utterance"]]
    matches = [re.fullmatch(r"03-01-0([1-8])-\d\d-\d\d-\d\d-(\d\d)", name) for name in names]
    if strange := [name for name, match in zip(names, matches, strict=True) if match is None]:
        raise CorpusError(f"{len(strange)} of {n} utterances are not named 03-01-EE-II-SS-RR-AA: {listed(strange)}")
    both = SAME_RECORDING[0] in names
    kept = [k for k, name in enumerate(names) if not (both and name == SAME_RECORDING[1])]
    codes = np.array([[int(match[1]) - 1, int(match[2])] for match in matches if match is not None])[kept]
    units, frames = (found[name][kept].astype(np.float32) for name in ("action_units", "mfcc"))
    if not (np.isfinite(units).all() and np.isfinite(frames).all()):
        raise CorpusError(f"{path} holds numbers that are not finite; fetch it anew")
    if empty := sorted(set(range(N_FOLDS)) - set(((codes[:, 1] - 1) % N_FOLDS).tolist())):
        raise CorpusError(f"{path} holds no actor of fold {empty}; five folds need more actors")
    return PairedClips(units=units, frames=frames, labels=codes[:, 0], actors=codes[:, 1])


def sets(clips: PairedClips, train: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Units (n, U, 2), spans (n, S, F), both standardised over the clips where `train`, and valid (n, S) bool."""
    units = (clips.units - clips.units[train].mean(0)) / np.maximum(clips.units[train].std(0), 1e-3)
    heard = clips.frames != 0.0
    known = np.where(heard, clips.frames, np.nan)
    with np.errstate(invalid="ignore"):
        count = np.maximum(heard[train].sum(0), 1)
        mean = np.nansum(known[train], 0) / count
        deviation = np.sqrt(np.nansum((known[train] - mean) ** 2, 0) / count)
    frames = np.where(heard, (clips.frames - mean) / np.maximum(deviation, 1e-3), 0.0)
    intensity = np.insert(units[:, :N_INTENSITIES], AU28, 0.0, axis=1)
    pairs = np.stack([intensity, units[:, N_INTENSITIES:]], 2)
    n = len(units)
    return (
        torch.from_numpy(pairs.astype(np.float32)),
        torch.from_numpy(frames.astype(np.float32)).reshape(n, N_SPANS, N_FRAMES),
        torch.from_numpy(heard.reshape(n, N_SPANS, N_FRAMES).any(2)),
    )
