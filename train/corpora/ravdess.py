"""RAVDESS speech (Livingstone and Russo, 2018): `Actor_AA/03-01-EE-II-SS-RR-AA`, EE the emotion."""

from pathlib import Path

from train.corpora.items import Utterance, list_audio, read_names, speaker_split

# Neutral, calm (nearest to neutral), happy, sad, angry, fearful, disgust, surprised.
LABEL_OF = {"01": 0, "02": 0, "03": 1, "04": 3, "05": 4, "06": 6, "07": 5, "08": 2}
VALID = frozenset({"17", "18", "19", "20"})
TEST = frozenset({"21", "22", "23", "24"})
NAME = rf"03-01-({'|'.join(LABEL_OF)})-\d\d-\d\d-\d\d-(\d\d)"


def read(folder: Path) -> list[Utterance]:
    """Every utterance of the actors there. Raises CorpusError where there is none or one is misnamed."""
    named = read_names(list_audio(folder, "Actor_*/03-01-*"), NAME, "03-01-EE-II-SS-RR-AA, as RAVDESS's are")
    return [
        Utterance(
            name=f"ravdess/{path.stem}",
            path=path,
            speaker=f"ravdess/{match[2]}",
            label=LABEL_OF[match[1]],
            split=speaker_split(match[2], VALID, TEST),
        )
        for path, match in named
    ]
