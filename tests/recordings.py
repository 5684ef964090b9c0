"""Makes recordings in tests, reads them back, and compares what they hold with what went in."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from engines.bundle import Bundle
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Message
from stream.feed.publisher import Feed
from stream.feed.sinks import JsonlSink
from stream.recording.files import new_files
from stream.recording.recorder import QUEUE_BYTES, Recorder
from stream.recording.settings import RecordedSession, settings_of
from stream.recording.source import RecordedSource
from stream.records import AudioBlock, SourceEvent, SourceInfo, VideoFrame
from stream.session import Session, Source
from stream.sources.media import Speed
from stream.windows import Alignment
from tests.sessions import BUNDLE, Item, MadeSource

PATIENT_S = 1e6  # a queue for sources that hand out at full speed


def settings(info: SourceInfo, *, lossless: bool, config: SessionConfig | None = None) -> RecordedSession:
    return settings_of(
        info,
        config or SessionConfig(),
        [BUNDLE],
        alignment=Alignment.CENTERED,
        engine=("onnx", "asked for"),
        lossless=lossless,
    )


def record(
    path: Path,
    items: Iterable[Item],
    *,
    lossless: bool = True,
    notes: Sequence[tuple[str, object]] = (),
    queue_s: float = PATIENT_S,
    queue_bytes: int = QUEUE_BYTES,
) -> list[SourceEvent]:
    """Record items, then notes; returns what the recorder told."""
    source, told = MadeSource(items), list[SourceEvent]()
    with Recorder(
        new_files(path),
        settings(source.info, lossless=lossless),
        told=told.append,
        queue_s=queue_s,
        queue_bytes=queue_bytes,
    ) as recorder:
        for item in source:
            recorder.take(item)
        for kind, value in notes:
            recorder.note(kind, value)
    return told


def record_session(
    path: Path,
    source: Source,
    *,
    lossless: bool = True,
    delivery: Delivery = Delivery.WAIT,
    bundles: Sequence[Bundle] = (BUNDLE,),
    config: SessionConfig | None = None,
    before: Callable[[Message], None] = lambda message: None,
    steer: Callable[[Session, Message], None] = lambda session, message: None,
) -> dict[str, float]:
    """Analyse a source and record it; returns the session's totals.

    Before each message goes, `before` and `steer` are called, on the scoring thread.
    """
    files, config = new_files(path), config or SessionConfig(engine="onnx")

    def witness(info: SourceInfo) -> Recorder:
        return Recorder(
            files, settings(info, lossless=lossless, config=config), told=session.tell, queue_s=PATIENT_S,
            queue_bytes=2**40,
        )  # fmt: skip

    with Feed([JsonlSink(files.feed)], delivery=Delivery.WAIT) as feed:

        def publish(message: Message) -> None:
            before(message)
            steer(session, message)
            feed.publish(message)

        session = Session(source, bundles, publish, config, delivery=delivery, witness=witness)
        return session.run()


def recorded(path: Path) -> list[Item]:
    """All that a recording hands out."""
    with RecordedSource(path, speed=Speed.MAX) as source:
        return list(source)


def assert_same(got: Sequence[Item], expected: Sequence[Item]) -> None:
    """Items are the same, bit by bit and in the same order."""
    assert [plain(item) for item in got] == [plain(item) for item in expected]
    for one, other in zip(got, expected, strict=True):
        if isinstance(one, VideoFrame) and isinstance(other, VideoFrame):
            np.testing.assert_array_equal(one.image, other.image)
        if isinstance(one, AudioBlock) and isinstance(other, AudioBlock):
            np.testing.assert_array_equal(one.samples, other.samples)


def plain(item: Item) -> tuple[object, ...]:
    """An item without its pixels or samples."""
    match item:
        case VideoFrame():
            return "frame", item.t_ns, item.image.shape, item.image.dtype
        case AudioBlock():
            return "audio", item.first, len(item.samples), item.samples.dtype
    return "event", item.t_ns, item.kind, item.text
