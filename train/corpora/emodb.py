"""Berlin Database of Emotional Speech (Burkhardt et al., 2005): `wav/SStttEv`, SS the speaker, E the emotion."""

from pathlib import Path

from train.corpora.items import Utterance, list_audio, read_names, speaker_split

# Neutral, Freude, Trauer, Wut, Ekel, Angst. Langeweile (boredom) has no place in the seven labels.
LABEL_OF = {"N": 0, "F": 1, "T": 3, "W": 4, "E": 5, "A": 6}
BORED = "L"
VALID = frozenset({"12", "14"})
TEST = frozenset({"15", "16"})
NAME = rf"(\d\d)[a-z]\d\d([{''.join(LABEL_OF)}{BORED}])[a-z]?"


def read(folder: Path) -> list[Utterance]:
    """Every utterance but the bored ones. Raises CorpusError where there is none or one is misnamed."""
    named = read_names(list_audio(folder, "wav/[0-9][0-9]*"), NAME, "SStttEv, as EmoDB's are")
    return [
        Utterance(
            name=f"emodb/{path.stem}",
            path=path,
            speaker=f"emodb/{match[1]}",
            label=LABEL_OF[match[2]],
            split=speaker_split(match[1], VALID, TEST),
        )
        for path, match in named
        if match[2] != BORED
    ]
