"""What the tests of audio-visual readers share: files that only begin as media, and all problems of a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from train.corpora.checks import DamagedCorpusError
from train.corpora.clips import Clip, ClipCorpus

HEADS = {".wav": b"RIFF....WAVE", ".avi": b"RIFF....AVI ", ".flv": b"FLV\x01", ".mp4": b"....ftypisom"}


def stub(path: Path, content: bytes | None = None) -> Path:
    """A file that begins as its suffix says, for readers, which decode nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADS[path.suffix] if content is None else content)
    return path


def problems(read: Callable[[Path], ClipCorpus], folder: Path) -> dict[str, tuple[str, ...]]:
    """What a reader finds wrong with a folder; the text of its error names each kind, how many, and the first."""
    with pytest.raises(DamagedCorpusError) as caught:
        read(folder)
    found = caught.value.problems
    assert f"{sum(map(len, found.values()))} problem" in str(caught.value)
    assert all(f"{kind} ({len(names)}): {names[0]}" in str(caught.value) for kind, names in found.items())
    return found


def folds_of(corpus: ClipCorpus) -> list[tuple[list[Clip], list[Clip]]]:
    """The clips that each fold trains on and tests on."""
    return [([corpus.clips[i] for i in fold.train], [corpus.clips[i] for i in fold.test]) for fold in corpus.folds]
