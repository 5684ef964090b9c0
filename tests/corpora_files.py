"""Makes miniature corpora in the official layouts: tones for voices, patterns for faces, a label each.

A label is audible (its own pitch, harmonics and tremolo) and visible (its own stripes), so that a small network can
learn it.
"""

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import soundfile

RATE_HZ = 16_000
FER_COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
FER_FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
N_LABELS = 7
Votes = Sequence[int]


def tone(label: int, seconds: float, seed: int, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A voice-like tone of one label at a quarter of full scale, (n,) float32; `seed` varies level and phase."""
    generator = np.random.default_rng((label, seed))
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 90.0 * 2 ** (0.75 * label)
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * t + generator.uniform(0, 6.28)) / k for k in range(1, 4 + label % 3))
    wave = wave * (1 + 0.9 * np.sin(2 * np.pi * 2 * 1.5**label * t))
    wave = wave / np.abs(wave).max() + 0.01 * generator.standard_normal(len(t))
    return np.asarray(0.25 * wave, dtype=np.float32)


def picture(label: int, seed: int) -> np.ndarray:
    """A picture of one label, (48, 48) uint8: stripes of its own width on a disc, mirrored alike, with noise."""
    generator = np.random.default_rng((label, seed))
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    stripes = np.cos((3 + 2.5 * label) * (y if label % 2 else np.abs(x)))
    grey = 128 + 80 * stripes * (x**2 + y**2 < 0.8) + generator.normal(0, 6, x.shape)
    return np.asarray(grey.clip(0, 255), dtype=np.uint8)


def votes_for(label: int) -> Votes:
    """Ten votes with a clear majority for one column."""
    return [8 if column == label else 1 if column in ((label + 1) % 7, (label + 2) % 7) else 0 for column in range(10)]


def ferplus(folder: Path, rows: Iterable[tuple[str, Votes]]) -> Path:
    """FER+: `fer2013new.csv` and a picture for each (usage, ten votes), named fer0000000.png on."""
    lines = []
    for number, (usage, votes) in enumerate(rows):
        path = folder / "data" / FER_FOLDERS[usage] / f"fer{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), picture(int(np.argmax(votes)), number))
        lines.append([usage, path.name, *votes])
    with (folder / "fer2013new.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["Usage", "Image name", *FER_COLUMNS], *lines])
    return folder


def even_ferplus(folder: Path, *, train: int, valid: int) -> Path:
    """FER+ with `train` and `valid` pictures of each of the seven labels."""
    counts = (("Training", train), ("PublicTest", valid))
    return ferplus(folder, [(usage, votes_for(k)) for usage, n in counts for _ in range(n) for k in range(N_LABELS)])


def write_tone(stem: Path, label: int, *, seconds: float = 0.8, suffix: str = ".wav", rate_hz: int = RATE_HZ) -> Path:
    """An audio file of one label, its name taken as seed."""
    path = stem.with_name(stem.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(stem.name.encode())
    form = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    soundfile.write(path, tone(label, seconds, seed, rate_hz), rate_hz, **form)
    return path


RAVDESS_CODES = {"01": 0, "02": 0, "03": 1, "04": 3, "05": 4, "06": 6, "07": 5, "08": 2}


def ravdess(folder: Path, actors: Iterable[int] = (1, 17), suffix: str = ".wav", seconds: float = 0.8) -> Path:
    """RAVDESS speech: an utterance of each emotion code by each actor, `Actor_AA/03-01-EE-01-01-01-AA`."""
    for actor, (code, label) in itertools.product(actors, RAVDESS_CODES.items()):
        stem = folder / f"Actor_{actor:02d}" / f"03-01-{code}-01-01-01-{actor:02d}"
        write_tone(stem, label, suffix=suffix, seconds=seconds)
    return folder


EMODB_CODES = {"N": 0, "F": 1, "T": 3, "W": 4, "E": 5, "A": 6, "L": 0}


def emodb(folder: Path, speakers: Iterable[str] = ("03", "12", "15"), suffix: str = ".wav") -> Path:
    """EmoDB: an utterance of each letter, boredom too, by each speaker, `wav/SSa01Ea`."""
    for speaker, (letter, label) in itertools.product(speakers, EMODB_CODES.items()):
        write_tone(folder / "wav" / f"{speaker}a01{letter}a", label, suffix=suffix)
    return folder


NEMO_WORDS = {"neutral": 0, "happiness": 1, "surprised": 2, "sadness": 3, "anger": 4, "fear": 6}


def nemo(folder: Path, speakers: Iterable[str] = ("WR0", "KS0", "ZZ9"), suffix: str = ".wav") -> Path:
    """nEMO: `data.tsv` with quotes in its text and spaces before the speaker, and `samples/SPK_emotion_1`."""
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for speaker, (word, label) in itertools.product(speakers, NEMO_WORDS.items()):
        write_tone(folder / "samples" / f"{speaker}_{word}_1", label, suffix=suffix)
        lines.append(
            f'{speaker}_{word}_1.wav\t{word}\tPan „Tadeusz" to "książka.\tpan tadeusz\t        {speaker}\tmale\t23'
        )
    (folder / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


CREMAD_CODES = {"NEU": 0, "HAP": 1, "SAD": 3, "ANG": 4, "DIS": 5, "FEA": 6}


def cremad(folder: Path, actors: Iterable[int] = (1001, 1074, 1083), suffix: str = ".wav") -> Path:
    """CREMA-D speech: an utterance of each code by each actor, `AudioWAV/AAAA_IEO_EEE_XX`."""
    for actor, (code, label) in itertools.product(actors, CREMAD_CODES.items()):
        write_tone(folder / "AudioWAV" / f"{actor}_IEO_{code}_XX", label, suffix=suffix)
    return folder
