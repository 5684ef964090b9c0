"""Real inputs for every graph of every bundle: what an engine is held against its reference on, and timed with.

A face in eight expressions, its optical flow, its pose, and seven seconds of a reading voice ship with emocast and are
cut to what a graph takes. Graphs that take another graph's output get it from ONNX Runtime.
"""

from functools import cache
from pathlib import Path

import numpy as np

from engines.bundle import PAIR_STAGES, RAW, Bundle
from engines.engine import Engine, EngineError, TensorSpec
from engines.onnx_runtime import OnnxEngine

SAMPLES = Path(__file__).parent / "assets" / "samples.npz"  # made by tools/engine/samples.py
RATE_HZ = 16_000
FLOW_UNIT_PX = 1 / 16
PAIR_TAKES = {  # of a bundle of pairs, whose manifest need not say it
    "frame_encoder": {"crop": "crop"},
    "audio_encoder": {"waveform": "waveform"},
    "head": {"face": "frame_encoder.features", "voice": "audio_encoder.features"},
}


class Samples:
    """Feeds for the graphs of one bundle; the same bundle and sizes give the same feeds.

    Used with `with`: it keeps an ONNX Runtime session for each graph whose outputs another graph takes.

    Args:
        bundle: The recogniser.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._engines: dict[str, Engine] = {}
        self._before: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}  # outputs that several stages take

    def __enter__(self) -> "Samples":
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def feeds(self, stage: str, n: int, *, first: int = 0) -> dict[str, np.ndarray]:
        """Inputs of a graph by tensor, (n, ...) each, as its declared dtypes and shapes ask.

        Args:
            stage: Of the bundle.
            n: Batch.
            first: Number of the first item; another number gives other pictures and another stretch of the voice.

        Raises:
            EngineError: If a tensor is of a kind that no sample can be cut to.
        """
        takes = takes_of(self._bundle, stage)
        specs = {spec.name: spec for spec in self._engine(stage).inputs}
        if set(takes) != set(specs):
            raise EngineError(
                f"{self._bundle.folder}: by its bundle.json stage {stage} takes {sorted(takes)}, its graph has "
                f"{sorted(specs)}; export the bundle again"
            )
        return {tensor: self._array(source, specs[tensor], n, first) for tensor, source in takes.items()}

    def _array(self, source: str, spec: TensorSpec, n: int, first: int) -> np.ndarray:
        shape = (n, *spec.shape[1:])
        if source in RAW:
            return raw(source, shape, first=first)
        before, tensor = source.split(".", 1)
        stage = self._bundle.manifest.stages[before]
        manifest = self._bundle.manifest
        if manifest.clip is None or stage.per == "window":
            return self._outputs(before, n, first)[tensor]
        # What is computed once a frame or chunk comes with an axis of frames: encode as many as there are samples,
        # and spread them over it.
        kept = self._outputs(before, _n_distinct(), first)[tensor]
        steps = int(spec.shape[1])
        picked = (np.arange(n)[:, None] + np.arange(steps)[None, :] * len(kept) // steps) % len(kept)
        return np.ascontiguousarray(kept[picked])

    def _outputs(self, stage: str, n: int, first: int) -> dict[str, np.ndarray]:
        key = (stage, n, first)
        if key not in self._before:
            self._before[key] = self._engine(stage).run(self.feeds(stage, n, first=first))
        return self._before[key]

    def _engine(self, stage: str) -> Engine:
        if stage not in self._engines:
            self._engines[stage] = OnnxEngine(self._bundle.stage(stage))
        return self._engines[stage]


def takes_of(bundle: Bundle, stage: str) -> dict[str, str]:
    """Each input tensor's source of a stage, for bundles of pairs too."""
    pairs = bundle.manifest.clip is None and stage in PAIR_STAGES
    return PAIR_TAKES[stage] if pairs else dict(bundle.manifest.stages[stage].takes)


def raw(source: str, shape: tuple[int | str, ...], *, first: int = 0) -> np.ndarray:
    """Samples of a raw source cut to a shape.

    Args:
        source: `crop`, `flow`, `pose` or `waveform`.
        shape: (n, ..., S, S, 3) for `crop`, (n, ..., S, S, 2) for `flow`, (n, ..., 33, 3) for `pose`, (n, T) for
            `waveform`; the axes between are frames.
        first: Number of the first item.

    Raises:
        EngineError: If there is no such source, or a dimension is not fixed.
    """
    if source not in RAW or not all(isinstance(size, int) for size in shape):
        raise EngineError(f"expected {', '.join(RAW)} of a fixed shape, got {source} {shape}")
    sizes = tuple(int(size) for size in shape)
    if source == "waveform":
        wave = _stored()["waveform"].astype(np.float32) / 32767
        starts = ((np.arange(sizes[0]) + first) * 7919) % len(wave)  # a prime: no two stretches begin alike
        return np.asarray(wave[(starts[:, None] + np.arange(sizes[1])) % len(wave)])
    items = _stored()[source]
    n_items = int(np.prod(sizes[: len(sizes) - items.ndim + 1]))
    picked = (np.arange(n_items) + first) % len(items)
    distinct = items[np.arange(len(items)) if n_items > len(items) else picked]
    made = _resized(source, distinct, sizes[-3] if source != "pose" else 0)
    if n_items > len(items):
        made = made[picked]
    return np.ascontiguousarray(made.reshape(sizes))


def _n_distinct() -> int:
    return len(_stored()["crop"])


@cache
def _stored() -> dict[str, np.ndarray]:
    with np.load(SAMPLES) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _resized(source: str, items: np.ndarray, side_px: int) -> np.ndarray:
    if source == "pose":
        return items
    values = items.astype(np.float32) * (FLOW_UNIT_PX if source == "flow" else 1.0)
    for axis in (1, 2):
        values = _along(values, axis, side_px)
    if source == "flow":
        return np.asarray(values * np.float32(side_px / items.shape[1]))  # a shorter side moves by fewer pixels
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _along(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    # Linear interpolation between pixel centres; plain numpy, since engines depend on no picture library.
    there = values.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * there / size - 0.5, 0, there - 1)
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    high = np.minimum(low + 1, there - 1)
    return np.asarray(values.take(low, axis) * (1 - share) + values.take(high, axis) * share, np.float32)
