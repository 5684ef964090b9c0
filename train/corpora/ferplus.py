"""FER+: the FER2013 pictures with ten votes each (Barsoum et al., 2016), in the layout of microsoft/FERPlus."""

import csv
from pathlib import Path

import cv2
import numpy as np

from train.corpora.items import CorpusError, Faces, check_split, listed

COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
USAGES = {"train": ("Training",), "valid": ("PublicTest",), "test": ("PrivateTest",), "all": tuple(FOLDERS)}
N_LABELS = 7


def read(folder: Path, split: str, n_labels: int = N_LABELS) -> Faces:
    """The pictures of a split whose most votes of all ten are for one of the labels.

    A picture whose majority is another (`unknown`, `not a face`, contempt where there are seven labels) is left out; a
    tie goes to the label that stands first in the file. Usage `all` takes the splits that the folder holds.

    Args:
        folder: Of the corpus.
        split: `train`, `valid`, `test` or `all`.
        n_labels: The first of `COLUMNS`: 7, or 8 with contempt.

    Raises:
        CorpusError: If the table or a picture that it names is missing or unreadable.
    """
    table = folder / "fer2013new.csv"
    if not table.is_file():
        raise CorpusError(f"expected FER+ with its table at {table}, found none; give the folder that holds it")
    usages = [usage for usage in USAGES[check_split(split)] if split != "all" or _pictures(folder, usage).is_dir()]
    with table.open(newline="") as lines:
        reader = csv.DictReader(lines)
        if absent := [c for c in ("Usage", "Image name", *COLUMNS) if c not in (reader.fieldnames or ())]:
            raise CorpusError(f"expected FER+'s table at {table}, its columns lack {listed(absent)}")
        rows = [row for row in reader if row["Usage"] in usages]
    images, votes, names, missing = [], [], [], []
    for row in rows:
        counts = np.array([float(row[column]) for column in COLUMNS], dtype=np.float32)
        if not row["Image name"] or counts.argmax() >= n_labels:
            continue
        path = _pictures(folder, row["Usage"]) / row["Image name"]
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
        if image is None or image.shape != (48, 48):
            missing.append(path.name)
            continue
        images.append(image)
        votes.append(counts[:n_labels])
        names.append(path.name)
    if missing:
        raise CorpusError(
            f"{len(missing)} of {len(missing) + len(names)} pictures of {folder} are missing or not 48 x 48: "
            f"{listed(missing)}"
        )
    if not names:
        raise CorpusError(f"{folder} holds no picture of split {split!r}")
    return Faces(images=np.stack(images), votes=np.stack(votes), names=tuple(names))


def _pictures(folder: Path, usage: str) -> Path:
    return folder / "data" / FOLDERS[usage]
