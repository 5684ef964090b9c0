"""What every reader of an audio-visual corpus returns: labelled clips, and the folds of its protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Side = Literal["whole", "left", "right"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One labelled clip.

    Attributes:
        name: Unique within all corpora, `<corpus>/<stem>`; names the stream that windows are drawn for.
        path: The file with the picture.
        audio: The file with the sound, where that is another one.
        label: Index into the corpus's labels.
        person: Who is seen, `<corpus>/<id>`; the clip's own name where the corpus does not say.
        start_s: Where the clip begins in its files.
        end_s: Where it ends; None is the end of the file.
        side: The part of the picture that shows the person.
    """

    name: str
    path: Path
    audio: Path | None = None
    label: int
    person: str
    start_s: float = 0.0
    end_s: float | None = None
    side: Side = "whole"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One division of a corpus: indices of the clips to train on and to test on, which share none."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ClipCorpus:
    """A corpus that was read.

    Attributes:
        name: Of the corpus.
        labels: In the order of `Clip.label`.
        clips: All clips, ascending by name.
        folds: The protocol's; its figure is the mean of their accuracies.
        protocol: The protocol in one line, for results.
    """

    name: str
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    folds: tuple[Fold, ...]
    protocol: str
