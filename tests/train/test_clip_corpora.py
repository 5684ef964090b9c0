"""Readers of audio-visual corpora: labels, people, times and folds by the protocols; all damage in one list."""

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import clip_corpora as made
from tests.reader_checks import folds_of, problems, stub
from train.corpora import afew, cremad_clips, iemocap, videoemotion8
from train.corpora.items import CorpusError
from train.corpora.readers import CLIP_READERS, read_clips
from train.models import bilinear, icanet, skeleton

N_CLIPS = {"afew": 21, "cremad": 60, "folders": 20, "iemocap": 32, "videoemotion8": 24}


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("miniatures")
    for name, n_clips in N_CLIPS.items():
        made.MAKE[name](base / name, "both", n_clips, duration_s=0.4)
    return base


@pytest.fixture
def copied(miniatures: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(miniatures / name, tmp_path / name))


@pytest.mark.parametrize("name", CLIP_READERS)
def test_every_reader_reads_its_miniature(miniatures: Path, name: str) -> None:
    corpus = read_clips(name, miniatures / name.removesuffix("-perceived"))
    names = [clip.name for clip in corpus.clips]
    assert len(names) == N_CLIPS[name.removesuffix("-perceived")]
    assert names == sorted(set(names))
    assert corpus.name == name
    assert str(len(names)) in corpus.protocol or name in ("afew", "folders")
    assert {clip.label for clip in corpus.clips} == set(range(len(corpus.labels)))
    for clip in corpus.clips:
        assert clip.path.is_file()
        assert clip.audio is None or clip.audio.is_file()
    for fold in corpus.folds:
        assert fold.train and fold.test  # noqa: PT018 - one thing: neither side is empty
        assert sorted(fold.train + fold.test) == list(range(len(names)))
    assert len({fold.name for fold in corpus.folds}) == len(corpus.folds)
    assert read_clips(name, miniatures / name.removesuffix("-perceived")) == corpus


def test_labels_are_the_papers(miniatures: Path) -> None:
    assert tuple(afew.FOLDERS.values()) == bilinear.LABELS
    assert iemocap.LABELS == icanet.LABELS
    assert videoemotion8.LABELS == skeleton.LABELS
    assert sum(map(sum, iemocap.TABLE_I.values())) == 5531
    assert [sum(column) for column in zip(*iemocap.TABLE_I.values(), strict=True)] == [1636, 1084, 1708, 1103]
    assert [sum(row) for row in iemocap.TABLE_I.values()] == [1085, 1023, 1151, 1031, 1241]


def test_an_unknown_corpus_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"expected a corpus of afew, cremad, .*, got 'iemocab'"):
        read_clips("iemocab", tmp_path)


# CREMA-D


def official_cremad(folder: Path, sexes: bool = True) -> Path:
    """91 actors as in the corpus, 48 men and 43 women, a clip of each emotion; empty of media."""
    for actor, (code, _) in itertools.product(range(1001, 1092), made.CREMAD_CODES):
        stub(folder / "VideoFlash" / f"{actor}_IEO_{code}_XX.flv")
        stub(folder / "AudioWAV" / f"{actor}_IEO_{code}_XX.wav")
    if sexes:
        rows = "".join(f'{actor},30,"{"Male" if actor < 1049 else "Female"}"\n' for actor in range(1001, 1092))
        (folder / "VideoDemographics.csv").write_text('"ActorID","Age","Sex"\n' + rows)
    return folder


@pytest.mark.parametrize("sexes", [True, False])
def test_cremad_has_ten_folds_without_shared_actors(tmp_path: Path, sexes: bool) -> None:
    corpus = cremad_clips.read_intended(official_cremad(tmp_path, sexes))
    assert len(corpus.folds) == 10
    tested = []
    for train, test in folds_of(corpus):
        actors = {clip.person for clip in test}
        assert not actors & {clip.person for clip in train}
        assert len(actors) in (9, 10)
        if sexes:
            assert sum(int(actor[-4:]) < 1049 for actor in actors) in (4, 5)
        tested += sorted(actors)
    assert sorted(tested) == [f"cremad/{actor}" for actor in range(1001, 1092)]
    assert ("sexes balanced" in corpus.protocol) == sexes


def test_cremad_takes_the_intended_emotion_and_both_files(miniatures: Path) -> None:
    corpus = cremad_clips.read_intended(miniatures / "cremad")
    words = {"NEU": "neutral", "HAP": "happiness", "SAD": "sadness", "ANG": "anger", "DIS": "disgust", "FEA": "fear"}
    for clip in corpus.clips:
        assert corpus.labels[clip.label] == words[clip.name.split("_")[2]]
        assert clip.person == f"cremad/{clip.name[7:11]}"
        assert clip.audio is not None
        assert (clip.path.suffix, clip.audio.suffix, clip.path.stem) == (".flv", ".wav", clip.audio.stem)
        assert (clip.start_s, clip.end_s, clip.side) == (0.0, None, "whole")


