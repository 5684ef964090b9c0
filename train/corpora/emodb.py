"""Berlin Database of Emotional Speech (Burkhardt et al., 2005): `wav/SStttEv`, SS the speaker, E the emotion."""

from pathlib import Path

from train.corpora.items import Utterance, list_audio, speaker_split

# Neutral, Freude, Trauer, Wut, Ekel, Angst. Langeweile (L, boredom) has no place in the seven labels.
LABEL_OF = {"N": 0, "F": 1, "T": 3, "W": 4, "E": 5, "A": 6}
VALID = frozenset({"12", "14"})
TEST = frozenset({"15", "16"})


def read(folder: Path) -> list[Utterance]:
    """Every utterance but the bored ones. Raises CorpusError where there is none."""
    return [
        Utterance(
            name=f"emodb/{path.stem}",
            path=path,
            speaker=f"emodb/{path.stem[:2]}",
            label=LABEL_OF[path.stem[5]],
            split=speaker_split(path.stem[:2], VALID, TEST),
        )
        for path in list_audio(folder, "wav/[0-9][0-9]*")
        if path.stem[5] in LABEL_OF
    ]
