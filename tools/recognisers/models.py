"""`emocast models`: what the bundles are."""

from rich.console import Console
from rich.table import Table

from engines.bundle import Manifest, load, shipped


def list_bundles() -> int:
    """A line for each shipped bundle. Returns the exit code."""
    table = Table("name", "labels", "needs", "size", "trained on", box=None, pad_edge=False)
    for name in shipped():
        bundle = load(name)
        manifest = bundle.manifest
        size = sum(bundle.stage(stage).stat().st_size for stage in manifest.stages)
        corpora = ", ".join(corpus.name for corpus in manifest.trained)
        table.add_row(name, str(len(manifest.labels)), " ".join(needs(manifest)), f"{size / 1e6:.1f} MB", corpora)
    Console().print(table)
    return 0


def needs(manifest: Manifest) -> list[str]:
    """What a recogniser takes of a stream, in words."""
    taken = {source for stage in manifest.stages.values() for source in stage.takes.values()}
    if manifest.clip is None:
        return ["face", "voice"]
    words = {"crop": "picture" if manifest.face.align == "frame" else "face", "waveform": "voice", "pose": "pose"}
    found = [word for source, word in words.items() if source in taken]
    return found + ([f"{manifest.flow} flow"] if manifest.flow != "none" else [])


def _windows(manifest: Manifest) -> str:
    scheme, clip = manifest.scheme, manifest.clip
    if clip is None:
        return f"each {scheme.segment_s:g} s, sum of {scheme.n_segments}, {' or '.join(scheme.alignments)}"
    chunks = f", sound in chunks of {clip.chunk_s:g} s" if clip.chunk_s else ""
    return (
        f"each {scheme.segment_s:g} s, the last {clip.span_s:g} s: {clip.n_frames} pictures at {clip.frame_hz:g} a "
        f"second{chunks}"
    )


def show_bundle(name: str) -> int:
    """All that a bundle says of itself. Returns the exit code.

    Raises:
        BundleError: If there is none of that name or folder, or it is not valid.
    """
    bundle = load(name)
    manifest, console = bundle.manifest, Console(soft_wrap=True, highlight=False)
    face, audio = manifest.face, manifest.audio
    facts = {
        "name": manifest.name,
        "paper": manifest.paper,
        "labels": ", ".join(manifest.labels),
        "needs": ", ".join(needs(manifest)),
        "face": f"{face.size_px} x {face.size_px} px, {face.colour}, aligned by {face.align}",
        "voice": f"{audio.n_samples} samples at {audio.rate_hz} Hz, silent under {audio.silence_dbfs:g} dBFS",
        "windows": _windows(manifest),
        "graphs": ", ".join(
            f"{name} ({stage.per})" if manifest.clip else name for name, stage in manifest.stages.items()
        ),
        "abstains": f"under a confidence of {manifest.min_confidence:g}",
        "temperature": f"face {manifest.temperature.face:.3g}, voice {manifest.temperature.voice:.3g}, "
        f"both {manifest.temperature.both:.3g}",
        "sha256": bundle.sha256,
        "folder": str(bundle.folder),
        "made by": manifest.command,
    }
    for key, value in facts.items():
        console.print(f"[bold]{key:12}[/bold] {value}")
    trained = Table("corpus", "people", "terms", box=None, pad_edge=False, title="Trained on", title_justify="left")
    for corpus in manifest.trained:
        trained.add_row(corpus.name, corpus.used, corpus.licence)
    columns = ("corpus", "split", "from", "n", "accuracy", "uar", "ece", "protocol")
    scores = Table(*columns, box=None, pad_edge=False, title="Measured", title_justify="left")
    for s in manifest.scores:
        numbers = (f"{s.accuracy:.1%}", f"{s.uar:.1%}", f"{s.ece:.3f}")
        scores.add_row(s.corpus, s.split, s.modality, str(s.n), *numbers, s.protocol)
    for table in (trained, scores):
        console.print()
        console.print(table)
    return 0
