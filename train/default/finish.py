"""The last stage of the default recipe: export, calibrate, measure, and write the bundle with its model card."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from engines.bundle import (
    AudioInput,
    Bundle,
    Corpus,
    FaceInput,
    Manifest,
    Measured,
    PerModality,
    Scheme,
    Stage,
    load,
)
from stream.config import window_scheme
from stream.windows import WindowScheme
from train import voices as speech
from train.corpora import ferplus
from train.corpora.items import Faces
from train.default.card import write_card
from train.evaluate import Encoded, Recogniser, Spoken, evaluate, match, score_faces, score_pairs, score_voices
from train.export import export
from train.metrics import Metrics, fit_temperature
from train.models.temporal import LABELS, AudioVisualNetwork, TemporalConfig
from train.voices import Voices

# Where the eyes of the FER+ training pictures lie, measured with the detector that the stream uses: medians over
# 1,500 pictures, enlarged fourfold with a border. A crop cut so shows the network what it was trained on.
EYE_DISTANCE, EYE_HEIGHT = 0.365, 0.40
MIN_CONFIDENCE = 0.4
PAPER = "Birhala et al., Temporal aggregation of audio-visual modalities for emotion recognition, 2020"
CORPORA = {
    "ferplus": Corpus(
        name="FER+", licence="labels MIT; FER2013 pictures for research use", used="train split; valid to measure"
    ),
    "ravdess": Corpus(name="RAVDESS", licence="CC BY-NC-SA 4.0", used="actors 01-16; 17-20 to measure"),
    "emodb": Corpus(name="EmoDB", licence="research use", used="speakers 03 08 09 10 11 13; 12 14 to measure"),
    "nemo": Corpus(name="nEMO", licence="CC BY-NC-SA 4.0", used="speakers WR0 MP0 IC0 KD0 TP0; KS0 MK0 to measure"),
    "cremad": Corpus(name="CREMA-D", licence="ODbL 1.0", used="actors 1001-1073; 1074-1082 to measure"),
}
STAGES = ("frame_encoder", "audio_encoder", "head")


def finish(
    network: AudioVisualNetwork,
    ferplus_dir: Path,
    spoken: list[tuple[str, Path]],
    out: Path,
    *,
    seed: int,
    epochs: int | None = None,
) -> None:
    """Write the bundle of a trained network to `out`, with temperatures and scores of people it was not trained on.

    Temperatures are fitted on the `valid` people, one number for each modality, and the scores are of the same people.

    Args:
        network: Trained.
        ferplus_dir: FER+.
        spoken: Speech corpora, name and folder.
        out: The bundle's folder.
        seed: That the run had: it is part of the command that the bundle states.
        epochs: That the run had in place of the recipe's own, where it had.

    Raises:
        ValueError: If a graph departs from torch.
    """
    out.mkdir(parents=True, exist_ok=True)
    faces, voices = ferplus.read(ferplus_dir, "valid"), speech.load(spoken, "valid")
    waves = np.concatenate(
        [
            speech.windows_of(samples, utterance.name, WindowScheme(), seed)[:2]
            for samples, utterance in zip(voices.samples[:16], voices.utterances[:16], strict=True)
        ]
    )
    n_checked = min(len(waves), len(faces.images))
    crops = np.repeat(faces.images[:n_checked, ..., None], 3, axis=3)
    difference = export(network, out, crops, waves[:n_checked])
    options = f"{f' --seed {seed}' if seed else ''}{f' --epochs {epochs}' if epochs else ''}"
    bundle = measured(out, _manifest(out, spoken, options), ferplus_dir, spoken, seed=seed)
    write_card(
        bundle,
        f"they agree with torch to {difference:.0e} on real inputs",
        f"Seed {seed}. The run's folder keeps each stage's settings, curve and time.",
    )


def measured(out: Path, draft: Manifest, ferplus_dir: Path, spoken: list[tuple[str, Path]], *, seed: int) -> Bundle:
    """Write `bundle.json` beside graphs that are there, with temperatures, scores and fusion weights of these people.

    Args:
        out: The bundle's folder, with its graphs.
        draft: What is neither calibrated nor measured yet.
        ferplus_dir: FER+, whose `valid` pictures are taken.
        spoken: Speech corpora, name and folder, whose `valid` speakers are taken.
        seed: Of the windows and pairs.
    """
    bundle = _write(out, draft)
    faces, voices = ferplus.read(ferplus_dir, "valid"), speech.load(spoken, "valid")
    heat = _temperatures(bundle, faces, voices, seed)
    bundle = _write(out, msgspec.structs.replace(draft, temperature=heat))
    scores = _scores(bundle, ferplus_dir, spoken, seed)
    fusion = _fusion(scores)
    return _write(out, msgspec.structs.replace(draft, temperature=heat, scores=scores, fusion=fusion))


def stages(out: Path) -> dict[str, Stage]:
    """The `stages` of `bundle.json` for the three graphs that lie in `out`."""
    paths = {name: out / f"{name}.onnx" for name in STAGES}
    return {
        name: Stage(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for name, path in paths.items()
    }


def _manifest(out: Path, spoken: list[tuple[str, Path]], options: str) -> Manifest:
    # Not yet calibrated nor measured.
    config = TemporalConfig()
    names = ("ferplus", *(name for name, _ in spoken))
    return Manifest(
        format=1,
        name="default",
        paper=PAPER,
        labels=LABELS,
        face=FaceInput(size_px=config.crop_px, align="eyes", eye_distance=EYE_DISTANCE, eye_height=EYE_HEIGHT),
        audio=AudioInput(
            rate_hz=16_000,
            n_samples=config.n_samples,
            silence_dbfs=speech.SILENCE_DBFS,
            min_coverage=speech.MIN_COVERAGE,
        ),
        scheme=Scheme(segment_s=0.25, audio_s=1.28, jitter_s=0.01, n_segments=10, alignments=("centered", "causal")),
        stages=stages(out),
        fusion=PerModality(face=1.0, voice=1.0, both=1.0),
        temperature=PerModality(face=1.0, voice=1.0, both=1.0),
        min_confidence=MIN_CONFIDENCE,
        trained=tuple(CORPORA[name] for name in names),
        command="emocast train default " + " ".join(f"--data {name}=DIR" for name in names) + options,
        scores=(),
    )


def _write(out: Path, manifest: Manifest) -> Bundle:
    (out / "bundle.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return load(out)


def _temperatures(bundle: Bundle, faces: Faces, voices: Voices, seed: int) -> PerModality:
    recogniser = Recogniser(bundle)
    encoded = score_faces(recogniser, faces)
    spoken = score_voices(recogniser, voices, window_scheme(bundle, None), seed)
    return PerModality(
        face=fit_temperature(encoded.posterior, faces.majority),
        voice=_voice_temperature(spoken),
        both=_pair_temperature(recogniser, faces, encoded, spoken, seed),
    )


def _voice_temperature(spoken: Sequence[Spoken]) -> float:
    return fit_temperature(np.stack([s.posterior for s in spoken]), np.array([s.label for s in spoken]))


def _pair_temperature(
    recogniser: Recogniser, faces: Faces, encoded: Encoded, spoken: Sequence[Spoken], seed: int
) -> float:
    pairs = match(faces.majority, spoken, seed)
    labels = faces.majority[[face for face, _ in pairs]]
    return fit_temperature(score_pairs(recogniser, encoded, spoken, pairs), labels)


def _scores(bundle: Bundle, ferplus_dir: Path, spoken: list[tuple[str, Path]], seed: int) -> tuple[Measured, ...]:
    faces = [("ferplus", ferplus_dir)]
    seen = evaluate(bundle, faces=faces, split="valid", seed=seed)
    heard = evaluate(bundle, voices=spoken, split="valid", seed=seed)
    paired = evaluate(bundle, faces=faces, voices=spoken, split="valid", seed=seed)
    rows = [_measured("ferplus", "face", "one picture, majority vote over seven labels", seen["face"])]
    whole = "whole utterance from its 1.28 s windows, speakers not trained on"
    rows += [_measured(name, "voice", whole, heard[name]) for name, _ in spoken]
    if len(spoken) > 1:
        rows.append(_measured("all of these", "voice", whole, heard["voice"]))
    for modality in ("both", "face", "voice"):
        rows.append(
            _measured("class-matched pairs", modality, "a face and an utterance of one label", paired[modality])
        )
    return tuple(rows)


def _fusion(scores: Sequence[Measured]) -> PerModality:
    """Weights in the rolling sum: how often each modality is right beyond chance, the face's being 1."""
    chance = 1.0 / len(LABELS)

    def beyond(modality: str) -> float:
        own = [s for s in scores if s.modality == modality and (modality == "both" or s.corpus in CORPORA)]
        return float(np.mean([s.accuracy for s in own])) - chance

    floor = 0.05  # a trial run may be no better than chance; a weight must be positive
    face, voice, both = (max(floor, beyond(modality)) for modality in ("face", "voice", "both"))
    return PerModality(face=1.0, voice=round(voice / face, 3), both=round(both / face, 3))


def _measured(corpus: str, modality: str, protocol: str, metrics: Metrics) -> Measured:
    return Measured(
        corpus=corpus,
        split="valid",
        modality=modality,  # type: ignore[arg-type]
        protocol=protocol,
        n=metrics.n,
        accuracy=round(metrics.accuracy, 4),
        uar=round(metrics.uar, 4),
        ece=round(metrics.ece, 4),
    )
