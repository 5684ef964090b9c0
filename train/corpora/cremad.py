"""CREMA-D speech (Cao et al., 2014): `AudioWAV/AAAA_SSS_EEE_LL`, AAAA the actor, EEE the intended emotion."""

from pathlib import Path

from train.corpora.items import Utterance, list_audio, speaker_split

LABEL_OF = {"NEU": 0, "HAP": 1, "SAD": 3, "ANG": 4, "DIS": 5, "FEA": 6}
VALID = frozenset(str(actor) for actor in range(1074, 1083))
TEST = frozenset(str(actor) for actor in range(1083, 1092))


def read(folder: Path) -> list[Utterance]:
    """Every utterance, by the emotion that was intended. Raises CorpusError where there is none."""
    utterances = []
    for path in list_audio(folder, "AudioWAV/[0-9]*_*"):
        actor, _, emotion, *_ = path.stem.split("_")
        utterances.append(
            Utterance(
                name=f"cremad/{path.stem}",
                path=path,
                speaker=f"cremad/{actor}",
                label=LABEL_OF[emotion],
                split=speaker_split(actor, VALID, TEST),
            )
        )
    return utterances
