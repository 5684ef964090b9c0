"""Clips that are left out on purpose: their names in a file, and a corpus without them."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from train.corpora.clips import ClipCorpus, Fold
from train.corpora.items import CorpusError, listed


def read_names(path: Path) -> tuple[str, ...]:
    """Names of clips to leave out: what stands before the first tab of each line that does not begin with `#`.

    The list that `prepare.prepare` writes of clips that cannot be used is such a file.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    names = (line.partition("\t")[0].strip() for line in lines if not line.startswith("#"))
    return tuple(dict.fromkeys(name for name in names if name))


def without(corpus: ClipCorpus, names: Collection[str]) -> ClipCorpus:
    """A corpus without some of its clips, the indices in its folds moved accordingly.

    Raises:
        CorpusError: If a name is not in the corpus, or nothing is left to train or to test on in a fold.
    """
    if unknown := sorted(set(names) - {clip.name for clip in corpus.clips}):
        raise CorpusError(
            f"expected names of clips of {corpus.name} to leave out, got {len(unknown)} that it does not have: "
            f"{listed(unknown)}; correct or remove them"
        )
    kept = [k for k, clip in enumerate(corpus.clips) if clip.name not in set(names)]
    place = {old: new for new, old in enumerate(kept)}
    folds = tuple(
        Fold(
            name=fold.name,
            train=tuple(place[k] for k in fold.train if k in place),
            test=tuple(place[k] for k in fold.test if k in place),
        )
        for fold in corpus.folds
    )
    for before, after in zip(corpus.folds, folds, strict=True):
        if (before.train and not after.train) or (before.test and not after.test):
            raise CorpusError(f"fold {after.name} of {corpus.name} is empty without the {len(names)} clips left out")
    return replace(corpus, clips=tuple(corpus.clips[k] for k in kept), folds=folds)
