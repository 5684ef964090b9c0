"""`emocast live`: a camera and a microphone through the whole line, until somebody ends it."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from engines.bundle import Bundle, load
from engines.select import Engines
from stream.baseline import baseline_json
from stream.clock import MonotonicClock
from stream.config import FeedConfig, LiveConfig, SessionConfig, window_scheme
from stream.delivery import Delivery
from stream.device_offsets import stored_offset
from stream.feed.control_desk import Newest
from stream.feed.messages import Estimate, Event
from stream.feed.publisher import Feed
from stream.feed.sinks import Sink
from stream.recording.files import new_files
from stream.recording.settings import BASELINE, RecordedSession, settings_of
from stream.recording.switch import RecordingSwitch
from stream.records import SourceInfo
from stream.session import Session, engines_of
from stream.source import Item, Witness
from stream.sources.camera import Camera
from stream.sources.chaos_drift import DriftingSink
from stream.sources.chaos_plan import parse
from stream.sources.drift import LiveAudioGrid
from stream.sources.live import LiveSource
from stream.sources.microphone import Microphone
from stream.windows import Alignment
from tools.capture.neutral_key import NeutralKey
from tools.capture.preview import Preview
from tools.errors import DONE, MISUSE
from tools.feeds.controlled import ControlledLive, control_of
from tools.feeds.watch import LineSink
from tools.replaying.chaos import troubled
from tools.replaying.replay import line_of, sinks


def live(*, devices: LiveConfig, session: SessionConfig, feed: FeedConfig, quiet: bool = False) -> int:
    """Stream what a camera and a microphone give, until Ctrl-C or SIGTERM.

    Args:
        devices: Which, and what is done beside the feed.
        session: How to analyse; without an alignment asked for, `causal` where the recogniser was trained with it.
        feed: Where to publish.
        quiet: Print nothing; otherwise each estimate and event is a line on standard output.

    Returns:
        0, or 2 where an output or a recording failed.

    Raises:
        SourceError: If a device cannot be opened.
        BundleError, EngineError, FeedError, NetworkError, ValueError: If another part cannot be opened.
    """
    bundles = [load(model) for model in session.model]
    session = replace(session, alignment=session.alignment or prompt_alignment(bundles))
    files = None if devices.record is None else new_files(devices.record)
    folder = devices.record_folder or Path()
    if not folder.is_dir():
        raise ValueError(f"record_folder: expected a folder, {folder} is none; create it first")
    if devices.chaos is not None:
        parse(devices.chaos)  # a misspelt fault is told before anything is opened
    source = live_source(devices)
    with ExitStack() as life:
        engines = life.enter_context(engines_of(session))
        for bundle in bundles:
            engines.choose(bundle)
        life.enter_context(_terminated_as_interrupted())
        key = NeutralKey(bundles[0], lambda event: line.tell(event))
        preview = life.enter_context(Preview(stop=source.stop, neutral=key.press)) if devices.preview else None
        switch = RecordingSwitch(
            folder, partial(_recording_of, session, bundles, engines), tell=lambda event: line.tell(event),
            first=files, lossless=devices.record_lossless,
        )  # fmt: skip
        newest = Newest()
        outlets: list[Sink] = [*sinks(feed), *([preview] if preview else []), switch, newest]
        if not quiet:
            outlets.append(LineSink(sys.stdout, kinds=(Estimate, Event), line=line_of))
        outlet = life.enter_context(Feed(outlets, delivery=Delivery.DROP_OLDEST))
        witnesses: list[Callable[[SourceInfo], AbstractContextManager[Witness]]] = [switch.witness]
        if preview is not None:
            witnesses.append(lambda info: _as_it_is(preview))
        media, runs_on = life.enter_context(
            troubled(source, engines, devices.chaos, seed=session.seed, sinks=outlets, clock=source.clock, drifts=False)
        )
        line = Session(
            media, bundles, outlet.publish, session, delivery=Delivery.DROP_OLDEST, clock=source.clock,
            engines=runs_on, witness=partial(_together, witnesses), scored=key.scored,
        )  # fmt: skip
        if devices.control is not None:
            life.enter_context(control_of(devices.control, ControlledLive(line, switch), newest, keys=feed.keys))
        with suppress(KeyboardInterrupt):  # that is how a live session ends; its `end` is published
            line.run()
    failures = (*outlet.failures, *switch.broken)
    for failure in failures:
        print(f"emocast: {failure}", file=sys.stderr)
    return MISUSE if failures else DONE


def prompt_alignment(bundles: Sequence[Bundle]) -> Alignment | None:
    """`causal` where every recogniser was trained with it: it waits for no later sound."""
    causal = all(Alignment.CAUSAL.value in bundle.manifest.scheme.alignments for bundle in bundles)
    return Alignment.CAUSAL if causal else None


def live_source(devices: LiveConfig) -> LiveSource:
    """The devices as one source; nothing is opened yet.

    Raises:
        SourceError: If a setting of a device is out of range.
    """
    clock = MonotonicClock()
    camera, microphone = None, None
    if devices.camera != "none":
        camera = partial(
            Camera,
            devices.camera,
            width=devices.width,
            height=devices.height,
            rate_hz=devices.camera_hz,
            pixel_format=devices.pixel_format,
            latency_s=(devices.camera_latency_ms or 0.0) / 1e3,
            clock=clock,
        )
    if devices.microphone != "none":
        microphone = partial(
            Microphone,
            devices.microphone,
            rate_hz=devices.microphone_hz,
            channels=devices.channels,
            latency_s=devices.microphone_latency_ms / 1e3,
            clock=clock,
        )
    ppm = 0.0 if devices.chaos is None else parse(devices.chaos).drift_ppm
    return LiveSource(
        camera=None if camera is None else lambda sink: camera(sink=sink),
        microphone=None
        if microphone is None
        else lambda sink: microphone(sink=DriftingSink(sink, ppm) if ppm else sink),
        grid=LiveAudioGrid,
        clock=clock,
        name=devices.name,
        # What is asked for by name goes before what was measured.
        late_ns=measured_late_ns if devices.camera_latency_ms is None else lambda camera, microphone: 0,
    )


def measured_late_ns(camera: str, microphone: str) -> int:
    """How late the camera's picture is, as `emocast calibrate` measured it for this pair; 0 where it never did."""
    return round((stored_offset(camera, microphone) or 0.0) * 1e6)


