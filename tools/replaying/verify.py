"""`emocast replay --verify FILE`: whether a recording, analysed again, gives the estimates that were published."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from engines.bundle import Bundle, load
from engines.engine import EngineError
from engines.parity import TOLERANCES
from engines.select import Engines
from stream.config import SessionConfig
from stream.feed.publisher import Numbering
from stream.recording.files import RecordingError, files_of
from stream.recording.settings import BASELINE, RecordedSession, versions
from stream.recording.source import RecordedSource
from stream.session import Session
from stream.sources.pacing import Speed
from tools.errors import DONE, MISUSE
from tools.replaying.compare_estimates import Comparison, Result

N_NAMED = 3  # changed pictures or sounds that are told one by one


def verify(path: str | Path, *, speed: Speed = Speed.MAX, models: Sequence[str] = ()) -> int:
    """Analyse a lossless recording again, as it was analysed, and compare what comes out with what was published.

    What a recording that was stopped, killed or broken off cannot reproduce, because it lacks what came after, is not
    compared. One that was begun in mid-session lacks what came before, and is refused.

    Args:
        path: The recording, `talk.mkv`.
        speed: `max` or `realtime`; both must give the same.
        models: Where the recognisers lie, if not where the recorded session had them.

    Returns:
        0 where every estimate is the same, 2 where one is not, or a picture or a sound was changed.

    Raises:
        RecordingError: If there is no recording, it is not lossless, was begun in mid-session, or a recogniser is
            another one by now.
        BundleError, EngineError, NetworkError: If a part of the line cannot be opened.
    """
    source = RecordedSource(path, speed=speed)
    settings = source.settings
    if settings.began_s is not None:
        raise RecordingError(
            f"{path} was begun in mid-session, after {settings.began_s:.3f} s: what came before is not in it, so its "
            f"estimates cannot be compared exactly; emocast replay {path} analyses what it has"
        )
    if not settings.lossless:
        raise RecordingError(
            f"expected a recording made with --record-lossless, {path} keeps no exact pictures to compare by; "
            f"emocast replay {path} analyses what it has"
        )
    with recorded_baseline(settings) as config:
        return _verified(path, source, settings, config, speed, models)


@contextmanager
def recorded_baseline(settings: RecordedSession) -> Iterator[SessionConfig]:
    """The recorded settings, with the recorded baseline in the place of the file that they name, for the block."""
    config = settings.session_config()
    if BASELINE not in settings.more:
        yield config
        return
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "baseline.json"
        kept.write_bytes(msgspec.json.encode(settings.more[BASELINE]))
        yield replace(config, baseline=str(kept))


def _verified(
    path: str | Path,
    source: RecordedSource,
    settings: RecordedSession,
    config: SessionConfig,
    speed: Speed,
    models: Sequence[str],
) -> int:
    bundles = _bundles(settings, models or config.model)
    engines, note = _engines(settings, config, bundles)
    comparison = Comparison(files_of(path).feed, tolerance=TOLERANCES["fp16"] if note else 0.0)
    number = Numbering()
    with engines:
        Session(
            source,
            bundles,
            lambda message: comparison.take(number(message)),
            config,
            engines=engines,
            left_out=source.decisions.left_out_segments,
        ).run()
    result = comparison.result(None if source.decisions.whole and not comparison.truncated else source.reached_ns / 1e9)
    print("\n".join(_report(Path(path).name, speed, settings, result, comparison.changed, note)))
    return MISUSE if result.parting or comparison.changed else DONE


def _bundles(settings: RecordedSession, models: Sequence[str]) -> list[Bundle]:
    bundles = [load(model) for model in models]
    if len(bundles) != len(settings.bundles):
        raise RecordingError(f"expected {len(settings.bundles)} models, as were recorded, got {len(bundles)}")
    for model, bundle, was in zip(models, bundles, settings.bundles, strict=True):
        if bundle.sha256 != was.sha256:
            raise RecordingError(
                f"expected the recogniser {was.name} with SHA-256 {was.sha256[:16]}..., {model} has "
                f"{bundle.sha256[:16]}...; name the recorded one's folder with --model"
            )
    return bundles


def _engines(settings: RecordedSession, config: SessionConfig, bundles: Sequence[Bundle]) -> tuple[Engines, str]:
    # The engine that ran, not `auto`: what that takes may have changed.
    try:
        engines = Engines(settings.engine, threads=config.threads, device=config.device)
        for bundle in bundles:
            engines.choose(bundle)
    except EngineError as error:
        note = f"recorded on {settings.engine} ({config.device}), which is not here ({error}); compared on onnx (cpu)"
        return Engines("onnx", threads=config.threads), note
    return engines, ""


def _report(
    name: str, speed: Speed, settings: RecordedSession, result: Result, changed: Sequence[str], note: str
) -> Iterator[str]:
    same = "identical" if not note else f"the same within {TOLERANCES['fp16']:g}"
    yield f"{name}: {result.n_identical} of {result.n_compared} estimates are {same} at {speed} speed"
    if note:
        yield f"  {note}"
    if result.n_beyond:
        yield f"  {result.n_beyond} more were published after the end of what was recorded, and cannot be compared"
    yield from (f"  {text}" for text in changed[:N_NAMED])
    if len(changed) > N_NAMED:
        yield f"  {len(changed) - N_NAMED} more pictures or sounds are not the ones that were recorded"
    if result.parting:
        yield f"  they part first at {result.parting}"
        for package, here in versions().items():
            if (was := settings.versions.get(package, here)) != here:
                yield f"  recorded with {package} {was}, replayed with {here}"
