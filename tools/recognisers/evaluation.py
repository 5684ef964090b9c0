"""`emocast evaluate`: a bundle measured on corpora of a person's own disk."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from engines.bundle import Bundle, load
from tools.errors import DONE
from tools.recognisers.corpus_folders import folders, train_module

if TYPE_CHECKING:
    from train.metrics import Metrics

# The first of these that was measured is the main result.
PROTOCOLS = {
    "both": (
        "class-matched pairs: a face and an utterance of two different people with the same label; "
        "face and voice alone are of the same pairs"
    ),
    "face": "one picture each, majority vote over the seven labels",
    "voice": "a whole utterance each, from its audio windows",
}


def evaluate(
    bundle: str,
    faces: Sequence[str],
    voices: Sequence[str],
    *,
    split: str,
    as_json: bool,
    engine: str,
    seed: int,
) -> int:
    """Measure a bundle and print what came out. Returns the exit code.

    Args:
        bundle: A shipped bundle's name, or a bundle folder.
        faces: CORPUS:DIR of faces, at most one.
        voices: CORPUS:DIR of each voice corpus; with `faces`, class-matched pairs of both are measured.
        split: `train`, `valid`, `test` or `all`.
        as_json: One JSON object in place of tables.
        engine: `auto`, or a backend by name.
        seed: Of the window draws and of the pairing.

    Raises:
        BundleError, EngineError: If the bundle or the backend cannot be used.
        ValueError: If the train extra is missing, or a corpus is missing or not in its layout.
    """
    measuring, speech = train_module("train.evaluate"), train_module("train.voices")
    loaded = load(bundle)
    results: dict[str, Metrics] = measuring.evaluate(
        loaded,
        faces=folders(faces, option="--faces", mark=":", known=("ferplus",)),
        voices=folders(voices, option="--voices", mark=":", known=tuple(speech.READERS)),
        split=split,
        engine=engine,
        seed=seed,
    )
    if as_json:
        print(json.dumps(report(loaded, results, split=split, seed=seed)), flush=True)
    else:
        show(Console(highlight=False), loaded, results, split=split)
    return DONE


def report(bundle: Bundle, results: "dict[str, Metrics]", *, split: str, seed: int) -> dict[str, Any]:
    """The object of `--json`: every result by name, and the main one's numbers beside them."""
    labels = list(bundle.manifest.labels)
    described = {name: {**_numbers(metrics), "labels": labels} for name, metrics in results.items()}
    main = main_result(results)
    return {
        "bundle": bundle.manifest.name,
        "sha256": bundle.sha256,
        "split": split,
        "seed": seed,
        "main": main,
        "protocol": PROTOCOLS[main],
        "labels": labels,
        **_numbers(results[main]),
        "results": described,
    }


def show(console: Console, bundle: Bundle, results: "dict[str, Metrics]", *, split: str) -> None:
    """The same as tables: a line for each result, then the main one's confusion."""
    main = main_result(results)
    console.print(f"{bundle.manifest.name} ({bundle.sha256[:16]}), split {split}: {PROTOCOLS[main]}", soft_wrap=True)
    scores = Table("result", box=None, pad_edge=False)
    for title in ("n", "accuracy", "uar", "ece"):
        scores.add_column(title, justify="right")
    for name, metrics in results.items():
        numbers = f"{metrics.accuracy:.1%}", f"{metrics.uar:.1%}", f"{metrics.ece:.3f}"
        scores.add_row(name, str(metrics.n), *numbers)
    console.print(scores)
    console.print(f"\nConfusion of {main}: rows are the true labels, columns the predicted", soft_wrap=True)
    confusion = Table("", box=None, pad_edge=False)
    labels = bundle.manifest.labels
    for label in (*labels, "recall"):
        confusion.add_column(label, justify="right", no_wrap=True)
    for label, row in zip(labels, results[main].confusion, strict=True):
        recall = f"{row[labels.index(label)] / row.sum():.1%}" if row.sum() else "-"
        confusion.add_row(label, *(str(count) for count in row), recall)
    console.print(confusion)


def main_result(results: "dict[str, Metrics]") -> str:
    """The result that the top level of a report repeats: of both modalities where both were asked for."""
    return next(name for name in PROTOCOLS if name in results)


def _numbers(metrics: "Metrics") -> dict[str, Any]:
    return {
        "n": metrics.n,
        "accuracy": metrics.accuracy,
        "uar": metrics.uar,
        "ece": metrics.ece,
        "confusion": metrics.confusion.tolist(),
    }
