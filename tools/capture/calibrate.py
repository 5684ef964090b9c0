"""`emocast calibrate`: how late the camera is against the microphone, and a person's neutral face and voice."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from engines.bundle import load
from stream.av_offset import Offset, measure
from stream.baseline import MIN_WINDOWS, Baseline, BaselineError, NeutralPeriod, write_baseline
from stream.clock import MonotonicClock
from stream.config import LiveConfig, SessionConfig
from stream.delivery import Delivery
from stream.device_offsets import store_offset
from stream.feed.publisher import rfc3339, utc_now
from stream.records import Score
from stream.session import Session
from stream.source import Source
from stream.windows import NS_PER_S
from tools.capture.flash_show import OTHER_DEVICE, ClickSpeaker, FlashWindow, show_flashes, write_clip
from tools.capture.live import live_source, prompt_alignment
from tools.capture.window import has_display
from tools.errors import DONE

Names = Callable[[], Mapping[str, str]]


def make_clip(path: Path) -> Path:
    """Write the flash-and-click clip for another device, and say what to do with it.

    Raises:
        ValueError: If it cannot be written.
    """
    if path.suffix not in (".mp4", ".mkv", ".mov"):
        raise ValueError(f"--make: expected a name that ends in .mp4, .mkv or .mov, got {path}")
    try:
        write_clip(path)
    except OSError as error:
        raise ValueError(f"--make: {path} cannot be written: {error.strerror or error}") from error
    print(f"wrote {path}: show it on a phone, loud and bright, close to the camera; then emocast calibrate --listen")
    return path


def measure_offset(source: Source, *, names: Names, n_flashes: int = 12, longest_s: float = 60.0) -> Offset:
    """Measure the offset from flashes and clicks that something shows to the devices, and store it.

    Args:
        source: A camera and a microphone, not yet opened; stopped and left when enough was seen.
        names: The devices' own, by `camera` and `microphone`, once they are open: what it is stored by.
        n_flashes: Flashes with their click to wait for.
        longest_s: End after that long in any case.

    Raises:
        SourceError: If the devices cannot be opened.
        OffsetError: If the offset cannot be told or stored.
    """
    with source:
        if not (source.info.has_video and source.info.has_audio):
            raise ValueError(f"expected a camera and a microphone, got {source.info.text} alone")
        camera, microphone = names()["camera"], names()["microphone"]
        print(f"looking and listening for {n_flashes} flashes with a click, at most {longest_s:g} s")
        try:
            found = measure(source, n_flashes=n_flashes, longest_s=longest_s)
        finally:
            source.stop()
    path = store_offset(camera, microphone, found, rfc3339(utc_now()))
    late = "late" if found.offset_ms >= 0 else "early"
    print(
        f"the picture of {camera} is {abs(found.offset_ms):.1f} ms {late} against {microphone} "
        f"({found.n_pairs} pairs, each ± {found.spread_ms:.1f} ms); stored in {path}"
    )
    return found


def show_and_measure(source: Source, *, names: Names, n_flashes: int = 12, longest_s: float = 60.0) -> Offset:
    """`measure_offset` while this machine's screen flashes and its speaker clicks; call it from the main thread.

    What the screen and the speaker themselves are late by is part of the result: PortAudio's account of the speaker is
    taken into account, for the screen a usual 25 ms. Some 10 to 20 ms may remain, as with a phone.

    Raises:
        ValueError: If there is no display or no speaker.
        SourceError, OffsetError: As `measure_offset`.
    """
    if not has_display():
        raise ValueError(f"expected a display to flash on, this machine has none; {OTHER_DEVICE}")
    print("the screen will flash and the speaker click: point the camera at the screen")
    clock = MonotonicClock()
    with ExitStack() as life:
        speaker, window = life.enter_context(ClickSpeaker(clock)), life.enter_context(FlashWindow())
        pool = life.enter_context(ThreadPoolExecutor(1))
        life.callback(source.stop)  # before the pool is waited for
        watching = pool.submit(measure_offset, source, names=names, n_flashes=n_flashes, longest_s=longest_s)
        show_flashes(window, speaker, clock, done=watching.done)
        return watching.result()


def take_neutral(
    source: Source,
    seconds: float = 10.0,
    *,
    person: str,
    session: SessionConfig,
    delivery: Delivery = Delivery.DROP_OLDEST,
    path: Path | None = None,
) -> Baseline:
    """Take a person's neutral face and voice, and keep what follows from them.

    Args:
        source: What shows the person, not yet opened; stopped and left after `seconds` of it.
        seconds: How long to take.
        person: Name to keep it by: letters, digits, `.`, `_` and `-`.
        session: How to analyse, as in the sessions that shall use it: one recogniser, no baseline.
        delivery: `drop_oldest` for devices, `wait` for a file.
        path: Where to write it, in place of where it is kept.

    Raises:
        BaselineError: If too little of one person was there, or it cannot be written.
        SourceError, BundleError, EngineError, NetworkError: If a part of the line cannot be opened.
    """
    if len(session.model) != 1 or session.baseline is not None:
        raise BaselineError("expected one --model and no --baseline to take a baseline with; leave the others out")
    shortest_s = MIN_WINDOWS * 0.25
    if not shortest_s <= seconds <= 600:
        raise BaselineError(f"seconds: expected {shortest_s:g} to 600, got {seconds:g}")
    bundle = load(session.model[0])
    period = NeutralPeriod(bundle, person)

    def scored(scores: Sequence[Score]) -> None:
        end_ns = scores[0].window.end_ns if scores else 0
        if end_ns <= seconds * NS_PER_S:  # a file has been read further than that already
            period.take(scores)
        if end_ns >= seconds * NS_PER_S:
            source.stop()

    print(
        f"taking {seconds:g} s of {person}, alone and neutral: "
        "look at the camera, read something aloud calmly, then be silent"
    )
    Session(source, [bundle], lambda message: None, session, delivery=delivery, scored=scored).run()
    taken = period.baseline(rfc3339(utc_now()))
    written = write_baseline(taken, path)
    print(f"{taken.text()}\nkept in {written}; use it with --baseline {person if path is None else written}")
    if period.n_crowded:
        print(f"emocast: {period.n_crowded} windows with several persons were left out", file=sys.stderr)
    return taken


def calibrate(
    *,
    listen: bool,
    make: Path | None,
    neutral: str | None,
    seconds: float,
    out: Path | None,
    devices: LiveConfig,
    session: SessionConfig,
) -> int:
    """What `emocast calibrate` was asked for: one of its measurements. Returns the exit code.

    Raises:
        SourceError: If a device cannot be opened.
        ValueError: If nothing can be told from what came.
    """
    if make is not None:
        make_clip(make)
        return DONE
    if neutral is not None:
        bundles = [load(model) for model in session.model]
        asked = replace(session, alignment=session.alignment or prompt_alignment(bundles))
        take_neutral(live_source(devices), seconds, person=neutral, session=asked, path=out)
        return DONE
    # What an earlier measurement found must not be part of this one.
    source = live_source(replace(devices, camera_latency_ms=devices.camera_latency_ms or 0.0))
    (measure_offset if listen else show_and_measure)(source, names=lambda: source.names)
    return DONE
