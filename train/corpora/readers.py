"""The audio-visual corpora that recipes can be trained from, by the names that the command line knows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from train.corpora import afew, cremad_clips, folders, iemocap, videoemotion8
from train.corpora.clips import ClipCorpus
from train.corpora.items import CorpusError

# Each raises CorpusError with all that is wrong with the folder in one text; see `train.corpora.checks`.
CLIP_READERS: Mapping[str, Callable[[Path], ClipCorpus]] = MappingProxyType(
    {
        "afew": afew.read,
        "cremad": cremad_clips.read_intended,
        "cremad-perceived": cremad_clips.read_perceived,
        "folders": folders.read,
        "iemocap": iemocap.read,
        "videoemotion8": videoemotion8.read,
    }
)


def read_clips(name: str, folder: Path) -> ClipCorpus:
    """A corpus by its name.

    Raises:
        CorpusError: If there is no such corpus, or its folder is not what the reader expects.
    """
    if name not in CLIP_READERS:
        raise CorpusError(f"expected a corpus of {', '.join(CLIP_READERS)}, got {name!r}")
    return CLIP_READERS[name](folder)
