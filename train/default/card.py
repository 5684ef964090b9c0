"""The model card of a bundle: what it is, what it was trained on, what was measured, what it is not for."""

from engines.bundle import Bundle

_LIMITS = """\
## Limits

- Trained on posed or web-found faces and on acted speech in English, German and Polish. People who express
  themselves otherwise, other languages, old recordings and children are not covered by any figure here.
- FER+ has no paired voices and the speech corpora no faces here: the head for both modalities was trained, and is
  measured, on class-matched pairs, a face and a voice of different people with the same label. Real people show and
  say different things at once, so that figure is an upper bound.
- The voice head takes any sound above its silence threshold for a voice: music, tones and noise get a label too.
- The n of class-matched pairs counts pictures: the same utterances are drawn again and again beside them.
- Disgust and fear are rare in FER+ and are recalled less often than the accuracy suggests; see `emocast evaluate`.
- Temperatures were fitted on the people that the scores are of, one number for each modality, and the recipe was
  settled while looking at these scores: no third group of people was held back.
- The posterior describes an expression as raters would name it. It is not a fact about what a person feels, and no
  ground for a decision about a person. In the European Union emotion recognition at work and in education is
  forbidden (AI Act, Article 5(1)(f)), medical and safety reasons apart.

## Terms

The terms of the corpora follow the weights: research and other non-commercial use, with attribution, shared alike.
"""


def write_card(bundle: Bundle, fidelity: str, training: str) -> None:
    """Write `README.md` into the bundle's folder.

    Args:
        bundle: The finished bundle.
        fidelity: How near the graphs are to what they were made from, as the end of a sentence about them.
        training: What is to be said of the command that made it, its seed first.
    """
    manifest = bundle.manifest
    trained = "\n".join(f"| {c.name} | {c.used} | {c.licence} |" for c in manifest.trained)
    scores = "\n".join(
        f"| {s.corpus} | {s.modality} | {s.protocol} | {s.n} | {s.accuracy:.1%} | {s.uar:.1%} | {s.ece:.3f} |"
        for s in manifest.scores
    )
    size = sum(path.stat().st_size for path in bundle.folder.glob("*.onnx"))
    (bundle.folder / "README.md").write_text(
        f"# {manifest.name}\n\n"
        f"A recogniser of {', '.join(manifest.labels)} from a face, a voice or both.\n"
        f"Scheme: {manifest.paper}. Differences from it are listed in `train/models/temporal.py`.\n"
        f"{size / 1e6:.1f} MB in three ONNX graphs; {fidelity}.\n\n"
        f"## Training\n\n    {manifest.command}\n\n"
        f"{training}\n\n"
        f"| corpus | people | terms |\n|---|---|---|\n{trained}\n\n"
        f"## Scores\n\nSplit `valid`: people that no weight was trained on. `uar` is the mean recall of the\n"
        f"labels that occur, `ece` the expected calibration error (15 bins).\n\n"
        f"| corpus | from | protocol | n | accuracy | uar | ece |\n|---|---|---|---|---|---|---|\n{scores}\n\n{_LIMITS}"
    )
