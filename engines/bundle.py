"""A bundle: a folder with `bundle.json` and the ONNX graphs of one recogniser, validated when it is loaded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SHIPPED = Path(__file__).parent / "bundles"

Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
RAW = ("crop", "flow", "pose", "waveform")  # what a stage of a clip recogniser can take
PAIR_STAGES = ("frame_encoder", "audio_encoder", "head")
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class BundleError(ValueError):
    """A bundle that cannot be used; the text says what was expected, what came and what to do."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class FaceInput(_Part, frozen=True, kw_only=True):
    """How a face is cut from a frame.

    Attributes:
        size_px: Side of the square crop.
        align: `eyes` turns and scales the face by its eyes; `box` takes the detector's box and a margin; `frame` takes
            no face but the largest square in the middle of the picture.
        eye_distance: With `eyes`: distance of the eyes, as a fraction of the side.
        eye_height: With `eyes`: the eyes' distance from the top, as a fraction of the side.
        margin: With `box`: share of the box's larger side that is added on each side.
        fallback: What stands in where a picture shows no face: `none`, or the whole `frame` as with `align="frame"`.
        colour: Channel order of the crop.
    """

    size_px: Annotated[int, Meta(ge=16, le=1024)]
    align: Literal["eyes", "box", "frame"]
    eye_distance: Fraction = 0.4
    eye_height: Fraction = 0.4
    margin: Annotated[float, Meta(ge=0, le=2)] = 0.0
    fallback: Literal["none", "frame"] = "none"
    colour: Literal["rgb"] = "rgb"


class AudioInput(_Part, frozen=True, kw_only=True):
    """What an audio window is, and when it holds no voice.

    Attributes:
        rate_hz: Sample rate, mono.
        n_samples: Length of the window.
        silence_dbfs: A window whose loudest 50 ms are quieter than this is silence.
        min_coverage: Smallest captured part of a window that is scored; the rest of it is zeros, as in training.
    """

    rate_hz: Literal[16000]
    n_samples: Annotated[int, Meta(gt=0)]
    silence_dbfs: float
    min_coverage: Fraction


class Scheme(_Part, frozen=True, kw_only=True):
    """The window scheme that the recogniser was trained with; the first alignment is the default for files."""

    segment_s: Positive
    audio_s: Positive
    jitter_s: Annotated[float, Meta(ge=0)]
    n_segments: Annotated[int, Meta(gt=0)]
    alignments: Annotated[tuple[Literal["centered", "causal"], ...], Meta(min_length=1)]


class ClipInput(_Part, frozen=True, kw_only=True):
    """The window of a recogniser that looks at a whole clip; it ends where a segment of `scheme` ends.

    Attributes:
        frame_hz: Pictures taken for each second, the first of each 1 / frame_hz.
        n_frames: Pictures given to the recogniser, spread evenly over those that the window holds.
        span_s: Length of the window.
        chunk_s: Length of the audio chunks of stages that run once a chunk; chunks begin at its multiples.
    """

    frame_hz: Annotated[float, Meta(gt=0, le=120)]
    n_frames: Annotated[int, Meta(gt=0, le=1000)]
    span_s: Positive
    chunk_s: Positive | None = None


class Stage(_Part, frozen=True, kw_only=True):
    """One graph.

    Attributes:
        file: Its file within the bundle.
        sha256: Of that file.
        per: Clip recognisers: whether it runs once for each new `frame`, audio `chunk`, or for each `window`.
        takes: Clip recognisers: each input tensor's source. `crop` (S, S, 3) uint8, `flow` (S, S, 2) float32, `pose`
            (33, 3) float32 and `waveform` (T,) float32 are raw; `<stage>.<tensor>` is another stage's output. A stage
            per window sees what is per frame, or per chunk, with an axis of `n_frames` after the batch's.
    """

    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+\.onnx$")]
    sha256: Sha256
    per: Literal["frame", "chunk", "window"] = "window"
    takes: dict[str, str] = {}


class PerModality(_Part, frozen=True, kw_only=True):
    """One number for windows scored by the face alone, the voice alone, and both."""

    face: Positive
    voice: Positive
    both: Positive


class Corpus(_Part, frozen=True, kw_only=True):
    """A training corpus, its terms, and which people of it were learned from."""

    name: str
    licence: str
    used: str


class Measured(_Part, frozen=True, kw_only=True):
    """One measured score: `accuracy`, `uar` (unweighted average recall) and `ece` are fractions."""

    corpus: str
    split: str
    modality: Literal["face", "voice", "both"]
    protocol: str
    n: Annotated[int, Meta(gt=0)]
    accuracy: Fraction
    uar: Fraction
    ece: Fraction


