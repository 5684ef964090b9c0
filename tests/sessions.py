"""Runs whole sessions in tests, from media to the messages that they publish."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import msgspec
import numpy as np

from engines.bundle import Bundle, load
from stream.clock import Clock
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Status
from stream.feed.messages import Session as SessionMessage
from stream.records import AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.session import Session
from stream.source import Source
from stream.sources.media import MediaSource, Speed

BUNDLE = load("default")
HOP_S = 0.25
Item = VideoFrame | AudioBlock | SourceEvent


@dataclass(frozen=True)
class Told:
    """What a session published, in order, and the totals that it returned."""

    messages: list[Message]
    totals: dict[str, float]

    @property
    def estimates(self) -> list[Estimate]:
        return [message for message in self.messages if isinstance(message, Estimate)]

    @property
    def events(self) -> list[tuple[str, int | None]]:
        """Kind and person of each event but the end."""
        found = [message for message in self.messages if isinstance(message, Event)]
        assert [event.kind for event in found].count("end") == 1
        assert found[-1].kind == "end"
        return [(event.kind, event.person) for event in found[:-1]]

    def of(self, person: int) -> list[Estimate]:
        """A person's estimates."""
        return [estimate for estimate in self.estimates if estimate.person == person]

    @property
    def essence(self) -> list[Message]:
        """All that must be the same whenever and however fast the same media are analysed."""
        return [_timeless(message) for message in self.messages if not isinstance(message, Status)]


def _timeless(message: Message) -> Message:
    if isinstance(message, SessionMessage):
        return msgspec.structs.replace(message, session="", origin="")
    return msgspec.structs.replace(message, age_ms=None) if isinstance(message, Estimate) else message


def analyse(
    source: Source,
    *,
    bundles: Sequence[Bundle] = (BUNDLE,),
    delivery: Delivery = Delivery.WAIT,
    clock: Clock | None = None,
    **settings: Any,
) -> Told:
    """Run a session on a source and keep what it publishes."""
    messages: list[Message] = []
    config = SessionConfig(**settings)
    totals = Session(source, bundles, messages.append, config, delivery=delivery, clock=clock).run()
    assert isinstance(messages[0], SessionMessage)
    return Told(messages, totals)


def played(path: Path, *, name: str = "a", **settings: Any) -> Told:
    """Analyse a file at full speed."""
    return analyse(MediaSource(str(path), speed=Speed.MAX, name=name), **settings)


class MadeSource:
    """A source that hands out what it is given, and then raises what it is given.

    Args:
        items: In order of time.
        error: Raised after the last item.
        endless: Whether it then waits to be stopped, as a device that has gone silent.
    """

    def __init__(self, items: Iterable[Item], *, error: BaseException | None = None, endless: bool = False) -> None:
        self._items = list(items)
        self._error, self._endless = error, endless
        self.stopped, self.closed = threading.Event(), threading.Event()
        kinds = {type(item) for item in self._items}
        self.info = SourceInfo(
            name="a",
            has_video=VideoFrame in kinds,
            has_audio=AudioBlock in kinds,
            frame_rate_hz=None,
            duration_s=None,
            text="made",
        )
        self.paced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            if self.stopped.is_set():
                return
            yield item
        if self._error is not None:
            raise self._error
        if self._endless:
            self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()

    def health(self) -> SourceHealth:
        return SourceHealth()


def frames(times_s: Sequence[float], image: np.ndarray) -> list[VideoFrame]:
    """The same picture at each of these times."""
    return [VideoFrame(t_ns=round(t_s * 1e9), image=image) for t_s in times_s]


def sound(duration_s: float, *, start_s: float = 0.0, block: int = 512, level: float = 0.3) -> list[AudioBlock]:
    """A buzz that sweeps, in blocks; loud enough for a voice."""
    first, last = round(start_s * 16_000), round((start_s + duration_s) * 16_000)
    t_s = np.arange(first, last) / 16_000
    samples = (level * np.sign(np.sin(2 * np.pi * (120 + 20 * t_s) * t_s))).astype(np.float32)
    return [AudioBlock(first=first + k, samples=samples[k : k + block]) for k in range(0, len(samples), block)]


def in_order(*tracks: Sequence[VideoFrame | AudioBlock]) -> list[Item]:
    """Tracks merged as a source must: by when an item is complete, sound before pictures."""

    def due(item: Item) -> tuple[int, bool]:
        if isinstance(item, AudioBlock):
            return (item.first + len(item.samples)) * 10**9 // 16_000, False
        return item.t_ns, True

    return sorted((item for track in tracks for item in track), key=due)


def remuxed(path: Path, target: Path, *, interleaved: bool = True) -> Path:
    """The same coded tracks in another container; not interleaved, all of one track lies before the other."""
    options = {} if interleaved else {"max_interleave_delta": "1"}
    with av.open(str(path)) as source, av.open(str(target), "w", container_options=options) as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        if not interleaved:
            packets.sort(key=lambda packet: packet.stream_index)
        for packet in packets:
            packet.stream = copies[packet.stream_index]
            container.mux(packet)
    return target
