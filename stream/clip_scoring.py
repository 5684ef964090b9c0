"""Scoring for recognisers that look at a whole clip: what a frame or an audio chunk gives is computed once and kept.

Stages that run once a frame or once a chunk see only what is new since the last hop; their outputs wait until the
frame or chunk has left every window. Stages that run once a window get these outputs stacked.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from engines.bundle import RAW, Bundle, ClipInput, Stage
from engines.engine import Engine, EngineError
from engines.select import Engines
from stream.clip_assembly import with_flow
from stream.records import Clip, Face, Score, Window
from stream.scoring import BOTH, FACE, VOICE, modality
from stream.windows import NS_PER_S, spread

WEIGHTS = {BOTH: {FACE: 0.5, VOICE: 0.5}, FACE: {FACE: 1.0, VOICE: 0.0}, VOICE: {FACE: 0.0, VOICE: 1.0}}
Rows = dict[str, np.ndarray]  # a stage's outputs for one item, by tensor


class ClipScorer:
    """Runs the stages of a clip bundle on the windows of one hop. The thread that calls it owns the engines.

    A window that lacks a modality is scored by the posterior that the bundle names for the other one alone; where it
    names none, the window has no posterior. Nothing stands in for what was not seen or heard.

    Args:
        bundle: The recogniser.
        engines: What runs its graphs.
        incremental: False forgets everything after each hop, so that each window is computed whole.

    Attributes:
        clip: The recogniser's window.
        stages: What the bundle says of its graphs.
        n_encoded: Frames and chunks computed so far: what sliding costs.

    Raises:
        EngineError: If a graph cannot be loaded, or does not fit what `bundle.json` says.
    """

    def __init__(self, bundle: Bundle, engines: Engines, *, incremental: bool = True) -> None:
        manifest = bundle.manifest
        if manifest.clip is None:
            raise EngineError(f"{bundle.folder}: expected a clip recogniser, {manifest.name} scores single pairs")
        self.clip: ClipInput = manifest.clip
        self.stages: Mapping[str, Stage] = manifest.stages
        self._posteriors = manifest.posteriors
        self._engines: dict[str, Engine] = {name: engines.open(bundle, name) for name in self.stages}
        self._check(bundle)
        # A recogniser of one modality says the same where both are there: it is that modality which tells.
        self._told_by = {kind: _modality_of(source, self.stages) for kind, source in self._posteriors.items()}
        self._incremental = incremental
        self._kept: dict[str, dict[int, tuple[object, Rows]]] = {
            name: {} for name, stage in self.stages.items() if stage.per != "window"
        }
        self.last_ms = 0.0
        self.n_encoded = 0

    def _check(self, bundle: Bundle) -> None:
        for name, stage in self.stages.items():
            specs = {spec.name for spec in self._engines[name].inputs}
            if specs != set(stage.takes):
                raise EngineError(
                    f"{bundle.folder}: by its bundle.json stage {name} takes {sorted(stage.takes)}, its graph has "
                    f"{sorted(specs)}; export the bundle again"
                )
        wanted = [source for stage in self.stages.values() for source in stage.takes.values() if "." in source]
        for source in (*wanted, *self._posteriors.values()):
            name, tensor = source.split(".", 1)
            if tensor not in {spec.name for spec in self._engines[name].outputs}:
                raise EngineError(f"{bundle.folder}: stage {name} has no output {tensor}; export the bundle again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for engine in self._engines.values():
            engine.close()

    def score(self, windows: Sequence[Window]) -> list[Score]:
        """One score for each window, in their order. `last_ms` then holds how long that took."""
        began = time.perf_counter()
        if not self._incremental:
            for kept in self._kept.values():
                kept.clear()
        used: dict[str, set[int]] = {name: set() for name in self._kept}
        scores = []
        for window in windows:
            kind = modality(window)
            if kind is None or kind not in self._posteriors or window.clip is None:
                scores.append(Score(window=window, posterior=None, weights={FACE: 0.0, VOICE: 0.0}))
                continue
            posterior = _Evaluation(self, window, window.clip, used).tensor(self._posteriors[kind])[0]
            scores.append(Score(window=window, posterior=posterior, weights=dict(WEIGHTS[self._told_by[kind]])))
        for name, kept in self._kept.items():
            for key in kept.keys() - used[name]:
                del kept[key]
        self.last_ms = (time.perf_counter() - began) * 1e3
        return scores

    def encode(
        self, name: str, items: Sequence[object], feed: Callable[[Sequence[object]], Rows], used: set[int]
    ) -> Rows:
        """Outputs of a stage for each item, stacked: those that are kept, and one run for all that are new."""
        kept = self._kept[name]
        new = list({id(item): item for item in items if id(item) not in kept}.values())
        if new:
            made = self._engines[name].run(feed(new))
            self.n_encoded += len(new)
            for row, item in enumerate(new):
                kept[id(item)] = item, {tensor: values[row] for tensor, values in made.items()}
        used.update(map(id, items))
        rows = [kept[id(item)][1] for item in items]
        return {tensor: np.stack([row[tensor] for row in rows]) for tensor in rows[0]}

    def run(self, name: str, feeds: Mapping[str, np.ndarray]) -> Rows:
        """A stage that runs once a window."""
        return self._engines[name].run(feeds)


class _Evaluation:
    """One window: each tensor that its posterior needs, computed when it is asked for, once."""

    def __init__(self, scorer: ClipScorer, window: Window, clip: Clip, used: dict[str, set[int]]) -> None:
        self._scorer, self._window, self._clip, self._used = scorer, window, clip, used
        self._done: dict[str, Rows] = {}
        n = scorer.clip.n_frames
        chosen = spread(len(clip.frames), n) if clip.frames else ()
        filled = with_flow(clip.frames) if self._wants("flow") else clip.frames
        self._frames: list[Face] = [filled[k] for k in chosen]
        self._times_ns = [clip.times_ns[k] for k in chosen]

    def _wants(self, source: str) -> bool:
        return any(source in stage.takes.values() for stage in self._scorer.stages.values())

    def tensor(self, source: str) -> np.ndarray:
        """A raw input or a stage's output, with its batch axis of one."""
        if "." not in source:
            return self._raw(source)
        name, tensor = source.split(".", 1)
        if name not in self._done:
            self._done[name] = self._outputs(name)
        return self._done[name][tensor]

    def _outputs(self, name: str) -> Rows:
        stage = self._scorer.stages[name]
        if stage.per == "window":
            return self._scorer.run(name, {tensor: self.tensor(source) for tensor, source in stage.takes.items()})
        if stage.per == "frame":

            def pictures(items: Sequence[object]) -> Rows:
                return {t: np.stack([getattr(item, source) for item in items]) for t, source in stage.takes.items()}

            rows = self._scorer.encode(name, self._frames, pictures, self._used[name])
            return {tensor: values[None] for tensor, values in rows.items()}
        return self._chunked(name, stage)

    def _chunked(self, name: str, stage: Stage) -> Rows:
        def sounds(items: Sequence[object]) -> Rows:
            return {tensor: np.stack(list(items)) for tensor in stage.takes}  # type: ignore[arg-type]

        samples = [chunk for _, chunk in self._clip.chunks]
        rows = self._scorer.encode(name, samples, sounds, self._used[name])
        at = nearest_chunks(self._times_ns, [k for k, _ in self._clip.chunks], self._scorer.clip.chunk_s or 1.0)
        return {tensor: values[at][None] for tensor, values in rows.items()}

    def _raw(self, source: str) -> np.ndarray:
        if source == "waveform":
            assert self._window.waveform is not None
            return self._window.waveform[None]
        return np.stack([getattr(face, source) for face in self._frames])[None]


def _modality_of(source: str, stages: Mapping[str, Stage]) -> str:
    sources, raw = [source], set()
    while sources:
        one = sources.pop()
        if one in RAW:
            raw.add(one)
        else:
            sources.extend(stages[one.split(".")[0]].takes.values())
    if "waveform" not in raw:
        return FACE
    return BOTH if len(raw) > 1 else VOICE


def nearest_chunks(times_ns: Sequence[int], numbers: Sequence[int], chunk_s: float) -> np.ndarray:
    """For each time the place in `numbers` of the chunk that holds it, or of the nearest there is; (n,) int64."""
    chunk_ns = round(chunk_s * NS_PER_S)
    there = np.asarray(numbers)
    held = np.array([t // chunk_ns for t in times_ns])
    return np.asarray(np.abs(there[None, :] - held[:, None]).argmin(1))
