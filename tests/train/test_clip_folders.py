"""Readers of folders that stand for labels: AFEW, VideoEmotion-8, and anybody's own."""

import shutil
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.reader_checks import HEADS, folds_of, problems, stub
from train.corpora import afew, folders, videoemotion8
from train.corpora.checks import Problems
from train.corpora.clips import Clip


def in_folders(base: Path, names: Sequence[str], n_clips: int, suffix: str) -> Path:
    """Folders of clips without media in them."""
    for name in names:
        for k in range(n_clips):
            stub(base / name / f"clip {k:02d}{suffix}")
    return base


def small_afew(base: Path) -> Path:
    in_folders(base / "Train_AFEW", tuple(afew.FOLDERS), 2, ".avi")
    in_folders(base / "Val_AFEW", tuple(afew.FOLDERS), 1, ".avi")
    return base


def small_videoemotion8(base: Path) -> Path:
    return in_folders(base, [label.capitalize() for label in videoemotion8.LABELS], 3, ".mp4")


def test_afew_trains_on_train_and_tests_on_val(tmp_path: Path) -> None:
    folder = small_afew(tmp_path)
    before = afew.read(folder)
    (folder / "Train_AFEW").rename(folder / "Train")
    (folder / "Val_AFEW").rename(folder / "Val")
    stub(folder / "Train" / "AlignedFaces_LBPTOP_Points" / "000.mp4")
    corpus = afew.read(folder)
    assert [clip.name for clip in corpus.clips] == [clip.name for clip in before.clips]
    [(train, test)] = folds_of(corpus)
    assert {clip.path.parts[-3] for clip in train} == {"Train"}
    assert {clip.path.parts[-3] for clip in test} == {"Val"}
    assert {(clip.path.parts[-2], corpus.labels[clip.label]) for clip in corpus.clips} == set(afew.FOLDERS.items())
    assert {clip.person for clip in corpus.clips} == {clip.name for clip in corpus.clips}


def test_afew_tells_all_damage_at_once(tmp_path: Path) -> None:
    folder = small_afew(tmp_path)
    shutil.rmtree(folder / "Train_AFEW" / "Fear")
    for path in (folder / "Val_AFEW" / "Sad").iterdir():
        path.unlink()
    stub(folder / "Val_AFEW" / "Happy" / "list.mp4")
    stub(folder / "Val_AFEW" / "Scared" / "1.avi")
    stub(folder / "Train_AFEW" / "Angry" / "2.avi", b"")
    assert problems(afew.read, folder) == {
        "folders that are missing": ("Train_AFEW/Fear",),
        "empty files": ("Train_AFEW/Angry/2.avi",),
        "labels without a clip": ("Val_AFEW/Sad",),
        "not .avi files of a label": ("Val_AFEW/Happy/list.mp4",),
        f"folders of clips that are none of {', '.join(afew.FOLDERS)}": ("Val_AFEW/Scared",),
    }
    shutil.rmtree(folder / "Val_AFEW")
    assert "Val_AFEW or Val" in problems(afew.read, folder)["folders that are missing"]


def test_videoemotion8_has_ten_different_splits_of_two_thirds_by_class(tmp_path: Path) -> None:
    corpus = videoemotion8.read(small_videoemotion8(tmp_path))
    for train, test in folds_of(corpus):
        assert Counter(clip.label for clip in train) == dict.fromkeys(range(8), 2)
        assert Counter(clip.label for clip in test) == dict.fromkeys(range(8), 1)
    assert len({fold.test for fold in corpus.folds}) == 10
    for clip in corpus.clips:
        assert clip.path.parent.name.lower() == corpus.labels[clip.label]


