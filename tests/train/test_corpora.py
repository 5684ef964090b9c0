"""Corpus readers: on miniature corpora in the official layouts, and on the real ones where they are."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import corpora_files as made
from train.corpora import cremad, emodb, ferplus, nemo, ravdess
from train.corpora.items import CorpusError, Utterance
from train.models.temporal import LABELS

Read = Callable[[Path], list[Utterance]]
SPEECH = {"ravdess": ravdess.read, "emodb": emodb.read, "nemo": nemo.read, "cremad": cremad.read}
MAKE: dict[str, Callable[..., Path]] = {
    "ravdess": made.ravdess, "emodb": made.emodb, "nemo": made.nemo, "cremad": made.cremad,
}  # fmt: skip


def labels_by(utterances: list[Utterance], code: Callable[[str], str]) -> dict[str, str]:
    """The label's name that each code of a file name was given."""
    found: dict[str, set[int]] = {}
    for u in utterances:
        found.setdefault(code(u.path.stem), set()).add(u.label)
    assert all(len(labels) == 1 for labels in found.values())
    return {key: LABELS[labels.pop()] for key, labels in found.items()}


def splits(utterances: list[Utterance]) -> dict[str, str]:
    """The split of each speaker; each must have one alone."""
    found: dict[str, set[str]] = {}
    for u in utterances:
        found.setdefault(u.speaker, set()).add(u.split)
    assert all(len(s) == 1 for s in found.values())
    return {speaker: s.pop() for speaker, s in found.items()}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
def test_ravdess(tmp_path: Path, suffix: str) -> None:
    utterances = ravdess.read(made.ravdess(tmp_path, actors=(1, 16, 17, 20, 21, 24), suffix=suffix, seconds=0.1))
    assert len(utterances) == 48
    assert labels_by(utterances, lambda stem: stem[6:8]) == {
        "01": "neutral", "02": "neutral", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear",
        "07": "disgust", "08": "surprise",
    }  # fmt: skip
    assert splits(utterances) == {
        "ravdess/01": "train", "ravdess/16": "train", "ravdess/17": "valid", "ravdess/20": "valid",
        "ravdess/21": "test", "ravdess/24": "test",
    }  # fmt: skip
    assert utterances[0].name == "ravdess/03-01-01-01-01-01-01"
    assert utterances[0].path == tmp_path / "Actor_01" / f"03-01-01-01-01-01-01{suffix}"


def test_emodb_leaves_boredom_out(tmp_path: Path) -> None:
    utterances = emodb.read(made.emodb(tmp_path, speakers=("03", "11", "12", "14", "15", "16")))
    assert labels_by(utterances, lambda stem: stem[5]) == {
        "N": "neutral", "F": "happiness", "T": "sadness", "W": "anger", "E": "disgust", "A": "fear",
    }  # fmt: skip
    assert splits(utterances) == {
        "emodb/03": "train", "emodb/11": "train", "emodb/12": "valid", "emodb/14": "valid", "emodb/15": "test",
        "emodb/16": "test",
    }  # fmt: skip
    assert {u.name for u in utterances if u.speaker == "emodb/03"} == {f"emodb/03a01{x}a" for x in "NFTWEA"}


@pytest.mark.parametrize("suffix", [".wav", ".opus"])
def test_nemo_reads_its_table_with_quotes_in_the_text(tmp_path: Path, suffix: str) -> None:
    utterances = nemo.read(made.nemo(tmp_path, speakers=("WR0", "TP0", "KS0", "MK0", "ZZ9"), suffix=suffix))
    assert len(utterances) == 30
    assert labels_by(utterances, lambda stem: stem.split("_")[1]) == {
        "neutral": "neutral", "happiness": "happiness", "surprised": "surprise", "sadness": "sadness",
        "anger": "anger", "fear": "fear",
    }  # fmt: skip
    assert splits(utterances) == {
        "nemo/WR0": "train", "nemo/TP0": "train", "nemo/KS0": "valid", "nemo/MK0": "valid", "nemo/ZZ9": "test",
    }  # fmt: skip


