"""AFEW (Dhall et al., 2012; EmotiW 2019): `Train_AFEW/<Emotion>/*.avi` and `Val_AFEW/<Emotion>/*.avi`.

Some copies name the two folders `Train` and `Val`. The corpus names no actors, and its test labels are not published.
"""

from pathlib import Path

from train.corpora.checks import Problems, label_folder, make_corpus
from train.corpora.clips import Clip, ClipCorpus

# In the order of the paper's recogniser, `train.models.bilinear.LABELS`.
FOLDERS = {
    "Angry": "anger", "Disgust": "disgust", "Fear": "fear", "Happy": "happiness", "Sad": "sadness",
    "Surprise": "surprise", "Neutral": "neutral",
}  # fmt: skip
PARTS = ("Train", "Val")


def read(folder: Path) -> ClipCorpus:
    """All clips of the train and the validation part; one fold trains on the first and tests on the second.

    Raises:
        CorpusError: If a part or an emotion's folder is missing or empty, or a clip is empty or of another kind;
            everything in one text.
    """
    problems = Problems("afew", folder)
    parts = {part: _part(problems, folder, part) for part in PARTS}
    problems.check()
    train, val = ({clip.name for clip in clips} for clips in parts.values())
    how = f"trained on the {len(train)} clips of the train part, tested on the {len(val)} of the validation part"
    clips = [clip for part in parts.values() for clip in part]
    return make_corpus("afew", tuple(FOLDERS.values()), clips, [("val", train, val)], how)


def _part(problems: Problems, folder: Path, part: str) -> list[Clip]:
    base = next((folder / name for name in (f"{part}_AFEW", part) if (folder / name).is_dir()), None)
    if base is None:
        problems.add("folders that are missing", [f"{part}_AFEW or {part}"])
        return []
    # Copies hold archives and aligned faces beside the seven; a folder of clips is no such thing.
    problems.add(
        f"folders of clips that are none of {', '.join(FOLDERS)}",
        [
            f"{base.name}/{path.name}"
            for path in problems.list_folder(base)
            if path.name not in FOLDERS and path.is_dir() and any(path.glob("*.avi"))
        ],
    )
    clips = []
    for label, name in enumerate(FOLDERS):
        prefix = f"{part}/{name}"
        if (base / name).is_dir():
            clips += label_folder(problems, base / name, corpus="afew", prefix=prefix, label=label, suffixes=(".avi",))
        else:
            problems.add("folders that are missing", [f"{base.name}/{name}"])
    return clips
