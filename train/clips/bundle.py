"""The bundle of a trained task: its graphs, what they take, how it was measured, and a card for people."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from torch import nn

from engines.bundle import Bundle, Corpus, Manifest, Measured, PerModality, Stage, load
from train.clips.card import write_clip_card
from train.clips.evaluation import FoldResult
from train.corpora.clips import ClipCorpus
from train.default.finish import CORPORA, MIN_CONFIDENCE
from train.preparation.prepared import Prepared
from train.tasks.task import Exported, Task

# Corpora of clips that `train.default.finish` does not know: name in full and terms.
TERMS = {
    "cremad-perceived": ("CREMA-D, perceived labels", "ODbL 1.0"),
    "iemocap": ("IEMOCAP", "research use, by agreement with USC"),
    "afew": ("AFEW", "research use, by agreement with its authors"),
    "videoemotion8": ("VideoEmotion-8", "research use; the videos are their uploaders'"),
}


def write_bundle(
    task: Task,
    network: nn.Module,
    clips: Sequence[Prepared],
    folder: Path,
    corpus: ClipCorpus,
    result: FoldResult,
    used: str,
    command: str,
    seed: int,
) -> Bundle:
    """Export a task and write `bundle.json` and `README.md` beside its graphs.

    Args:
        task: The recogniser.
        network: Trained.
        clips: Real ones to check the graphs on, two or more.
        folder: The bundle's.
        corpus: That it was trained on.
        result: Of the fold's test clips.
        used: Which clips of the corpus were learned from, for the list of corpora.
        command: That reproduces it.
        seed: Of the run.

    Raises:
        ValueError: If a graph departs from torch, or the bundle is not valid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.onnx"):  # of an export that was broken off
        old.unlink()
    exported = task.export(network, folder, clips)
    manifest = msgspec.structs.replace(
        draft(task, exported, folder, command),
        temperature=_temperature(task, exported, result),
        trained=(_corpus(corpus, used),),
        scores=(_measured(task, corpus, result),),
    )
    bundle = save(folder, manifest)
    write_clip_card(bundle, corpus.protocol, exported.difference, result, seed=seed)
    return bundle


def write_untrained(task: Task, clips: Sequence[Prepared], folder: Path, command: str) -> Bundle:
    """Export a task with fresh weights, to measure how fast it is; its estimates mean nothing, and it says so.

    Args:
        task: The recogniser.
        clips: Real ones to check the graphs on, two or more.
        folder: The bundle's.
        command: That makes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exported = task.export(task.network().eval(), folder, clips)
    manifest = draft(task, exported, folder, command)
    return save(folder, msgspec.structs.replace(manifest, name=f"{task.name}-untrained"))


def save(folder: Path, manifest: Manifest) -> Bundle:
    """Write `bundle.json`, and load the bundle, which validates it. Raises BundleError where it is not valid."""
    (folder / "bundle.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return load(folder)


def draft(task: Task, exported: Exported, folder: Path, command: str) -> Manifest:
    """What an export says of itself, not yet calibrated nor measured; the graphs lie in `folder`."""
    return Manifest(
        format=1,
        name=task.name,
        paper=task.paper,
        labels=tuple(task.labels),
        face=exported.face,
        audio=exported.audio,
        scheme=exported.scheme,
        clip=exported.clip,
        pose=exported.pose,
        flow=exported.flow,
        stages={name: _stage(folder, graph.file, graph.per, graph.takes) for name, graph in exported.stages.items()},
        posteriors=dict(exported.posteriors),
        fusion=PerModality(face=1.0, voice=1.0, both=1.0),
        temperature=PerModality(face=1.0, voice=1.0, both=1.0),
        min_confidence=MIN_CONFIDENCE,
        trained=(),
        command=command,
        scores=(),
    )


def _stage(folder: Path, file: str, per: str, takes: object) -> Stage:
    sha256 = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    return msgspec.convert({"file": file, "sha256": sha256, "per": per, "takes": dict(takes)}, Stage)  # type: ignore[call-overload]


def _modality(task: Task) -> Literal["both", "face", "voice"]:
    """What the task's posterior was measured from."""
    needs = task.needs()
    if needs.face is None and not needs.pose:
        return "voice"
    return "both" if needs.audio else "face"


def _temperature(task: Task, exported: Exported, result: FoldResult) -> PerModality:
    # Fitted for what was measured. A graph that says the same posterior under other names has the same temperature;
    # what a window without one modality gives was not measured, and stays as it is.
    own = _modality(task)
    measured = exported.posteriors.get(own, own)

    def heat(name: Literal["both", "face", "voice"]) -> float:
        return result.temperature if exported.posteriors.get(name, name) == measured else 1.0

    return PerModality(face=heat("face"), voice=heat("voice"), both=heat("both"))


def _corpus(corpus: ClipCorpus, used: str) -> Corpus:
    if corpus.name in CORPORA:
        known = CORPORA[corpus.name]
        return Corpus(name=known.name, licence=known.licence, used=used)
    name, licence = TERMS.get(corpus.name, (corpus.name, "the terms of whoever made the clips"))
    return Corpus(name=name, licence=licence, used=used)


def _measured(task: Task, corpus: ClipCorpus, result: FoldResult) -> Measured:
    return Measured(
        corpus=corpus.name,
        split=result.fold,
        modality=_modality(task),
        protocol=f"whole clips; {corpus.protocol}; temperature fitted on the {result.calibrated_on} clips",
        n=result.n,
        accuracy=round(result.accuracy, 4),
        uar=round(result.uar, 4),
        ece=round(result.ece_calibrated, 4),
    )