class Manifest(_Part, frozen=True, kw_only=True):
    """`bundle.json`.

    Attributes:
        format: Version of this format.
        name: Name of the recogniser: letters, digits, `-` and `_`.
        paper: What it is built from.
        labels: Order of the posterior.
        face: Geometry of its crops.
        audio: Its audio windows.
        scheme: Its window scheme.
        clip: Its window, where it looks at a whole clip and not at (frame, audio window) pairs.
        pose: Whether it needs body pose.
        flow: Which optical flow it needs.
        stages: The graphs: `frame_encoder`, `audio_encoder` and `head` of a recogniser of pairs; a clip recogniser
            names its own.
        posteriors: Clip recognisers: the `<stage>.<tensor>` that is the posterior where a window has `both` modalities,
            and where it has the `face` or the `voice` alone, if it can tell anything then.
        fusion: Weight of a window in the rolling sum, by the modalities it was scored from.
        temperature: Calibration of the summed posterior, by modality; 1 leaves it as it is.
        min_confidence: Below it an estimate abstains as `uncertain`.
        trained: Training corpora and their terms.
        command: The one command that reproduces it.
        scores: What was measured, with its protocol.
    """

    format: Literal[1]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$")]
    paper: str
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    face: FaceInput
    audio: AudioInput
    scheme: Scheme
    clip: ClipInput | None = None
    pose: bool = False
    flow: Literal["none", "lucas-kanade", "farneback", "dis"] = "none"
    stages: dict[Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")], Stage]
    posteriors: dict[Literal["both", "face", "voice"], str] = {}
    fusion: PerModality
    temperature: PerModality
    min_confidence: Fraction
    trained: tuple[Corpus, ...]
    command: str
    scores: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle: its folder, its manifest, and the SHA-256 of `bundle.json`, which names every stage's."""

    folder: Path
    manifest: Manifest
    sha256: str

    @property
    def shipped(self) -> bool:
        """Whether it came with emocast, and goes by its name."""
        return self.folder.parent == SHIPPED

    def stage(self, name: str) -> Path:
        """Path of a stage's graph."""
        return self.folder / self.manifest.stages[name].file


def shipped() -> list[str]:
    """Names of the bundles that come with emocast."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/bundle.json"))


def load(name_or_folder: str | Path) -> Bundle:
    """Load and validate a shipped bundle by name, or any by its folder.

    Raises:
        BundleError: If there is none, its manifest is not valid, or a stage is missing or has another hash.
    """
    folder = Path(name_or_folder)
    if str(name_or_folder) in shipped():
        folder = SHIPPED / str(name_or_folder)
    path = folder / "bundle.json"
    if not path.is_file():
        raise BundleError(
            f"expected a bundle folder or one of {', '.join(shipped()) or '(none shipped)'}, got "
            f"{name_or_folder!s}, which holds no bundle.json"
        )
    raw = path.read_bytes()
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is not a valid bundle: {error}") from error
    _check(folder, manifest)
    return Bundle(folder=folder, manifest=manifest, sha256=hashlib.sha256(raw).hexdigest())


def _check(folder: Path, manifest: Manifest) -> None:
    if len(set(manifest.labels)) < len(manifest.labels):
        raise BundleError(f"{folder}: expected labels that differ, got {', '.join(manifest.labels)}")
    n_samples = manifest.scheme.audio_s * manifest.audio.rate_hz
    if abs(n_samples - manifest.audio.n_samples) > 1e-6 * n_samples:
        raise BundleError(
            f"{folder}: scheme.audio_s is {n_samples:g} samples, audio.n_samples {manifest.audio.n_samples}"
        )
    if manifest.clip is not None:
        _check_clip(folder, manifest)
    elif set(manifest.stages) != set(PAIR_STAGES):
        raise BundleError(
            f"{folder}: expected the stages {', '.join(PAIR_STAGES)}, got {', '.join(manifest.stages) or 'none'}"
        )
    for name, stage in manifest.stages.items():
        path = folder / stage.file
        if not path.is_file():
            raise BundleError(f"{folder}: stage {name} names {stage.file}, which is not there; copy the whole folder")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != stage.sha256:
            raise BundleError(
                f"{path} has SHA-256 {found[:16]}..., bundle.json says {stage.sha256[:16]}...; "
                "the file was changed or damaged: install or export the bundle again"
            )


def _check_clip(folder: Path, manifest: Manifest) -> None:
    wrong = []
    for name, stage in manifest.stages.items():
        if not stage.takes:
            wrong.append(f"stage {name} takes nothing")
        for source in stage.takes.values():
            before = manifest.stages.get(source.split(".")[0])
            if source in RAW:
                chunked = stage.per == "chunk" and source == "waveform" and manifest.clip and manifest.clip.chunk_s
                if stage.per != "window" and (source == "waveform") != (stage.per == "chunk"):
                    wrong.append(f"stage {name} runs once a {stage.per} and cannot take {source}")
                elif stage.per == "chunk" and not chunked:
                    wrong.append(f"stage {name} runs once a chunk, and clip.chunk_s is missing")
            elif before is None or "." not in source or source.split(".")[0] == name:
                wrong.append(f"stage {name} takes {source}, which is neither of {', '.join(RAW)} nor another's output")
            elif stage.per != "window":
                wrong.append(f"stage {name} runs once a {stage.per} and can take raw input alone, not {source}")
    if not manifest.posteriors:
        wrong.append("no posterior is named")
    wrong += [f"posterior {k} is {v}" for k, v in manifest.posteriors.items() if v.split(".")[0] not in manifest.stages]
    taken = {source for stage in manifest.stages.values() for source in stage.takes.values()}
    if ("flow" in taken) != (manifest.flow != "none") or ("pose" in taken) != manifest.pose:
        wrong.append(f"flow is {manifest.flow} and pose {manifest.pose}, the stages take {', '.join(sorted(taken))}")
    if wrong:
        raise BundleError(f"{folder}: its bundle.json does not fit together: {'; '.join(wrong)}; export it again")