def test_cremad(tmp_path: Path) -> None:
    made.write_tone(tmp_path / "AudioWAV" / "1040_ITH_SAD_X", 3)  # the corpus itself has this name
    utterances = cremad.read(made.cremad(tmp_path, actors=(1001, 1073, 1074, 1082, 1083, 1091)))
    assert labels_by(utterances, lambda stem: stem.split("_")[2]) == {
        "NEU": "neutral", "HAP": "happiness", "SAD": "sadness", "ANG": "anger", "DIS": "disgust", "FEA": "fear",
    }  # fmt: skip
    assert splits(utterances) == {
        "cremad/1040": "train", "cremad/1001": "train", "cremad/1073": "train", "cremad/1074": "valid",
        "cremad/1082": "valid", "cremad/1083": "test", "cremad/1091": "test",
    }  # fmt: skip


def test_one_utterance_in_two_formats_is_read_once(tmp_path: Path) -> None:
    made.emodb(tmp_path, speakers=("03",), suffix=".wav")
    made.emodb(tmp_path, speakers=("03",), suffix=".flac")
    utterances = emodb.read(tmp_path)
    assert len(utterances) == 6
    assert {u.path.suffix for u in utterances} == {".wav"}


@pytest.mark.parametrize("name", ["ravdess", "emodb", "nemo", "cremad"])
def test_a_reading_is_in_the_same_order_each_time(tmp_path: Path, name: str) -> None:
    folder = MAKE[name](tmp_path)
    names = [u.name for u in SPEECH[name](folder)]
    assert names == [u.name for u in SPEECH[name](folder)]
    assert len(set(names)) == len(names)
    if name != "nemo":  # which has the order of its table
        paths = [u.path for u in SPEECH[name](folder)]
        assert paths == sorted(paths)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (ravdess.read, r"expected Actor_\*/03-01-\*\.wav, \.flac or \.opus below .*, found none; give the corpus fo"),
        (emodb.read, r"expected wav/\[0-9\]\[0-9\]\*\.wav, \.flac or \.opus below .*, found none"),
        (cremad.read, r"expected AudioWAV/\[0-9\]\*_\*\.wav, \.flac or \.opus below .*, found none"),
        (nemo.read, r"expected nEMO with its table at .*data\.tsv, found none; give the folder that holds it"),
        (lambda folder: ferplus.read(folder, "all"), r"expected FER\+ with its table at .*fer2013new\.csv, found none"),
    ],
)
def test_a_folder_of_something_else_is_one_line(tmp_path: Path, read: Read, text: str) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(CorpusError, match=text) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "stem", "text"),
    [
        (ravdess.read, "Actor_01/03-01-09-01-01-01-01", "1 of 1 files are not named 03-01-EE-II-SS-RR-AA, as RAVDESS"),
        (ravdess.read, "Actor_01/03-01-05", r"RAVDESS's are: 03-01-05\.wav"),
        (emodb.read, "wav/03a01Xa", r"not named SStttEv, as EmoDB's are: 03a01Xa\.wav"),
        (emodb.read, "wav/03a", r"EmoDB's are: 03a\.wav"),
        (cremad.read, "AudioWAV/1001_IEO_BOR_XX", r"1 of 1 files .* as CREMA-D's are: 1001_IEO_BOR_XX\.wav"),
        (cremad.read, "AudioWAV/1001_IEO", r"CREMA-D's are: 1001_IEO\.wav"),
    ],
)
def test_a_misnamed_file_is_one_line(tmp_path: Path, read: Read, stem: str, text: str) -> None:
    made.write_tone(tmp_path / stem, 0, seconds=0.1)
    with pytest.raises(CorpusError, match=text):
        read(tmp_path)


def test_many_misnamed_files_are_counted_and_five_are_named(tmp_path: Path) -> None:
    made.emodb(tmp_path, speakers=("03",))
    for n in range(7):
        made.write_tone(tmp_path / "wav" / f"0{n}x", 0, seconds=0.1)
    with pytest.raises(CorpusError, match=r"7 of 14 .*are: 00x\.wav, 01x\.wav, 02x\.wav, 03x\.wav, 04x\.wav \.\.\.$"):
        emodb.read(tmp_path)