def test_videoemotion8_tells_all_damage_at_once(tmp_path: Path) -> None:
    folder = small_videoemotion8(tmp_path)
    (folder / "Trust").rename(folder / "Boredom")
    (folder / "Joy").rename(folder / "joy")
    for path in sorted((folder / "Anger").iterdir())[1:]:
        path.unlink()
    stub(folder / "Fear" / "x.mp4", b"")
    assert problems(videoemotion8.read, folder) == {
        "folders that are missing": ("trust",),
        f"folders that are none of {', '.join(videoemotion8.LABELS)}": ("Boredom",),
        "empty files": ("Fear/x.mp4",),
        "labels of a single clip": ("anger",),
    }


def test_folders_take_their_names_as_labels(tmp_path: Path) -> None:
    corpus = folders.read(in_folders(tmp_path, ("sad", "angry", "neutral", "happy"), 5, ".mp4"))
    assert corpus.labels == ("angry", "happy", "neutral", "sad")
    [(train, test)] = folds_of(corpus)
    assert Counter(clip.label for clip in train) == dict.fromkeys(range(4), 4)
    assert Counter(clip.label for clip in test) == dict.fromkeys(range(4), 1)
    assert {(clip.path.parent.name, corpus.labels[clip.label]) for clip in corpus.clips} == {
        (label, label) for label in corpus.labels
    }


def test_folders_tell_all_damage_at_once(tmp_path: Path) -> None:
    for name in (
        "a/1.mp4",
        "a/2.avi",
        "a/2.b.mp4",
        "a/2.mp4",
        "b/1.MP4",
        "c/.DS_Store",
        "loose.mp4",
        "readme.txt",
        "a/notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(HEADS[".mp4"])
    (tmp_path / "a" / "deeper").mkdir()
    (tmp_path / "b" / "Thumbs.db").write_bytes(b"")
    found = problems(folders.read, tmp_path)
    assert found == {
        "clips outside a label's folder": ("loose.mp4",),
        f"not {', '.join(folders.VIDEOS)} files of a label": ("a/deeper", "a/notes.txt"),
        "clips of one name in two formats": ("a/2.avi and 2.mp4",),
        "labels without a clip": ("c",),
        "labels of a single clip": ("b",),
    }
    assert problems(folders.read, tmp_path / "a") == {
        "clips outside a label's folder": ("1.mp4", "2.avi", "2.b.mp4", "2.mp4"),
        "fewer than two folders of labels": ("deeper",),
        "labels without a clip": ("deeper",),
    }


def clips_of(counts: Sequence[int]) -> list[Clip]:
    return [
        Clip(name=f"x/{label}/{k}", path=Path("x"), label=label, person="x")
        for label, n in enumerate(counts)
        for k in range(n)
    ]


@pytest.mark.parametrize(
    ("share", "counts", "n_train"),
    [(Fraction(2, 3), (100, 101, 2, 3), (67, 67, 1, 2)), (Fraction(4, 5), (10, 5, 2, 9), (8, 4, 1, 7))],
)
def test_a_division_takes_its_share_of_each_label(
    share: Fraction, counts: Sequence[int], n_train: Sequence[int]
) -> None:
    clips = clips_of(counts)
    train, test = folders.divide(clips, share, (0,))
    assert not train & test
    assert len(train | test) == sum(counts)
    assert [sum(name.startswith(f"x/{label}/") for name in train) for label in range(len(counts))] == list(n_train)
    assert folders.divide(clips[::-1], share, (0,)) == (train, test)
    assert folders.divide(clips, share, (1,)) != (train, test)


def test_a_division_is_random_within_a_label() -> None:
    drawn = np.array(
        [[f"x/0/{k}" in folders.divide(clips_of((9,)), Fraction(2, 3), (s,))[0] for k in range(9)] for s in range(300)]
    )
    assert drawn.mean(0) == pytest.approx(np.full(9, 2 / 3), abs=0.1)


@pytest.mark.parametrize("begin", [*HEADS.values(), b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"OggS", b"fLaC"])
def test_media_of_any_kind_pass_the_look(tmp_path: Path, begin: bytes) -> None:
    seen = Problems("x", tmp_path)
    seen.look(stub(tmp_path / "a.wav", begin))
    seen.check()
