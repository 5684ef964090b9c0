"""What a personal baseline gains or costs, on speakers that the recogniser was not trained on.

    python -m tools.measure.baseline_check ravdess:DIR nemo:DIR emodb:DIR [--model default] [--split valid]

For each speaker a few neutral utterances are the neutral period and all others, neutral ones included, are scored with
and without the baseline that follows; this is repeated with other neutral utterances drawn, and averaged. Voice only:
no corpus here has faces with names and emotions. Needs the train extra.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.bundle import load
from stream.baseline import KINDS, NEUTRAL, Baseline, neutral_shift
from stream.config import window_scheme
from tools.recognisers.corpus_folders import folders
from train import evaluate, voices

N_NEUTRAL, N_REPEATS = 4, 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """An utterance: its windows' posteriors (n, n_labels) by the voice, and its label."""

    windows: np.ndarray
    label: int


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Accuracy and unweighted average recall as fractions, without and with the baseline, and recall of neutral."""

    accuracy: tuple[float, float]
    uar: tuple[float, float]
    neutral: tuple[float, float]
    n: int


def gain(spoken: Sequence[Scored], labels: Sequence[str], *, seed: int = 0) -> Gain | None:
    """What one speaker's baseline gains on the speaker's other utterances; None with too few neutral ones."""
    neutral = labels.index(NEUTRAL)
    calm = [k for k, one in enumerate(spoken) if one.label == neutral]
    n_taken = min(N_NEUTRAL, len(calm) // 2)
    if n_taken == 0:
        return None
    generator = np.random.default_rng(seed)
    rounds = []
    for _ in range(N_REPEATS):
        taken = set(generator.choice(calm, n_taken, replace=False).tolist())
        baseline = baseline_of(np.concatenate([spoken[k].windows for k in sorted(taken)]), labels, neutral)
        rest = [one for k, one in enumerate(spoken) if k not in taken]
        true = np.array([one.label for one in rest])
        read = [
            np.array([one.windows.mean(0).argmax() for one in rest]),
            np.array([baseline.apply(one.windows, "voice").mean(0).argmax() for one in rest]),
        ]
        rounds.append([_scores(predicted, true, neutral) for predicted in read])
    (plain, corrected) = np.mean(rounds, axis=0)
    accuracy, uar, recall = ((float(a), float(b)) for a, b in zip(plain, corrected, strict=True))
    return Gain(accuracy=accuracy, uar=uar, neutral=recall, n=len(spoken) - n_taken)


def baseline_of(windows: np.ndarray, labels: Sequence[str], neutral: int) -> Baseline:
    """A baseline from the voice windows of a neutral period."""
    shift = tuple(float(s) for s in neutral_shift(windows, neutral))
    return Baseline(
        person="speaker",
        labels=tuple(labels),
        shift=dict.fromkeys(KINDS, shift),
        n_windows=dict.fromkeys(KINDS, len(windows)),
        recogniser="",
        bundle="",
    )


def _scores(predicted: np.ndarray, true: np.ndarray, neutral: int) -> tuple[float, float, float]:
    recalls = {int(k): float((predicted[true == k] == k).mean()) for k in np.unique(true)}
    return float((predicted == true).mean()), sum(recalls.values()) / len(recalls), recalls[neutral]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each speaker and each corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("corpora", nargs="+", metavar="CORPUS:DIR")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="valid")
    asked = parser.parse_args(arguments)
    bundle = load(asked.model)
    labels, scheme = bundle.manifest.labels, window_scheme(bundle, None)
    recogniser = evaluate.Recogniser(bundle)
    places = folders(asked.corpora, option="CORPUS:DIR", mark=":", known=tuple(voices.READERS))
    found = voices.load(places, asked.split)
    spoken: dict[str, list[Scored]] = {}
    for samples, utterance in zip(found.samples, found.utterances, strict=True):
        windows = recogniser.voice(voices.windows_of(samples, utterance.name, scheme, 0)).posterior
        spoken.setdefault(utterance.speaker, []).append(Scored(windows=windows, label=utterance.label))
    gains = {speaker: got for speaker, items in spoken.items() if (got := gain(items, labels))}
    print(f"{bundle.manifest.name} ({bundle.sha256[:16]}), split {asked.split}, voice, {N_NEUTRAL} neutral utterances")
    print(f"{'speaker':14}{'n':>6}{'accuracy':>18}{'uar':>18}{'neutral recall':>18}")
    for speaker, got in gains.items():
        print(_line(speaker, [got]))
    for corpus, _ in places:
        print(_line(f"all {corpus}", [got for speaker, got in gains.items() if speaker.startswith(f"{corpus}/")]))


def _line(name: str, gains: Sequence[Gain]) -> str:
    cells = []
    for field in ("accuracy", "uar", "neutral"):
        before, after = np.mean([getattr(got, field) for got in gains], axis=0)
        cells.append(f"{before:.1%} -> {after:.1%}".rjust(18))
    return f"{name:14}{sum(got.n for got in gains):6}{''.join(cells)}"


if __name__ == "__main__":
    main()
