"""CREMA-D speech (Cao et al., 2014): `AudioWAV/AAAA_SSS_EEE_LL`, AAAA the actor, EEE the intended emotion."""

from pathlib import Path

from train.corpora.items import Utterance, list_audio, read_names, speaker_split

LABEL_OF = {"NEU": 0, "HAP": 1, "SAD": 3, "ANG": 4, "DIS": 5, "FEA": 6}
VALID = frozenset(str(actor) for actor in range(1074, 1083))
TEST = frozenset(str(actor) for actor in range(1083, 1092))
# The corpus itself has one intensity of a single letter, 1040_ITH_SAD_X.
NAME = rf"(\d{{4}})_[A-Z]{{3}}_({'|'.join(LABEL_OF)})_[A-Z]{{1,2}}"


def read(folder: Path) -> list[Utterance]:
    """Every utterance, by the emotion that was intended. Raises CorpusError where there is none or one is misnamed."""
    named = read_names(list_audio(folder, "AudioWAV/[0-9]*_*"), NAME, "ACTOR_SENTENCE_EMOTION_LEVEL, as CREMA-D's are")
    return [
        Utterance(
            name=f"cremad/{path.stem}",
            path=path,
            speaker=f"cremad/{match[1]}",
            label=LABEL_OF[match[2]],
            split=speaker_split(match[1], VALID, TEST),
        )
        for path, match in named
    ]