@pytest.mark.parametrize(
    ("vote", "level", "expected"),
    [
        ("H", "50", "happiness"),
        ("A:S", "80:20.5", "sadness"),  # the intended one is among them
        ("A:F", "40.25:60", "fear"),
        ("A:D:N", "60:39:60", "anger"),
    ],
)
def test_cremad_perceived_settles_ties(copied: Callable[[str], Path], vote: str, level: str, expected: str) -> None:
    folder = copied("cremad")
    stems = [path.stem for path in sorted((folder / "VideoFlash").iterdir())]
    sad = next(stem for stem in stems if "_SAD_" in stem)
    made.cremad_tables(folder, stems, {sad: (vote, level)})
    corpus = cremad_clips.read_perceived(folder)
    assert {c.name: corpus.labels[c.label] for c in corpus.clips}[f"cremad/{sad}"] == expected
    intended = cremad_clips.read_intended(folder)
    assert sum(a.label != b.label for a, b in zip(corpus.clips, intended.clips, strict=True)) == (expected != "sadness")


def test_cremad_tells_all_damage_at_once(copied: Callable[[str], Path]) -> None:
    folder = copied("cremad")
    stems = [path.stem for path in sorted((folder / "VideoFlash").iterdir())]
    made.cremad_tables(folder, [*stems[1:], "1003_TSI_SAD_XX"], {stems[9]: ("Q", "50"), stems[10]: ("A:D", "50")})
    (folder / "VideoFlash" / f"{stems[2]}.flv").unlink()
    (folder / "AudioWAV" / f"{stems[3]}.wav").unlink()
    stub(folder / "AudioWAV" / f"{stems[4]}.wav", b"")
    stub(folder / "VideoFlash" / f"{stems[5]}.flv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    stub(folder / "VideoFlash" / f"{stems[6]}.flv", b"<html>404 not found</html>")
    stub(folder / "VideoFlash" / "1001_IEO_BORED_XX.flv")
    stub(folder / "VideoFlash" / "notes.avi")
    (folder / "VideoDemographics.csv").write_text("ActorID,Sex\n" + "".join(f"{a},Male\n" for a in range(1002, 1011)))
    found = problems(cremad_clips.read_perceived, folder)
    rows = "rows of processedResults/summaryTable.csv that are not a clip's votes and levels"
    assert found == {
        "not .flv files": ("VideoFlash/notes.avi",),
        "clips not named ACTOR_SENTENCE_EMOTION_LEVEL": ("1001_IEO_BORED_XX", "notes"),
        rows: (f"{stems[9]} Q", f"{stems[10]} A:D"),
        "clips that processedResults/summaryTable.csv lacks": (stems[0], stems[9], stems[10]),
        "files that are missing": (
            f"VideoFlash/{stems[2]}.flv", f"AudioWAV/{stems[3]}.wav", "VideoFlash/1003_TSI_SAD_XX.flv",
            "AudioWAV/1003_TSI_SAD_XX.wav",
        ),
        "empty files": (f"AudioWAV/{stems[4]}.wav",),
        "git-lfs pointers instead of files, fetch them with 'git lfs pull'": (f"VideoFlash/{stems[5]}.flv",),
        "files that are no media": (f"VideoFlash/{stems[6]}.flv",),
        "actors that VideoDemographics.csv lacks": ("1001",),
    }  # fmt: skip


def test_cremad_needs_ten_actors_and_for_perceived_labels_the_votes(tmp_path: Path) -> None:
    stub(tmp_path / "VideoFlash" / "1001_IEO_ANG_HI.flv")
    found = problems(cremad_clips.read_perceived, tmp_path)
    assert found == {
        "folders that cannot be read": ("AudioWAV: No such file or directory",),
        "tables that are missing": ("processedResults/summaryTable.csv",),
        "files that are missing": ("AudioWAV/1001_IEO_ANG_HI.wav",),
        "fewer than 10 actors for 10 folds": ("1001",),
    }


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"FileName,VoiceVote\n1001_IEO_ANG_HI,A\n", b""])
def test_cremad_refuses_a_table_that_is_another(copied: Callable[[str], Path], content: bytes) -> None:
    folder = copied("cremad")
    (folder / "processedResults" / "summaryTable.csv").write_bytes(content)
    [(kind, [told])] = problems(cremad_clips.read_perceived, folder).items()
    assert kind in ("tables that cannot be read", "tables without their columns")
    assert told.startswith("processedResults/summaryTable.csv: ")


# IEMOCAP


def official_iemocap(folder: Path, change: int = 0) -> Path:
    """Table I's counts, some happy ones excited, in one dialogue a session; empty of media. `change` adds sad ones."""
    for session, counts in iemocap.TABLE_I.items():
        base, stem = folder / f"Session{session}" / "dialog", f"Ses0{session}F_script01_1b"
        codes = [("exc", "hap")[k % 2] for k in range(counts[0])]
        codes += ["sad"] * (counts[1] + change) + ["neu"] * counts[2] + ["ang"] * counts[3] + ["fru", "xxx", "dis"]
        rows = [(k * 2.0, k * 2 + 1.5, f"{stem}_{'FM'[k % 2]}{k:03d}", code) for k, code in enumerate(codes)]
        made.evaluation(base / "EmoEvaluation" / f"{stem}.txt", rows)
        stub(base / "avi" / "DivX" / f"{stem}.avi")
        stub(base / "wav" / f"{stem}.wav")
    return folder


