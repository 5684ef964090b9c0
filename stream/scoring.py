"""Scoring: windows to posteriors, by the three graphs of a bundle. The thread that calls it owns the engines."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from engines.bundle import PAIR_STAGES, Bundle
from engines.engine import Engine, EngineError
from engines.select import Engines
from stream.records import Score, Window

# What a window was scored from decides its graph, and its weight and temperature in the aggregation.
FACE, VOICE, BOTH = "face", "voice", "both"


def modality(window: Window) -> str | None:
    """`face`, `voice`, `both`, or None where there is nothing to score."""
    if window.face is not None:
        return BOTH if window.waveform is not None else FACE
    return VOICE if window.waveform is not None else None


class WindowScorer(Protocol):
    """What scores the windows of a hop; used with `with`. The thread that calls it owns the engines.

    Attributes:
        last_ms: How long the last call took.
    """

    last_ms: float

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def score(self, windows: Sequence[Window]) -> list[Score]:
        """One score for each window, in their order."""


class Scorer:
    """Runs a bundle's frame encoder, audio encoder and head on the windows of one hop.

    A missing modality is scored by the other's own output, never by zeros in its place. Each graph runs once a hop,
    on all persons together; a voice that several windows share is encoded once.

    Args:
        bundle: The recogniser.
        engines: What runs its graphs.

    Raises:
        EngineError: If a graph cannot be loaded, or does not fit what `bundle.json` says.
    """

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        self._frame, self._audio, self._head = (engines.open(bundle, stage) for stage in PAIR_STAGES)
        self._check(bundle)
        self.last_ms = 0.0

    def _check(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        size_px, n_labels = manifest.face.size_px, len(manifest.labels)
        wanted = [
            (self._frame.inputs, "crop", "uint8", (size_px, size_px, 3)),
            (self._audio.inputs, "waveform", "float32", (manifest.audio.n_samples,)),
            *(
                (engine.outputs, "posterior", "float32", (n_labels,))
                for engine in (self._frame, self._audio, self._head)
            ),
        ]
        for specs, name, dtype, shape in wanted:
            if not any(s.name == name and s.dtype == dtype and s.shape[1:] == shape for s in specs):
                raise EngineError(
                    f"{bundle.folder}: by its bundle.json a graph should have {name} {dtype} (batch, "
                    f"{', '.join(map(str, shape))}), it has {'; '.join(map(str, specs))}; export the bundle again"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for engine in (self._frame, self._audio, self._head):
            engine.close()

    def score(self, windows: Sequence[Window]) -> list[Score]:
        """One score for each window, in their order. `last_ms` then holds how long the engines took."""
        began = time.perf_counter()
        crops = [w.face.crop for w in windows if w.face is not None]
        faces = self._encode(self._frame, "crop", crops)
        waves = {id(w.waveform): w.waveform for w in windows if w.waveform is not None}
        voices = self._encode(self._audio, "waveform", list(waves.values()))
        face_row = {id(w): row for row, w in enumerate(w for w in windows if w.face is not None)}
        voice_row = {key: row for row, key in enumerate(waves)}
        both = [w for w in windows if modality(w) == BOTH]
        joint = self._join(
            [faces["features"][face_row[id(w)]] for w in both],
            [voices["features"][voice_row[id(w.waveform)]] for w in both],
        )
        joint_row = {id(w): row for row, w in enumerate(both)}
        self.last_ms = (time.perf_counter() - began) * 1e3

        def posterior(window: Window) -> tuple[np.ndarray | None, dict[str, float]]:
            match modality(window):
                case "both":
                    return joint[joint_row[id(window)]], {FACE: 0.5, VOICE: 0.5}
                case "face":
                    return faces["posterior"][face_row[id(window)]], {FACE: 1.0, VOICE: 0.0}
                case "voice":
                    return voices["posterior"][voice_row[id(window.waveform)]], {FACE: 0.0, VOICE: 1.0}
                case _:
                    return None, {FACE: 0.0, VOICE: 0.0}

        scored = [(window, *posterior(window)) for window in windows]
        return [Score(window=window, posterior=values, weights=weights) for window, values, weights in scored]

    def _encode(self, engine: Engine, name: str, items: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return engine.run({name: np.stack(items)}) if items else {}

    def _join(self, faces: Sequence[np.ndarray], voices: Sequence[np.ndarray]) -> np.ndarray:
        if not faces:
            return np.empty((0, 0), dtype=np.float32)
        return self._head.run({"face": np.stack(faces), "voice": np.stack(voices)})["posterior"]