def test_nemos_missing_files_are_one_line(tmp_path: Path) -> None:
    made.nemo(tmp_path, speakers=("WR0",))
    for word in ("anger", "fear"):
        (tmp_path / "samples" / f"WR0_{word}_1.wav").unlink()
    with pytest.raises(CorpusError, match=r"2 of 6 files .* not in samples: WR0_anger_1\.wav, WR0_fear_1\.wav$"):
        nemo.read(tmp_path)


def test_a_speaker_of_nemo_who_is_wholly_absent_is_not_missing(tmp_path: Path) -> None:
    made.nemo(tmp_path, speakers=("WR0", "ZZ9"))
    for path in (tmp_path / "samples").glob("WR0_*"):
        path.unlink()
    assert {u.speaker for u in nemo.read(tmp_path)} == {"nemo/ZZ9"}
    for path in (tmp_path / "samples").glob("ZZ9_*"):
        path.unlink()
    with pytest.raises(CorpusError, match="12 of 12 files"):
        nemo.read(tmp_path)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("a,b\n1,2\n", "with columns file_id, emotion, speaker_id .* found no file_id, emotion, speaker_id"),
        ("file_id\temotion\n1.wav\tfear\n", "found no speaker_id"),
        ("file_id\temotion\tspeaker_id\n", "found no file_id, emotion, speaker_id"),
        ("file_id\temotion\tspeaker_id\n1.wav\tboredom\tWR0\n", "neutral, happiness, .*, found emotion boredom"),
    ],
)
def test_a_table_that_is_not_nemos_is_one_line(tmp_path: Path, table: str, text: str) -> None:
    (tmp_path / "data.tsv").write_text(table)
    with pytest.raises(CorpusError, match=text):
        nemo.read(tmp_path)


ROWS = [
    ("Training", (8, 0, 0, 0, 0, 1, 0, 1, 0, 0)),  # neutral
    ("Training", (0, 0, 0, 4, 4, 1, 0, 1, 0, 0)),  # a tie: sadness stands before anger
    ("Training", (0, 0, 0, 0, 0, 0, 3, 4, 3, 0)),  # contempt: left out
    ("Training", (0, 0, 0, 0, 3, 0, 0, 0, 4, 3)),  # unknown: left out
    ("Training", (1, 0, 0, 0, 0, 0, 0, 0, 0, 9)),  # no face: left out
    ("Training", (0, 0, 0, 0, 0, 0, 4, 4, 2, 0)),  # a tie of fear and contempt: fear stands first
    ("PublicTest", (0, 2, 8, 0, 0, 0, 0, 0, 0, 0)),
    ("PrivateTest", (0, 0, 0, 0, 0, 10, 0, 0, 0, 0)),
]


def test_ferplus_takes_the_majority_of_all_ten_votes(tmp_path: Path) -> None:
    faces = ferplus.read(made.ferplus(tmp_path, ROWS), "train")
    assert faces.names == ("fer0000000.png", "fer0000001.png", "fer0000005.png")
    assert [LABELS[k] for k in faces.majority] == ["neutral", "sadness", "fear"]
    assert faces.images.shape == (3, 48, 48)
    assert faces.images.dtype == np.uint8
    np.testing.assert_array_equal(faces.images[1], made.picture(3, 1))
    # the distribution over the seven labels leaves contempt's votes out
    np.testing.assert_allclose(faces.targets[0], np.array([8, 0, 0, 0, 0, 1, 0]) / 9, rtol=1e-6)
    np.testing.assert_allclose(faces.targets[2], np.eye(7)[6], rtol=1e-6)
    assert faces.targets.dtype == np.float32


