"""The model card of a clip recogniser's bundle: what it is, what it was trained on, what was measured, its limits."""

from engines.bundle import Bundle
from train.clips.evaluation import FoldResult

_LIMITS = """\
## Limits

- It knows the people, the language and the recordings of its corpus, most of which are acted or from films. Nothing
  here was measured on others.
- The figures are of whole clips that were cut around one expression. A stream has no such bounds.
- The posterior describes an expression as the corpus's raters would name it. It is not a fact about what a person
  feels, and no ground for a decision about a person. In the European Union emotion recognition at work and in
  education is forbidden (AI Act, Article 5(1)(f)), medical and safety reasons apart.

## Terms

The terms of the corpus follow the weights.
"""


def write_clip_card(bundle: Bundle, protocol: str, difference: float, result: FoldResult, *, seed: int) -> None:
    """Write `README.md` into the bundle's folder.

    Args:
        bundle: The finished bundle.
        protocol: Of the corpus, in one line.
        difference: Largest difference between ONNX Runtime and torch on real clips, at export.
        result: Of the fold's test clips.
        seed: Of the run.
    """
    manifest = bundle.manifest
    trained = "\n".join(f"| {c.name} | {c.used} | {c.licence} |" for c in manifest.trained)
    scores = "\n".join(
        f"| {s.corpus} | {s.split} | {s.modality} | {s.n} | {s.accuracy:.1%} | {s.uar:.1%} | {s.ece:.3f} |"
        for s in manifest.scores
    )
    recalls = "\n".join(
        f"| {label} | {sum(row)} | {f'{row[k] / sum(row):.1%}' if sum(row) else 'none'} |"
        for k, (label, row) in enumerate(zip(manifest.labels, result.confusion, strict=True))
    )
    stages = "\n".join(
        f"| {name} | {stage.per} | {', '.join(stage.takes.values())} |" for name, stage in manifest.stages.items()
    )
    size = sum((bundle.folder / stage.file).stat().st_size for stage in manifest.stages.values())
    chosen = "people held out of training" if result.calibrated_on == "valid" else "the clips that the scores are of"
    (bundle.folder / "README.md").write_text(
        f"# {manifest.name}\n\n"
        f"A recogniser of {', '.join(manifest.labels)} from clips.\n"
        f"Paper: {manifest.paper}. Differences from it are listed where the model is.\n"
        f"{size / 1e6:.1f} MB in {len(manifest.stages)} ONNX graphs; they agree with torch to {difference:.0e} on real "
        f"clips.\n\n"
        f"| graph | runs once a | takes |\n|---|---|---|\n{stages}\n\n"
        f"## Training\n\n    {manifest.command}\n\n"
        f"Seed {seed}. The run's folder keeps its settings, curve, time, versions and machine.\n\n"
        f"| corpus | clips | terms |\n|---|---|---|\n{trained}\n\n"
        f"## Scores\n\nProtocol: {protocol}. This bundle is that of one fold, and so are these figures; the\n"
        f"protocol's own is the mean over its folds. `uar` is the mean recall of the labels that occur, `ece` the\n"
        f"expected calibration error (15 bins), after the temperature, which was fitted on {chosen}.\n\n"
        f"| corpus | fold | from | n | accuracy | uar | ece |\n|---|---|---|---|---|---|---|\n{scores}\n\n"
        f"| label | clips | recall |\n|---|---|---|\n{recalls}\n\n{_LIMITS}"
    )
