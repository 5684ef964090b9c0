"""CREMA-D with its pictures (Cao et al., 2014): `VideoFlash/AAAA_SSS_EEE_LL.flv`, `AudioWAV/AAAA_SSS_EEE_LL.wav`.

The layout is that of github.com/CheyneyComputerScience/CREMA-D. Its tables are used where they are there:
`SentenceFilenames.csv` names all clips, `VideoDemographics.csv` the actors' sex, `processedResults/summaryTable.csv`
what the raters perceived, which the perceived labels need.
"""

import csv
import re
from pathlib import Path
from typing import Literal

from train.corpora.checks import Problems, make_corpus
from train.corpora.clips import Clip, ClipCorpus
from train.corpora.items import find_audio

LABELS = ("neutral", "happiness", "sadness", "anger", "disgust", "fear")
INTENDED = {"NEU": 0, "HAP": 1, "SAD": 2, "ANG": 3, "DIS": 4, "FEA": 5}
VOTED = {"N": 0, "H": 1, "S": 2, "A": 3, "D": 4, "F": 5}
# The corpus itself has one intensity of a single letter, 1040_ITH_SAD_X.
NAME = re.compile(rf"(\d{{4}})_[A-Z]{{3}}_({'|'.join(INTENDED)})_[A-Z]{{1,2}}")
N_FOLDS = 10
FILES, ACTORS, VOTES = "SentenceFilenames.csv", "VideoDemographics.csv", "processedResults/summaryTable.csv"
Labelling = Literal["intended", "perceived"]


def read_intended(folder: Path) -> ClipCorpus:
    """As `read`, by the emotion that the actor was asked for."""
    return read(folder, "intended")


def read_perceived(folder: Path) -> ClipCorpus:
    """As `read`, by the emotion that most raters chose who saw and heard the clip."""
    return read(folder, "perceived")


def read(folder: Path, labelling: Labelling) -> ClipCorpus:
    """All clips, in ten folds of which none shares an actor with another; each is tested on once.

    Where raters chose several emotions equally often, the intended one counts if it is among them, else the one whose
    raters gave it the higher mean intensity, else the first letter.

    Raises:
        CorpusError: If a clip lacks its picture or its sound, one is empty or misnamed, a table names a clip that is
            not there or lacks one that is, or fewer than ten actors are there; everything in one text.
    """
    name = "cremad" if labelling == "intended" else "cremad-perceived"
    problems = Problems(name, folder)
    stems = _stems(problems, folder)
    votes = _votes(problems, folder, stems) if labelling == "perceived" else {}
    for stem in stems:
        problems.look(folder / "VideoFlash" / f"{stem}.flv")
        problems.look(_sound(folder, stem))
    actors = sorted({stem[:4] for stem in stems})
    sexes = _sexes(problems, folder, actors)
    if len(actors) < N_FOLDS:
        problems.add(f"fewer than {N_FOLDS} actors for {N_FOLDS} folds", [", ".join(actors) or "none"])
    problems.check()
    clips = [
        Clip(
            name=f"cremad/{stem}",
            path=folder / "VideoFlash" / f"{stem}.flv",
            audio=_sound(folder, stem),
            label=votes.get(stem, INTENDED[stem.split("_")[2]]),
            person=f"cremad/{stem[:4]}",
        )
        for stem in stems
    ]
    # Dealt out in turn, one sex after the other: folds differ by one actor, and by one of each sex, at most.
    dealt = sorted(actors, key=lambda actor: (sexes.get(actor, ""), actor))
    folds = []
    for k in range(N_FOLDS):
        held = {f"cremad/{actor}" for actor in dealt[k::N_FOLDS]}
        test = {clip.name for clip in clips if clip.person in held}
        folds.append((f"fold{k}", {clip.name for clip in clips} - test, test))
    how = f"{labelling} emotion, {N_FOLDS} folds without shared actors{', sexes balanced' if sexes else ''}"
    return make_corpus(name, LABELS, clips, folds, f"{how}, {len(clips)} clips of {len(actors)} actors")


def _stems(problems: Problems, folder: Path) -> list[str]:
    # Every clip that a file or the list of files names: what lacks one of its files is then seen to be missing.
    found: set[str] = set()
    for part, suffixes in (("VideoFlash", {".flv"}), ("AudioWAV", {".wav", ".flac", ".opus"})):
        paths = problems.list_folder(folder / part)
        found |= {path.stem for path in paths}
        problems.add(
            f"not {', '.join(sorted(suffixes))} files",
            [f"{part}/{p.name}" for p in paths if p.suffix not in suffixes],
        )
    if (folder / FILES).is_file():
        found |= {row["Filename"] for row in _rows(problems, folder, FILES, ("Filename",))}
    problems.add(
        "clips not named ACTOR_SENTENCE_EMOTION_LEVEL", sorted(stem for stem in found if not NAME.fullmatch(stem))
    )
    return sorted(stem for stem in found if NAME.fullmatch(stem))


def _sound(folder: Path, stem: str) -> Path:
    path = folder / "AudioWAV" / f"{stem}.wav"
    return find_audio(path.with_suffix("")) or path


def _votes(problems: Problems, folder: Path, stems: list[str]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for row in _rows(problems, folder, VOTES, ("FileName", "MultiModalVote", "MultiModalLevel")):
        stem, votes, levels = row["FileName"], row["MultiModalVote"].split(":"), row["MultiModalLevel"].split(":")
        match = NAME.fullmatch(stem)
        try:
            strengths = {VOTED[vote]: float(level) for vote, level in zip(votes, levels, strict=True)}
        except (KeyError, ValueError):
            strengths = {}
        if match is None or not strengths:
            problems.add(f"rows of {VOTES} that are not a clip's votes and levels", [f"{stem} {':'.join(votes)}"])
        else:
            intended = INTENDED[match[2]]
            labels[stem] = intended if intended in strengths else max(strengths, key=strengths.__getitem__)
    known = set(stems)
    problems.add(f"clips of {VOTES} that are missing", [stem for stem in labels if stem not in known])
    if labels:
        problems.add(f"clips that {VOTES} lacks", [stem for stem in stems if stem not in labels])
    return labels


def _sexes(problems: Problems, folder: Path, actors: list[str]) -> dict[str, str]:
    if not (folder / ACTORS).is_file():
        return {}
    sexes = {row["ActorID"]: row["Sex"] for row in _rows(problems, folder, ACTORS, ("ActorID", "Sex"))}
    if sexes:
        problems.add(f"actors that {ACTORS} lacks", [actor for actor in actors if actor not in sexes])
    return sexes


def _rows(problems: Problems, folder: Path, table: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not (folder / table).is_file():
        problems.add("tables that are missing", [table])
        return []
    try:
        with (folder / table).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add("tables that cannot be read", [f"{table}: {error}"])
        return []
    if not rows or any(row.get(column) is None for row in rows for column in columns):
        problems.add("tables without their columns", [f"{table}: expected {', '.join(columns)} in each row"])
        return []
    return rows
