"""nEMO, acted Polish speech (Christop, 2024): `data.tsv` and `samples/SPEAKER_emotion_N`."""

import csv
from pathlib import Path

from train.corpora.items import CorpusError, Utterance, find_audio, listed, speaker_split

LABEL_OF = {"neutral": 0, "happiness": 1, "surprised": 2, "sadness": 3, "anger": 4, "fear": 6}
TRAIN = frozenset({"WR0", "MP0", "IC0", "KD0", "TP0"})
VALID = frozenset({"KS0", "MK0"})
COLUMNS = ("file_id", "emotion", "speaker_id")


def read(folder: Path) -> list[Utterance]:
    """Every utterance of the speakers of whom `samples` holds something.

    Raises:
        CorpusError: If the table is missing or not nEMO's, or names files of those speakers that are not in `samples`.
    """
    table = folder / "data.tsv"
    if not table.is_file():
        raise CorpusError(f"expected nEMO with its table at {table}, found none; give the folder that holds it")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    absent = [column for column in COLUMNS if not rows or rows[0].get(column) is None]
    strange = sorted({row["emotion"] for row in rows} - set(LABEL_OF)) if not absent else []
    if absent or strange:
        raise CorpusError(
            f"expected nEMO's table at {table}, with columns {', '.join(COLUMNS)} and emotions "
            f"{', '.join(LABEL_OF)}, found {'emotion ' + listed(strange) if strange else 'no ' + listed(absent)}"
        )
    utterances, missing, here = [], [], set()
    for row in rows:
        stem, speaker = Path(row["file_id"]).stem, row["speaker_id"].strip()
        path = find_audio(folder / "samples" / stem)
        if path is None:
            missing.append((speaker, row["file_id"]))
            continue
        here.add(speaker)
        utterances.append(
            Utterance(
                name=f"nemo/{stem}",
                path=path,
                speaker=f"nemo/{speaker}",
                label=LABEL_OF[row["emotion"]],
                split="train" if speaker in TRAIN else speaker_split(speaker, VALID, frozenset({speaker})),
            )
        )
    # A part of the corpus may be passed on by speaker, with the whole table: only a speaker with gaps is broken.
    lost = [file for speaker, file in missing if speaker in here or not here]
    if lost:
        raise CorpusError(f"{len(lost)} of {len(rows)} files that {table} names are not in samples: {listed(lost)}")
    return utterances