def test_ferplus_splits_are_its_own(tmp_path: Path) -> None:
    folder = made.ferplus(tmp_path, ROWS)
    names = {split: set(ferplus.read(folder, split).names) for split in ("train", "valid", "test", "all")}
    assert names["valid"] == {"fer0000006.png"}
    assert names["test"] == {"fer0000007.png"}
    assert names["all"] == names["train"] | names["valid"] | names["test"]
    assert sum(len(names[s]) for s in ("train", "valid", "test")) == len(names["all"]) == 5


def test_ferplus_all_takes_the_splits_whose_pictures_are_there(tmp_path: Path) -> None:
    folder = made.ferplus(tmp_path, ROWS)
    (folder / "data" / "FER2013Test" / "fer0000007.png").unlink()
    (folder / "data" / "FER2013Test").rmdir()
    assert len(ferplus.read(folder, "all").names) == 4
    with pytest.raises(CorpusError, match=r"1 of 1 pictures of .* are missing or not 48 x 48: fer0000007\.png"):
        ferplus.read(folder, "test")


def test_ferplus_lists_missing_unreadable_and_wrongly_sized_pictures_in_one_line(tmp_path: Path) -> None:
    folder = made.ferplus(tmp_path, ROWS)
    pictures = folder / "data" / "FER2013Train"
    (pictures / "fer0000000.png").unlink()
    (pictures / "fer0000001.png").write_bytes(b"no picture")
    assert cv2.imwrite(str(pictures / "fer0000005.png"), np.zeros((32, 32), np.uint8))
    expected = r"3 of 3 pictures .*: fer0000000\.png, fer0000001\.png, fer0000005\.png$"
    with pytest.raises(CorpusError, match=expected):
        ferplus.read(folder, "train")


def test_ferplus_without_pictures_of_a_split_or_with_another_table(tmp_path: Path) -> None:
    folder = made.ferplus(tmp_path, ROWS[:2])
    with pytest.raises(CorpusError, match="holds no picture of split 'valid'"):
        ferplus.read(folder, "valid")
    with pytest.raises(CorpusError, match="expected a split of train, valid, test, all, got 'dev'"):
        ferplus.read(folder, "dev")
    (folder / "fer2013new.csv").write_text("emotion,pixels,Usage\n0,1 2 3,Training\n")  # FER2013's own table
    with pytest.raises(CorpusError, match=r"its columns lack Image name, neutral, happiness, surprise, sadness \.\.\."):
        ferplus.read(folder, "train")


def test_real_ferplus(corpus: Callable[[str], Path]) -> None:
    folder = corpus("ferplus")
    rows = (folder / "fer2013new.csv").read_text().splitlines()[1:]
    assert Counter(row.split(",")[0] for row in rows) == {"Training": 28_171, "PublicTest": 3533}
    train, valid = ferplus.read(folder, "train"), ferplus.read(folder, "valid")
    # 163 of contempt and 168 of unknown or no face are left out of 28,171
    assert len(train.names) == 28_171 - 163 - 168
    assert (train.majority == LABELS.index("disgust")).sum() == 181
    assert len(valid.names) == 3485
    assert not set(train.names) & set(valid.names)
    np.testing.assert_allclose(train.targets.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "n", "n_speakers", "by_split"),
    [
        ("ravdess", 1200, 20, {"train": 16, "valid": 4}),
        ("emodb", 408 - 58, 8, {"train": 6, "valid": 2}),
        ("nemo", 3404, 7, {"train": 5, "valid": 2}),
    ],
)
def test_real_speech(
    corpus: Callable[[str], Path], name: str, n: int, n_speakers: int, by_split: dict[str, int]
) -> None:
    utterances = SPEECH[name](corpus(name))
    assert len(utterances) == n
    assert len({u.name for u in utterances}) == n
    speakers = splits(utterances)
    assert len(speakers) == n_speakers
    assert Counter(speakers.values()) == by_split


def test_the_recording_that_ravdess_has_twice_is_in_one_split(corpus: Callable[[str], Path]) -> None:
    twice = {"ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07"}
    found = [u for u in ravdess.read(corpus("ravdess")) if u.name in twice]
    assert [u.split for u in found] == ["train", "train"]
