"""Makes miniature audio-visual corpora in the official layouts: encoded pictures and sound, a class in one signal.

`signal` says where the class shows, see `tests.clip_signals`. Faces are found in all but `motion`, which suits
recognisers of whole frames. The layouts' own number of labels is the default; with fewer, only the first ones occur,
where a layout lets them.
"""

import csv
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stream.records import RATE_HZ
from tests.clip_signals import SIDE_PX, Scene, Signal, scenes
from tests.media_files import Audio, Video, write_media

RATE_FPS = 25
DURATION_S = 1.6
X264 = (("preset", "ultrafast"), ("crf", "12"))
CODECS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".avi": "mpeg4", ".flv": "flv", ".mpg": "mpeg2video"}
SOUNDS = {".mp4": "aac", ".flv": "libmp3lame", ".mpg": "mp2"}
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
CREMAD_CODES = (("NEU", "N"), ("HAP", "H"), ("SAD", "S"), ("ANG", "A"), ("DIS", "D"), ("FEA", "F"))
ACTORS = tuple(str(actor) for actor in range(1001, 1011))
AFEW_FOLDERS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
EMOTIONS_8 = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
IEMOCAP_CODES = (("hap", "exc"), ("sad",), ("neu",), ("ang",))


def write_clip(path: Path, scene: Scene, duration_s: float = DURATION_S) -> Path:
    """Encode a clip as its suffix asks."""
    return _write(path, lambda t_s: scene.picture(t_s), scene.sound(duration_s), width_px=SIDE_PX)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """Write sound at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_media(path, audio=_audio(samples, RATE_HZ, "pcm_s16le"))


def cremad(
    folder: Path,
    signal: Signal = "both",
    n_clips: int = 60,
    n_labels: int = 6,
    seed: int = 0,
    *,
    duration_s: float = DURATION_S,
) -> Path:
    """CREMA-D: ten actors, all tables; raters perceive what was intended."""
    stems = []
    for number, scene in enumerate(scenes(signal, n_clips, n_labels, seed)):
        turn, actor = divmod(number // n_labels, len(ACTORS))
        code = CREMAD_CODES[scene.label][0]
        stem = f"{ACTORS[actor]}_{SENTENCES[turn % 12]}_{code}_{'XX' if turn < 12 else 'HI'}"
        stems.append(stem)
        write_clip(folder / "VideoFlash" / f"{stem}.flv", scene, duration_s)
        write_wav(folder / "AudioWAV" / f"{stem}.wav", scene.sound(duration_s))
    cremad_tables(folder, stems)
    return folder


def cremad_tables(folder: Path, stems: Sequence[str], votes: dict[str, tuple[str, str]] | None = None) -> None:
    """The three tables in the columns of the corpus; `votes` replaces (vote, level) of some clips."""
    letter = dict(CREMAD_CODES)
    columns = ("", "FileName", "VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel", "MultiModalVote", "MultiModalLevel")
    rows = [(stem, *(votes or {}).get(stem, (letter[stem.split("_")[2]], "61.5"))) for stem in stems]
    summary = [(str(i), stem, "N", "60", "N", "70", vote, level) for i, (stem, vote, level) in enumerate(rows, 1)]
    _table(folder / "processedResults" / "summaryTable.csv", columns, summary)
    _table(folder / "SentenceFilenames.csv", ("Stimulus_Number", "Filename"), list(enumerate(stems, 1)))
    people = [(a, 30, "Male" if int(a) % 2 else "Female", "Caucasian", "Hispanic") for a in ACTORS]
    _table(folder / "VideoDemographics.csv", ("ActorID", "Age", "Sex", "Race", "Ethnicity"), people)


def iemocap(
    folder: Path,
    signal: Signal = "both",
    n_clips: int = 32,
    n_labels: int = 4,
    seed: int = 0,
    *,
    n_sessions: int = 4,
    duration_s: float = DURATION_S,
) -> Path:
    """IEMOCAP: two dialogues a session, who wears the markers on the left; the other half shows another clip."""
    made = scenes(signal, n_clips, n_labels, seed)
    others = scenes(signal, n_clips, n_labels, seed + 1000)
    order = np.random.default_rng((seed, 9)).permutation(n_clips)
    for session, (k, wearer) in itertools.product(range(n_sessions), enumerate("FM")):
        # Turns of all labels go to one dialogue after the other.
        mine = [i for i in range(n_clips) if (i // n_labels) % (2 * n_sessions) == 2 * session + k]
        turns = [(made[i], others[order[i]], "FM"[n % 2]) for n, i in enumerate(mine)]
        if turns:
            _dialogue(
                folder / f"Session{session + 1}" / "dialog", f"Ses0{session + 1}{wearer}_impro01", turns, duration_s
            )
    return folder


def evaluation(path: Path, rows: Sequence[tuple[float, float, str, str]]) -> Path:
    """IEMOCAP's evaluation of a dialogue: (start, end, utterance, emotion), with the raters' lines between."""
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    for start, end, name, emotion in rows:
        text += f"[{start:.4f} - {end:.4f}]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n"
        text += "C-E2:\tNeutral;\t()\nC-F1:\tHappiness; Excited;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def afew(
    folder: Path,
    signal: Signal = "both",
    n_clips: int = 42,
    n_labels: int = 7,
    seed: int = 0,
    *,
    duration_s: float = DURATION_S,
) -> Path:
    """AFEW: two thirds of the clips in `Train_AFEW`, the rest in `Val_AFEW`; all seven folders are there."""
    assert n_labels == len(AFEW_FOLDERS)
    for number, scene in enumerate(scenes(signal, n_clips, n_labels, seed)):
        part = "Val_AFEW" if number // n_labels % 3 == 2 else "Train_AFEW"
        write_clip(folder / part / AFEW_FOLDERS[scene.label] / f"00{number:04d}280.avi", scene, duration_s)
    return folder


def videoemotion8(
    folder: Path,
    signal: Signal = "both",
    n_clips: int = 32,
    n_labels: int = 8,
    seed: int = 0,
    *,
    duration_s: float = DURATION_S,
) -> Path:
    """VideoEmotion-8: a folder an emotion, MP4."""
    assert n_labels == len(EMOTIONS_8)
    return folders(folder, signal, n_clips, n_labels, seed, names=EMOTIONS_8, duration_s=duration_s)


def folders(
    folder: Path,
    signal: Signal = "both",
    n_clips: int = 32,
    n_labels: int = 4,
    seed: int = 0,
    *,
    names: Sequence[str] = ("angry", "happy", "neutral", "sad"),
    suffix: str = ".mp4",
    duration_s: float = DURATION_S,
) -> Path:
    """Labelled folders of clips of any kind."""
    for number, scene in enumerate(scenes(signal, n_clips, n_labels, seed)):
        write_clip(folder / names[scene.label] / f"clip {number:03d}{suffix}", scene, duration_s)
    return folder


MAKE: dict[str, Callable[..., Path]] = {
    "afew": afew,
    "cremad": cremad,
    "cremad-perceived": cremad,
    "folders": folders,
    "iemocap": iemocap,
    "videoemotion8": videoemotion8,
}


def _dialogue(base: Path, stem: str, turns: Sequence[tuple[Scene, Scene, str]], each_s: float) -> None:
    # Half a second before each turn and after the last, as the corpus has pauses.
    starts = [0.5 + k * (each_s + 0.5) for k in range(len(turns))]
    rows, sound = [], np.zeros(round((starts[-1] + each_s + 0.5) * RATE_HZ))
    n_of = {"F": 0, "M": 0}
    for start, (scene, _, speaker) in zip(starts, turns, strict=True):
        codes = IEMOCAP_CODES[scene.label]
        name = f"{stem}_{speaker}{n_of[speaker]:03d}"
        rows.append((start, start + each_s, name, codes[n_of[speaker] % len(codes)]))
        n_of[speaker] += 1
        first = round(start * RATE_HZ)
        heard = scene.sound(each_s)
        sound[first : first + len(heard)] = heard
    # Three turns that belong to none of the four classes.
    rows += [(0.0, 0.3, f"{stem}_{stem[5]}{100 + k}", emotion) for k, emotion in enumerate(("fru", "xxx", "sur"))]
    evaluation(base / "EmoEvaluation" / f"{stem}.txt", rows)

    def picture(t_s: float) -> np.ndarray:
        k = max(0, min(int((t_s - 0.25) / (each_s + 0.5)), len(turns) - 1))
        scene, other, speaker = turns[k]
        halves = [scene, other] if speaker == stem[5] else [other, scene]
        return np.hstack([half.picture(max(0.0, t_s - starts[k])) for half in halves])

    _write(base / "avi" / "DivX" / f"{stem}.avi", picture, sound, width_px=2 * SIDE_PX)
    write_wav(base / "wav" / f"{stem}.wav", sound)


def _write(path: Path, picture: Callable[[float], np.ndarray], samples: np.ndarray, *, width_px: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = CODECS[path.suffix]
    video = Video(
        width_px=width_px,
        height_px=SIDE_PX,
        rate_hz=RATE_FPS,
        n_frames=round(len(samples) / RATE_HZ * RATE_FPS),
        codec=codec,
        options=X264 if codec == "libx264" else (("b", "4000000"),),
        picture=lambda i, height_px, width_px: picture(i / RATE_FPS),
    )
    rate_hz = 22_050 if path.suffix == ".flv" else RATE_HZ
    return write_media(path, video=video, audio=_audio(samples, rate_hz, SOUNDS.get(path.suffix, "pcm_s16le")))


def _audio(samples: np.ndarray, rate_hz: int, codec: str) -> Audio:
    at = np.arange(len(samples)) / RATE_HZ
    return Audio(
        rate_hz=rate_hz,
        codec=codec,
        duration_s=len(samples) / RATE_HZ,
        sound=lambda t_s: np.interp(t_s, at, samples),
        packet=1152 if codec in ("libmp3lame", "mp2") else 1024,
    )


def _table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as table:
        csv.writer(table, quoting=csv.QUOTE_NONNUMERIC).writerows([columns, *rows])
