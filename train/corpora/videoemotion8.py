"""VideoEmotion-8 (Jiang et al., 2014): 1,101 videos from YouTube and Flickr, one folder an emotion of Plutchik's wheel.

Folders may be capitalised or not, and videos of any kind. Nobody says who is seen.
"""

from fractions import Fraction
from pathlib import Path

from train.corpora.checks import Problems, label_folder, make_corpus
from train.corpora.clips import Clip, ClipCorpus
from train.corpora.folders import check_divisible, divide

LABELS = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
N_SPLITS = 10
TRAIN_SHARE = Fraction(2, 3)
SEED = 0


def read(folder: Path) -> ClipCorpus:
    """All videos; ten random splits, each with two thirds of every label to train on and the rest to test on.

    Raises:
        CorpusError: If an emotion's folder is missing or has fewer than two videos, another folder is there, a video
            is empty or a file is none; everything in one text.
    """
    problems = Problems("videoemotion8", folder)
    folders = [path for path in problems.list_folder(folder) if path.is_dir()]
    of_label = {path.name.lower(): path for path in folders}
    problems.add("folders that are missing", [label for label in LABELS if label not in of_label])
    problems.add(
        f"folders that are none of {', '.join(LABELS)}",
        [path.name for path in folders if path.name.lower() not in LABELS or of_label[path.name.lower()] != path],
    )
    clips: list[Clip] = []
    for label, name in enumerate(LABELS):
        if name in of_label:
            clips += label_folder(problems, of_label[name], corpus="videoemotion8", prefix=name, label=label)
    check_divisible(problems, LABELS, clips)
    problems.check()
    groups = [(f"split{k}", *divide(clips, TRAIN_SHARE, (SEED, k))) for k in range(N_SPLITS)]
    how = f"mean of {N_SPLITS} random splits, 2/3 of each label for training, seed {SEED}, {len(clips)} videos"
    return make_corpus("videoemotion8", LABELS, clips, groups, how)
