"""What the bundle of the three-stream recogniser says of its graphs and its window."""

from collections.abc import Mapping
from typing import Literal

from engines.bundle import AudioInput, ClipInput, FaceInput, Scheme
from stream.records import RATE_HZ
from train.models.skeleton import SkeletonConfig
from train.tasks.skeleton_steps import CHUNK_S, CHUNK_SAMPLES
from train.tasks.task import Exported, Graph

SILENCE_DBFS = -100.0  # of digital silence alone: any sound counts, however quiet
FRAME = Graph(file="visual.onnx", per="frame", takes={"crop": "crop"})
CHUNK = Graph(file="audio.onnx", per="chunk", takes={"waveform": "waveform"})


def describe(
    config: SkeletonConfig,
    stages: Mapping[str, Graph],
    face: FaceInput,
    *,
    n_steps: int,
    frame_hz: float,
    hop_s: float,
    difference: float,
) -> Exported:
    """The bundle's window is `n_steps` pictures at `frame_hz`, its waveform the sound of that time.

    The posterior needs every stream, and steps are pictures: a window without a picture has none, nor one without
    sound if there is an audio stream. Each window is decided by itself, as the paper decides a video.
    """
    heard = "audio" in config.streams
    posteriors: dict[Literal["both", "face", "voice"], str] = {"both": "head.posterior"}
    if not heard:
        posteriors["face"] = "head.posterior"
    span_s = n_steps / frame_hz
    n_samples = max(round(span_s * RATE_HZ), CHUNK_SAMPLES)
    return Exported(
        face=face,
        audio=AudioInput(
            rate_hz=16_000,
            n_samples=n_samples,
            silence_dbfs=SILENCE_DBFS,
            min_coverage=CHUNK_SAMPLES / n_samples,  # scored as soon as there is one chunk
        ),
        scheme=Scheme(segment_s=hop_s, audio_s=n_samples / RATE_HZ, jitter_s=0.0, n_segments=1, alignments=("causal",)),
        clip=ClipInput(frame_hz=frame_hz, n_frames=n_steps, span_s=span_s, chunk_s=CHUNK_S if heard else None),
        stages=stages,
        posteriors=posteriors,
        pose="skeleton" in config.streams,
        difference=difference,
    )