def _recording_of(
    session: SessionConfig,
    bundles: Sequence[Bundle],
    engines: Engines,
    info: SourceInfo,
    *,
    lossless: bool,
    began_s: float | None,
) -> RecordedSession:
    return settings_of(
        info,
        session,
        bundles,
        alignment=window_scheme(bundles[0], session.alignment).alignment,
        engine=engines.state(bundles[0]),
        lossless=lossless,
        devices={"source": info.text},
        more={} if session.baseline is None else {BASELINE: baseline_json(session.baseline, bundles[0])},
        began_s=began_s,
    )


class _Several:
    """Several witnesses as one."""

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._witnesses = witnesses

    def take(self, item: Item) -> None:
        for witness in self._witnesses:
            witness.take(item)

    def note(self, kind: str, value: int) -> None:
        for witness in self._witnesses:
            witness.note(kind, value)


@contextmanager
def _together(
    makers: Sequence[Callable[[SourceInfo], AbstractContextManager[Witness]]], info: SourceInfo
) -> Iterator[Witness]:
    with ExitStack() as life:
        yield _Several([life.enter_context(make(info)) for make in makers])


@contextmanager
def _as_it_is(preview: Preview) -> Iterator[Witness]:
    yield preview  # its window outlives the session: it is closed by who opened it


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    # A service manager's SIGTERM ends a session in order, as Ctrl-C does.
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