def test_iemocap_has_the_counts_of_table_i(tmp_path: Path) -> None:
    corpus = iemocap.read(official_iemocap(tmp_path))
    assert len(corpus.clips) == 5531
    assert [fold.name for fold in corpus.folds] == [f"session{k}" for k in range(1, 6)]
    assert [len(fold.test) for fold in corpus.folds] == [1085, 1023, 1151, 1031, 1241]
    for train, test in folds_of(corpus):
        assert len({clip.person for clip in test}) == 2
        assert len({clip.person for clip in train}) == 8
        assert not {clip.person for clip in test} & {clip.person for clip in train}
    assert Counter(clip.label for clip in corpus.clips) == {0: 1636, 1: 1084, 2: 1708, 3: 1103}


def test_iemocap_lists_counts_that_are_not_table_is(tmp_path: Path) -> None:
    found = problems(iemocap.read, official_iemocap(tmp_path, change=1))
    expected = [f"session {s} sadness: expected {n[1]}, found {n[1] + 1}" for s, n in iemocap.TABLE_I.items()]
    assert found == {"counts that are not Table I's": tuple(expected)}


def test_iemocap_knows_times_speakers_and_halves(miniatures: Path) -> None:
    corpus = iemocap.read(miniatures / "iemocap")
    clips = {clip.name: clip for clip in corpus.clips}
    first, second = clips["iemocap/Ses01F_impro01_F000"], clips["iemocap/Ses01F_impro01_M000"]
    base = miniatures / "iemocap" / "Session1" / "dialog"
    assert (first.path, first.audio) == (
        base / "avi" / "DivX" / "Ses01F_impro01.avi",
        base / "wav" / "Ses01F_impro01.wav",
    )
    assert (first.start_s, first.end_s, first.side, first.person) == (0.5, 0.9, "left", "iemocap/Ses01F")
    assert (second.start_s, second.end_s, second.side, second.person) == (1.4, 1.8, "right", "iemocap/Ses01M")
    assert clips["iemocap/Ses03M_impro01_M000"].side == "left"
    assert clips["iemocap/Ses03M_impro01_F000"].side == "right"
    assert len(corpus.folds) == 4
    assert not [name for name in clips if name[-3:] in ("100", "101", "102")]  # frustrated, no agreement, surprised


def test_iemocap_tells_all_damage_at_once(copied: Callable[[str], Path]) -> None:
    folder = copied("iemocap")
    one, two = (folder / f"Session{k}" / "dialog" for k in (1, 2))
    (one / "avi" / "DivX" / "Ses01F_impro01.avi").unlink()
    stub(one / "wav" / "Ses01M_impro01.wav", b"")
    stub(one / "avi" / "DivX" / "Ses01F_script02_2.avi")
    stub(one / "avi" / "DivX" / "._Ses01F_impro01.avi", b"")  # what a Mac leaves is passed over
    shutil.copy(two / "EmoEvaluation" / "Ses02F_impro01.txt", one / "EmoEvaluation")
    rows = [
        (1.0, 2.0, "Ses02F_impro01_F000", "hap"), (1.0, 2.0, "Ses02F_impro01_F000", "hap"),
        (3.0, 2.0, "Ses02F_impro01_F001", "sad"), (3.0, 4.0, "Ses02F_impro02_F002", "sad"),
        (3.0, 4.0, "Ses02F_impro01_F003", "joy"),
    ]  # fmt: skip
    made.evaluation(two / "EmoEvaluation" / "Ses02F_impro01.txt", rows)
    shutil.rmtree(folder / "Session3" / "dialog" / "EmoEvaluation")
    found = problems(iemocap.read, folder)
    lines = found.pop("lines that are no '[start - end] utterance emotion [v, a, d]'")
    assert ["impro02_F002" in lines[0], "joy" in lines[1], len(lines)] == [True, True, 2]
    assert found == {
        "files that are missing": ("Session1/dialog/avi/DivX/Ses01F_impro01.avi",),
        "empty files": ("Session1/dialog/wav/Ses01M_impro01.wav",),
        "evaluations not named Ses01F_... or Ses01M_...": ("Ses02F_impro01.txt",),
        "dialogues without an evaluation": ("Ses01F_script02_2", "Ses03F_impro01", "Ses03M_impro01"),
        "utterances that end before they begin": ("Ses02F_impro01_F001",),
        "utterances that stand in two lines": ("iemocap/Ses02F_impro01_F000",),
        "folders that cannot be read": ("Session3/dialog/EmoEvaluation: No such file or directory",),
        "sessions without evaluations": ("Session3/dialog/EmoEvaluation",),
    }


def test_iemocap_needs_two_sessions(tmp_path: Path) -> None:
    assert problems(iemocap.read, tmp_path) == {"fewer than two sessions": ("none",)}
