"""Clips sorted into folders, one a label: `<label>/<any name>.{mp4,avi,mkv,mov,webm,mpg,flv,...}`, EMODal's kind.

The labels are the folders' names, ascending. Nobody says who is seen, so people may stand on both sides of a split.
"""

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from train.corpora.checks import VIDEOS, Problems, label_folder, make_corpus
from train.corpora.clips import Clip, ClipCorpus

TRAIN_SHARE = Fraction(4, 5)  # EMODal: 80 % of the clips
SEED = 0


def read(folder: Path) -> ClipCorpus:
    """All clips of the folders; one fold trains on 80 % of each label, drawn with a fixed seed, and tests on the rest.

    Raises:
        CorpusError: If there are fewer than two labels, one has fewer than two clips, a clip is empty or a file is no
            clip; everything in one text.
    """
    problems = Problems("folders", folder)
    found = problems.list_folder(folder)
    labels = tuple(path.name for path in found if path.is_dir())
    problems.add(
        "clips outside a label's folder", [p.name for p in found if p.is_file() and p.suffix.lower() in VIDEOS]
    )
    if len(labels) < 2:
        problems.add("fewer than two folders of labels", [", ".join(labels) or "none"])
    clips = [
        clip
        for label, name in enumerate(labels)
        for clip in label_folder(problems, folder / name, corpus="folders", prefix=name, label=label)
    ]
    check_divisible(problems, labels, clips)
    problems.check()
    train, test = divide(clips, TRAIN_SHARE, (SEED,))
    how = f"80 % of each label for training, seed {SEED}, people not kept apart, {len(train)} and {len(test)} clips"
    return make_corpus("folders", labels, clips, [("split", train, test)], how)


def divide(clips: Iterable[Clip], share: Fraction, seed: tuple[int, ...]) -> tuple[set[str], set[str]]:
    """Names to train on and to test on: `share` of each label, to the nearest clip, and at least one on each side.

    The same clips and seed give the same division on every machine, in whatever order they come.
    """
    of_label = defaultdict(list)
    for clip in clips:
        of_label[clip.label].append(clip.name)
    train: set[str] = set()
    test: set[str] = set()
    for label, names in of_label.items():
        ordered = sorted(names)
        order = np.random.default_rng((*seed, label)).permutation(len(ordered))
        n_train = min(max(round(share * len(ordered)), 1), len(ordered) - 1)
        train |= {ordered[i] for i in order[:n_train]}
        test |= {ordered[i] for i in order[n_train:]}
    return train, test


def check_divisible(problems: Problems, labels: tuple[str, ...], clips: Iterable[Clip]) -> None:
    """Note labels of one clip, which cannot stand on both sides of a split."""
    counts = [0] * len(labels)
    for clip in clips:
        counts[clip.label] += 1
    problems.add("labels of a single clip", [name for name, n in zip(labels, counts, strict=True) if n == 1])
