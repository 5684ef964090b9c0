"""The static 8-bit variant of the shipped `default`: `emocast train default-int8`.

The residual stages of both encoders compute in 8-bit integers: weights signed and scaled per channel, what flows
between them unsigned, scales from pictures and windows of people that the weights were trained on. Front ends, stems
(1 or 2 channels wide, where float32 is faster), pooling, heads and softmax stay float32.

`SPEED` is in the card too. Signed activations were no faster than float32 (0.8 to 1.1 times). Weights have 7 bits, so
that sums of two products fit 16 bits: a CPU without VNNI, which adds them so, computes the same. 8 bits were neither
more accurate nor faster.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from engines.bundle import Bundle, load
from engines.onnx_runtime import OnnxEngine
from train import voices as speech
from train.corpora import ferplus
from train.corpora.items import CorpusError
from train.default.card import write_card
from train.default.finish import measured, stages
from train.default.learners import SCHEMES, balanced

NAME = "default-int8"
SPEED = (
    "At batch 1 on one or two threads of an AMD EPYC (family 25, AVX512-VNNI) the frame encoder took 0.28 to 0.31 of\n"
    "the time of `default`'s, the audio encoder 0.43 to 0.47. "
    "On a CPU without 8-bit dot products it may gain nothing;\n"
    "its activations are unsigned, which TensorRT does not take: on a GPU use `default`."
)
N_CALIBRATION = 512  # pictures, and windows
BATCH = 16
KINDS = ("Conv", "Add", "Relu")
POOLING = "ReduceMean"


def train_int8(
    data: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    stage: str | None = None,
    epochs: int | None = None,
    precision: str | None = None,
    threads: int = 2,
) -> Path:
    """Make the 8-bit variant of `default`, and calibrate and measure it as that was.

    Args:
        data: Corpus name to folder: `ferplus` and at least one of the speech corpora that `default` learned from.
        out: The run's folder.
        seed: Of the pictures and windows that scales are taken from, and of the measurement.
        stage: Must be None: there is one.
        epochs: Must be None: nothing is learned.
        precision: Of no use here.
        threads: Of no use here.

    Returns:
        The bundle's folder.

    Raises:
        CorpusError: If a corpus is missing or not in its layout.
        ValueError: If a stage or epochs are given.
    """
    if stage is not None or epochs is not None:
        raise ValueError(
            f"expected no --stage and no --epochs: {NAME} has one stage and learns nothing; leave them out"
        )
    spoken = [(name, folder) for name, folder in data.items() if name in speech.READERS]
    if "ferplus" not in data or not spoken or len(spoken) + 1 != len(data):
        raise CorpusError(
            f"expected --data ferplus=DIR and one or more of {', '.join(f'{n}=DIR' for n in speech.READERS)}, "
            f"got {', '.join(data) or 'nothing'}"
        )
    base, folder = load("default"), out / "bundle"
    folder.mkdir(parents=True, exist_ok=True)
    crops, waves = calibration_crops(data["ferplus"], seed), calibration_waves(spoken, seed)
    quantise(base.stage("frame_encoder"), folder / "frame_encoder.onnx", {"crop": crops})
    quantise(base.stage("audio_encoder"), folder / "audio_encoder.onnx", {"waveform": waves})
    shutil.copyfile(base.stage("head"), folder / "head.onnx")
    names = " ".join(f"--data {name}=DIR" for name in ("ferplus", *(name for name, _ in spoken)))
    draft = msgspec.structs.replace(
        base.manifest,
        name=NAME,
        stages=stages(folder),
        command=f"emocast train {NAME} {names}{f' --seed {seed}' if seed else ''}",
        scores=(),
    )
    bundle = measured(folder, draft, data["ferplus"], spoken, seed=seed)
    _write_card(bundle, base, crops, waves, seed)
    return folder


def calibration_crops(ferplus_dir: Path, seed: int) -> np.ndarray:
    """Training pictures of FER+, rare labels more often: (`N_CALIBRATION`, size_px, size_px, 3) uint8."""
    faces = ferplus.read(ferplus_dir, "train")
    chosen = balanced(faces.majority, N_CALIBRATION, 0.5, seed)
    return np.repeat(faces.images[chosen, ..., None], 3, axis=3)


def calibration_waves(spoken: list[tuple[str, Path]], seed: int) -> np.ndarray:
    """Windows of training speakers, rare labels of each corpus more often: (`N_CALIBRATION`, n_samples) float32."""
    voices = speech.load(spoken, "train")
    group = np.array([f"{u.name.split('/')[0]}/{u.label}" for u in voices.utterances])
    chosen = balanced(group, N_CALIBRATION, 0.5, seed)
    return speech.random_windows(voices, list(chosen), SCHEMES, seed, SCHEMES[0].n_samples(speech.RATE_HZ))


def quantise(encoder: Path, path: Path, inputs: Mapping[str, np.ndarray]) -> None:
    """Write an encoder whose residual stages compute in 8 bits.

    Args:
        encoder: File of one in float32.
        path: The file to write.
        inputs: Its input's name and what scales are taken from, (n, ...).
    """
    quant_pre_process(encoder, path, skip_optimization=True, skip_symbolic_shape=True)
    quantize_static(
        path,
        path,
        _Batches(inputs),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(KINDS),
        nodes_to_quantize=residual_stages(onnx.load(encoder).graph),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )


def residual_stages(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from behind the stem to the pooling."""
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    pictures = [k for k, n in enumerate(graph.node) if n.op_type == "Conv" and len(weights[n.input[1]]) == 4]
    after = [k for k, node in enumerate(graph.node) if node.op_type == POOLING and k > pictures[-1]]
    return [node.name for node in graph.node[pictures[1] : after[0]] if node.op_type in KINDS]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Mapping[str, np.ndarray]) -> None:
        ((name, items),) = inputs.items()
        self._feeds = iter([{name: items[at : at + BATCH]} for at in range(0, len(items), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _write_card(bundle: Bundle, base: Bundle, crops: np.ndarray, waves: np.ndarray, seed: int) -> None:
    gaps = []
    for stage, name, items in (("frame_encoder", "crop", crops), ("audio_encoder", "waveform", waves)):
        one, two = (OnnxEngine(b.stage(stage)).run({name: items[:128]})["posterior"] for b in (bundle, base))
        gaps.append(np.abs(one - two).max(1))
    gap = np.concatenate(gaps)
    write_card(
        bundle,
        "the residual stages of both encoders compute in 8-bit integers.\n"
        f"On {len(gap)} real inputs the most that a label's probability moves from `{base.manifest.name}` is "
        f"{np.median(gap):.3f} (median), {gap.max():.2f} at worst",
        f"Seed {seed}. The weights are those of the shipped `{base.manifest.name}`, whose people these are; scales "
        f"were taken\nfrom {N_CALIBRATION} pictures and {N_CALIBRATION} windows of people that it was trained on.\n"
        f"{SPEED}",
    )
