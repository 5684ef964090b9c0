"""What every corpus reader returns: labelled faces, or labelled utterances of named speakers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPLITS = ("train", "valid", "test", "all")


class CorpusError(ValueError):
    """A corpus folder that is not what its reader expects; the text lists what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Labelled face pictures.

    Attributes:
        images: (n, size_px, size_px) uint8, grey.
        votes: (n, n_labels) float32, how many raters chose each label.
        names: File name of each picture.
    """

    images: np.ndarray
    votes: np.ndarray
    names: tuple[str, ...]

    @property
    def targets(self) -> np.ndarray:
        """(n, n_labels) float32, the raters' distribution over the labels."""
        return np.asarray(self.votes / self.votes.sum(1, keepdims=True), dtype=np.float32)

    @property
    def majority(self) -> np.ndarray:
        """(n,) int64, the label with the most votes."""
        return self.votes.argmax(1)

    def __deepcopy__(self, memo: dict[int, object]) -> "Faces":
        return self  # never written to; an averaged copy of a learner shares it


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One spoken clip with one label.

    Attributes:
        name: Unique within all corpora, `<corpus>/<file stem>`; names the stream that windows are drawn for.
        path: The audio file.
        speaker: `<corpus>/<speaker>`.
        label: Index into the seven labels.
        split: `train`, `valid` or `test`, by speaker.
    """

    name: str
    path: Path
    speaker: str
    label: int
    split: str


def find_audio(stem: Path) -> Path | None:
    """The file of this stem in any of the formats that corpora are passed on in, or None."""
    for suffix in (".wav", ".flac", ".opus"):
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            return path
    return None


def list_audio(folder: Path, pattern: str) -> list[Path]:
    """Audio files below `folder` whose path without suffix matches `pattern`, sorted, one of each stem.

    Raises:
        CorpusError: If there is none.
    """
    found = {p.with_suffix(""): p for s in (".opus", ".flac", ".wav") for p in folder.glob(pattern + s)}
    if not found:
        raise CorpusError(f"expected {pattern}.wav, .flac or .opus below {folder}, found none; give the corpus folder")
    return [found[stem] for stem in sorted(found)]


def read_names(paths: Sequence[Path], pattern: str, expected: str) -> list[tuple[Path, re.Match[str]]]:
    """Each path with what `pattern` finds in its stem.

    Raises:
        CorpusError: If a stem does not match; `expected` says how it should be named.
    """
    found = [(path, re.fullmatch(pattern, path.stem)) for path in paths]
    if wrong := [path.name for path, match in found if match is None]:
        raise CorpusError(f"{len(wrong)} of {len(found)} files are not named {expected}: {listed(wrong)}")
    return [(path, match) for path, match in found if match is not None]


def listed(names: Sequence[str]) -> str:
    """The first five names, and whether there are more."""
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"


def speaker_split(speaker: str, valid: frozenset[str], withheld: frozenset[str]) -> str:
    """`valid` and `test` for the speakers named so, `train` for all others."""
    return "valid" if speaker in valid else "test" if speaker in withheld else "train"


def check_split(split: str) -> str:
    """`split` itself, or an error that names those there are."""
    if split not in SPLITS:
        raise CorpusError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    return split
