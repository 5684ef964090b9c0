"""What `emocast train` and `emocast evaluate` share: corpora named on the command line, and the train extra."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

OURS = ("engines", "stream", "tools", "train")


class TrainExtraMissing(ValueError):  # noqa: N818 - it says what is missing, not what went wrong
    """Training and evaluation need more than a runtime does."""

    def __init__(self) -> None:
        super().__init__("the train extra is missing; in emocast's folder run: pip install '.[train]'")


def train_module(name: str) -> ModuleType:
    """A module of `train`, imported only now, because it brings torch.

    Raises:
        TrainExtraMissing: If a package that it needs is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        raise TrainExtraMissing from error


def folders(texts: Sequence[str], *, option: str, mark: str, known: Sequence[str]) -> list[tuple[str, Path]]:
    """(corpus, folder) of each `NAME<mark>DIR`; only the first mark splits, a folder's name may hold more.

    Raises:
        ValueError: If one is not of that form, names no known corpus, comes twice, or is not a folder.
    """
    found: dict[str, Path] = {}
    for text in texts:
        name, split, folder = text.partition(mark)
        if not split or not name or not folder:
            raise ValueError(f"{option}: expected CORPUS{mark}DIR, got {text!r}")
        if name not in known:
            raise ValueError(f"{option}: expected a corpus of {', '.join(known)}, got {name!r}")
        if name in found:
            raise ValueError(f"{option}: expected {name} once, got {found[name]} and {folder}")
        # A shell leaves the ~ after a mark as it is.
        found[name] = Path(folder).expanduser()
        if not found[name].is_dir():
            raise ValueError(f"{option}: expected the folder of {name}, {folder} is none")
    return list(found.items())
