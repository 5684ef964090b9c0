"""How the line ends when a part of it fails or somebody interrupts it: once, with its reason, and leaving no thread."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import load
from engines.engine import EngineError
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message
from stream.feed.publisher import Feed
from stream.session import Session
from tests.sessions import BUNDLE, Item, MadeSource, frames, in_order, sound
from tests.small_bundle import MANIFEST, stages, write_bundle

pytestmark = pytest.mark.timeout(30)

GREY = np.full((48, 64, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def media(duration_s: float = 2.0) -> list[Item]:
    return in_order(sound(duration_s), frames(np.arange(0, duration_s, 0.04).tolist(), GREY))


class Device(MadeSource):
    """Has given all it has, and waits: a line on it ends only by being stopped."""

    def __init__(self, items: list[Item]) -> None:
        super().__init__(items, endless=True)


def run(source: MadeSource, publish: Callable[[Message], Any]) -> dict[str, float]:
    try:
        return Session(source, [BUNDLE], publish, SessionConfig()).run()
    finally:
        assert source.closed.is_set()


def test_a_fault_of_the_source_surfaces_with_what_it_says() -> None:
    messages: list[Message] = []
    with pytest.raises(OSError, match="the cable was pulled") as caught:
        run(MadeSource(media(), error=OSError("the cable was pulled")), messages.append)
    assert caught.value.__suppress_context__  # no word of how the other threads ended
    assert caught.value.__cause__ is None
    assert not any(isinstance(message, Event) and message.kind == "end" for message in messages)


@pytest.mark.parametrize("with_sound", [True, False])
def test_a_fault_of_perception_surfaces_and_no_estimate_is_made_of_half_of_a_segment(with_sound: bool) -> None:
    pictures = [*frames([0.0, 0.04], GREY), *frames([0.08], np.zeros((0, 0, 3), np.uint8)), *frames([0.4], GREY)]
    items = in_order(sound(2.0), pictures) if with_sound else in_order(pictures)
    source, messages = Device(items), list[Message]()
    with pytest.raises(ValueError, match=r"expected an image .*, got \(0, 0, 3\) uint8"):
        run(source, messages.append)
    assert not any(isinstance(message, Estimate) for message in messages)
    assert source.stopped.is_set()


def test_a_frame_that_runs_back_is_a_fault_of_the_capture_thread() -> None:
    with pytest.raises(ValueError, match="expected a frame later than 1000000000 ns, got one at 500000000 ns"):
        run(Device([*frames([1.0], GREY), *frames([0.5], GREY)]), lambda message: None)


def test_a_fault_of_publishing_surfaces_and_stops_the_source() -> None:
    source = Device(media())

    def publish(message: Message) -> None:
        if isinstance(message, Estimate):
            raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError, match="a fault"):
        run(source, publish)
    assert source.stopped.is_set()


def test_a_fault_of_a_sink_reaches_whoever_runs_the_line() -> None:
    class Faulty:
        def open(self) -> None: ...
        def send(self, message: Message) -> None:
            raise ZeroDivisionError("a fault")

        def attend(self) -> None: ...
        def readable(self) -> None: ...
        def close(self) -> None: ...

    def line() -> None:
        with Feed([Faulty()], delivery=Delivery.WAIT, queue_size=1) as feed:
            run(Device(media()), feed.publish)

    with pytest.raises(RuntimeError, match="the feed thread failed") as caught:
        line()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("k", [0, 3])
def test_ctrl_c_ends_the_stream_in_order(k: int) -> None:
    source, messages = Device(media()), list[Message]()

    def publish(message: Message) -> None:
        messages.append(message)
        if isinstance(message, Estimate) and message.t >= 0.25 * k and not source.stopped.is_set():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(source, publish)
    end = messages[-1]
    assert isinstance(end, Event)
    assert (end.kind, end.text) == ("end", "interrupted")
    assert sum(isinstance(message, Event) and message.kind == "end" for message in messages) == 1
    assert end.totals is not None
    n_told = sum(isinstance(message, Estimate) for message in messages)
    assert n_told == k + 1
    # the hop that was interrupted is told of but not counted
    assert end.totals["hops"] == end.totals["estimates"] == k


def test_ctrl_c_while_the_line_waits_for_a_silent_device_ends_it() -> None:
    source, messages, asked = Device(media(0.5)), list[Message](), threading.Event()

    def publish(message: Message) -> None:
        messages.append(message)
        # a second status: the line is idle
        if len(messages) > 2 and not asked.is_set():
            asked.set()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(source, publish)
    end = messages[-1]
    assert isinstance(end, Event)
    assert end.text == "interrupted"


def test_a_bundle_whose_graph_does_not_load_leaves_nothing_open(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "head.onnx").write_bytes(b"no graph")
    (folder / "bundle.json").write_text(json.dumps({**MANIFEST, "stages": stages(folder)}))
    source, messages = MadeSource(media()), list[Message]()
    with pytest.raises(EngineError, match=r"expected an ONNX graph at .*head\.onnx"):
        Session(source, [load(folder)], messages.append, SessionConfig()).run()
    assert source.closed.is_set()
    assert messages == []
