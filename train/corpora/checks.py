"""Checks that the readers of audio-visual corpora share: all that is wrong with a folder, told in one error."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from train.corpora.clips import Clip, ClipCorpus, Fold
from train.corpora.items import CorpusError, listed

VIDEOS = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# What Windows leaves in a folder of pictures. Other systems' litter begins with a dot and is passed over for that.
LITTER = frozenset({"thumbs.db", "desktop.ini"})
# How media files begin: RIFF (AVI, WAV), FLV, Matroska, MPEG, Ogg, FLAC, ASF.
MAGIC = (b"RIFF", b"FLV", b"\x1a\x45\xdf\xa3", b"\x00\x00\x01", b"OggS", b"fLaC", b"\x30\x26\xb2\x75")
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # MP4 and QuickTime: after four bytes of length
POINTER = b"version https://git-lfs"


class DamagedCorpusError(CorpusError):
    """A corpus folder with problems.

    Attributes:
        problems: Every name concerned, by the kind of problem; the text shows how many and the first of each.
    """

    def __init__(self, corpus: str, folder: Path, problems: Mapping[str, Sequence[str]]) -> None:
        self.problems = {kind: tuple(names) for kind, names in problems.items()}
        n = sum(len(names) for names in self.problems.values())
        kinds = "; ".join(f"{kind} ({len(names)}): {listed(names)}" for kind, names in self.problems.items())
        super().__init__(
            f"{corpus}: {n} {'problem' if n == 1 else 'problems'} in {folder}: {kinds}; put them right, nothing trains "
            "on a part of a corpus"
        )


class Problems:
    """Collects what is wrong with a corpus folder until all of it was looked at."""

    def __init__(self, corpus: str, folder: Path) -> None:
        self._corpus, self._folder = corpus, folder
        self._kinds: dict[str, list[str]] = {}

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Note names under a kind of problem; none is no problem."""
        if names := list(names):
            self._kinds.setdefault(kind, []).extend(names)

    def look(self, path: Path) -> None:
        """Note a media file that is missing, empty, or plainly something else; nothing is decoded."""
        try:
            with path.open("rb") as file:
                head = file.read(len(POINTER))
        except FileNotFoundError:
            self.add("files that are missing", [self.short(path)])
        except OSError as error:
            self.add("files that cannot be read", [f"{self.short(path)}: {error.strerror}"])
        else:
            if not head:
                self.add("empty files", [self.short(path)])
            elif head == POINTER:
                self.add("git-lfs pointers instead of files, fetch them with 'git lfs pull'", [self.short(path)])
            elif not (head.startswith(MAGIC) or head[4:8] in BOXES):
                self.add("files that are no media", [self.short(path)])

    def list_folder(self, folder: Path) -> list[Path]:
        """What a folder holds, sorted, without litter; a folder that cannot be read is noted."""
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            self.add("folders that cannot be read", [f"{self.short(folder)}: {error.strerror}"])
            return []
        return [path for path in found if not path.name.startswith(".") and path.name.lower() not in LITTER]

    def check(self) -> None:
        """Raise what was noted, if anything. Raises DamagedCorpusError."""
        if self._kinds:
            raise DamagedCorpusError(self._corpus, self._folder, self._kinds)

    def short(self, path: Path) -> str:
        """A path as problems name it: from the corpus's folder on."""
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else str(path)


def label_folder(
    problems: Problems, folder: Path, *, corpus: str, prefix: str, label: int, suffixes: Sequence[str] = VIDEOS
) -> list[Clip]:
    """The clips of a folder that stands for one label, each its own person; what is no clip is noted.

    Args:
        problems: Where to note.
        folder: Of the label.
        corpus: Begins the clips' names.
        prefix: Stands between the corpus and the stem, since other folders may hold files of the same names.
        label: Of all clips.
        suffixes: Of files that are clips, lower case.
    """
    paths = problems.list_folder(folder)
    videos = [path for path in paths if path.is_file() and path.suffix.lower() in suffixes]
    strange = sorted(set(paths) - set(videos))
    problems.add(f"not {', '.join(suffixes)} files of a label", map(problems.short, strange))
    if not videos:
        problems.add("labels without a clip", [problems.short(folder)])
    for _, alike in itertools.groupby(sorted(videos, key=lambda path: path.stem), key=lambda path: path.stem):
        first, *others = alike
        problems.add("clips of one name in two formats", [f"{problems.short(first)} and {p.name}" for p in others])
    for path in videos:
        problems.look(path)
    names = [f"{corpus}/{prefix}/{path.stem}" for path in videos]
    return [Clip(name=n, path=p, label=label, person=n) for n, p in zip(names, videos, strict=True)]


def make_corpus(
    name: str,
    labels: tuple[str, ...],
    clips: Iterable[Clip],
    groups: Sequence[tuple[str, set[str], set[str]]],
    how: str,
) -> ClipCorpus:
    """A corpus from its clips and, for each fold, its name and the names of the clips to train on and to test on."""
    ordered = tuple(sorted(clips, key=lambda clip: clip.name))
    index = {clip.name: i for i, clip in enumerate(ordered)}
    folds = tuple(
        Fold(name=fold, train=tuple(sorted(index[n] for n in train)), test=tuple(sorted(index[n] for n in test)))
        for fold, train, test in groups
    )
    return ClipCorpus(name=name, labels=labels, clips=ordered, folds=folds, protocol=how)
