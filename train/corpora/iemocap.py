"""IEMOCAP (Busso et al., 2008), four classes as ICANet's Table I counts them: 5531 utterances, excited joined to happy.

`Session{1..5}/dialog` holds `EmoEvaluation/*.txt`, `avi/DivX/*.avi` and `wav/*.wav` of whole dialogues; an utterance is
a stretch of them. In Ses01F_impro01 the woman of session 1 wears the markers, in Ses01M_impro01 the man.

The picture shows both, 360 of its 720 columns each. Neither the corpus's text nor the paper says who sits where; the
public preprocessing codes that crop the speaker (three of them, which agree) take the left half for who wears the
markers, the right half for the other.
"""

import re
from collections import Counter
from pathlib import Path

from train.corpora.checks import Problems, make_corpus
from train.corpora.clips import Clip, ClipCorpus, Side

LABELS = ("happiness", "sadness", "neutral", "anger")  # Table I's order
LABEL_OF = {"hap": 0, "exc": 0, "sad": 1, "neu": 2, "ang": 3}
LEFT_OUT = frozenset({"fru", "xxx", "sur", "fea", "oth", "dis"})  # frustrated, no agreement, and the rare ones
SESSIONS = ("1", "2", "3", "4", "5")
# Table I of the paper: utterances of each session, in the order of LABELS.
TABLE_I = {
    "1": (278, 194, 384, 229),
    "2": (327, 197, 362, 137),
    "3": (286, 305, 320, 240),
    "4": (303, 143, 258, 327),
    "5": (442, 245, 384, 170),
}
DIALOGUE = re.compile(r"Ses0([1-5])([FM])_\w+")
ROW = re.compile(r"\[(\d+\.\d+) - (\d+\.\d+)\]\t(\S+)\t(\S+)\t\[.*\]")


def read(folder: Path) -> ClipCorpus:
    """The utterances of four classes; each session, and with it its two speakers, is tested on once.

    The protocol is not in the paper; one session left out is the usual one. With all five sessions there the counts
    must be those of Table I.

    Raises:
        CorpusError: If a dialogue lacks its picture or its sound, a line cannot be read, a file is empty, a count is
            not Table I's, or fewer than two sessions are there; everything in one text.
    """
    problems = Problems("iemocap", folder)
    sessions = [s for s in SESSIONS if (folder / f"Session{s}").is_dir()]
    if len(sessions) < 2:
        problems.add("fewer than two sessions", [", ".join(f"Session{s}" for s in sessions) or "none"])
    clips = [clip for session in sessions for clip in _session(problems, folder, session)]
    names = Counter(clip.name for clip in clips)
    problems.add("utterances that stand in two lines", [name for name, n in names.items() if n > 1])
    if len(sessions) == len(SESSIONS):
        _check_counts(problems, clips)
    problems.check()
    everyone = {clip.name for clip in clips}
    folds = []
    for session in sessions:
        test = {clip.name for clip in clips if _session_of(clip) == session}
        folds.append((f"session{session}", everyone - test, test))
    how = f"one of sessions {', '.join(sessions)} left out in turn, {len(clips)} utterances, excited joined to happy"
    return make_corpus("iemocap", LABELS, clips, folds, how)


def _session(problems: Problems, folder: Path, session: str) -> list[Clip]:
    base = folder / f"Session{session}" / "dialog"
    tables = [path for path in problems.list_folder(base / "EmoEvaluation") if path.suffix == ".txt"]
    if not tables:
        problems.add("sessions without evaluations", [f"Session{session}/dialog/EmoEvaluation"])
    clips = []
    for table in tables:
        match = DIALOGUE.fullmatch(table.stem)
        if match is None or match[1] != session:
            problems.add(f"evaluations not named Ses0{session}F_... or Ses0{session}M_...", [table.name])
            continue
        video, sound = base / "avi" / "DivX" / f"{table.stem}.avi", base / "wav" / f"{table.stem}.wav"
        problems.look(video)
        problems.look(sound)
        clips += _dialogue(problems, table, video, sound)
    known = {table.stem for table in tables}
    for path in problems.list_folder(base / "avi" / "DivX"):
        if path.suffix == ".avi" and path.stem not in known:
            problems.add("dialogues without an evaluation", [path.stem])
    return clips


def _dialogue(problems: Problems, table: Path, video: Path, sound: Path) -> list[Clip]:
    try:
        lines = [line for line in table.read_text("utf-8", errors="replace").splitlines() if line.startswith("[")]
    except OSError as error:
        problems.add("evaluations that cannot be read", [f"{table.name}: {error.strerror}"])
        return []
    clips = []
    for line in lines:
        match = ROW.fullmatch(line)
        speaker = re.fullmatch(rf"{table.stem}_([FM])\w+", match[3]) if match else None
        if match is None or speaker is None or match[4] not in LABEL_OF | dict.fromkeys(LEFT_OUT):
            problems.add("lines that are no '[start - end] utterance emotion [v, a, d]'", [f"{table.name}: {line}"])
        elif float(match[2]) <= float(match[1]):
            problems.add("utterances that end before they begin", [match[3]])
        elif match[4] in LABEL_OF:
            side: Side = "left" if speaker[1] == table.stem[5] else "right"
            clips.append(
                Clip(
                    name=f"iemocap/{match[3]}",
                    path=video,
                    audio=sound,
                    label=LABEL_OF[match[4]],
                    person=f"iemocap/{table.stem[:5]}{speaker[1]}",
                    start_s=float(match[1]),
                    end_s=float(match[2]),
                    side=side,
                )
            )
    if not lines:
        problems.add("evaluations without a line", [table.name])
    return clips


def _check_counts(problems: Problems, clips: list[Clip]) -> None:
    found = Counter((_session_of(clip), clip.label) for clip in clips)
    for session, counts in TABLE_I.items():
        for label, expected in enumerate(counts):
            if found[session, label] != expected:
                problems.add(
                    "counts that are not Table I's",
                    [f"session {session} {LABELS[label]}: expected {expected}, found {found[session, label]}"],
                )


def _session_of(clip: Clip) -> str:
    return clip.person[len("iemocap/Ses0")]
