"""Two devices as one source: in order, waited for but not for long, and each going on when the other is gone."""

import math
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.clock import ManualClock
from stream.records import AudioBlock, SourceEvent, VideoFrame
from stream.sources.device import Back, Lost, Picture, Sink, Sound
from stream.sources.errors import SourceError
from stream.sources.live import HOLD_NS, LONGEST_HOLD_NS, ROOM, Grid, Item, LiveSource, Merge

pytestmark = pytest.mark.timeout(30)

MS = 1_000_000
ZERO_NS = 7_000 * MS  # the clock did not begin with the session
WAIT_S = 10.0  # for what must come
BLOCK = 512  # samples: 32 ms
IMAGE = np.zeros((2, 2, 3), np.uint8)
BOTH = ("camera", "microphone")


def picture(at_ms: float) -> Picture:
    return Picture(at_ns=ZERO_NS + round(at_ms * MS), image=IMAGE)


def sound(first: int, *, at_ms: float, n: int = BLOCK, overflowed: bool = False) -> Sound:
    """Its samples say which they are, counted from `first`."""
    samples = np.arange(first, first + n, dtype=np.float32) / 2**20
    at_ns = ZERO_NS + round(at_ms * MS)
    return Sound(first=first, samples=samples, rate_hz=16_000, adc_ns=at_ns, arrived_ns=at_ns, overflowed=overflowed)


def block(k: int) -> AudioBlock:
    return AudioBlock(first=k * BLOCK, samples=np.zeros(BLOCK, np.float32))


def told(items: list[Item]) -> list[tuple[str, float]]:
    """What came, and when it was complete in ms; an event by its kind."""

    def one(item: Item) -> tuple[str, float]:
        match item:
            case VideoFrame():
                return "picture", item.t_ns / MS
            case AudioBlock():
                return "sound", (item.first + len(item.samples)) / 16
        return item.kind, item.t_ns / MS

    return [one(item) for item in items]


class Straight:
    """A grid for a 16 kHz device without drift; it holds the newest run back until the next, or a flush."""

    drift_ppm, residual_ms = 12.5, 0.25

    def __init__(self, zero_ns: int) -> None:
        self._zero_ns = zero_ns
        self._held: list[AudioBlock] = []

    def push(self, sound: Sound) -> list[AudioBlock]:
        first = round((sound.adc_ns - self._zero_ns) * 16 / MS)
        blocks, self._held = self._held, [AudioBlock(first=first, samples=sound.samples)]
        return blocks

    def flush(self) -> list[AudioBlock]:
        blocks, self._held = self._held, []
        return blocks


class Prompt(Straight):
    """The same, holding nothing."""

    def push(self, sound: Sound) -> list[AudioBlock]:
        super().push(sound)
        return self.flush()


class Held:
    """A grid before which the line stands still, from the first sound on until `opened` is set."""

    drift_ppm = residual_ms = None

    def __init__(self, grid: Straight) -> None:
        self._grid = grid
        self.entered, self.opened = threading.Event(), threading.Event()

    def push(self, sound: Sound) -> list[AudioBlock]:
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        return self._grid.push(sound)

    def flush(self) -> list[AudioBlock]:
        return self._grid.flush()


class FakeDevice:
    def __init__(self, name: str, sink: Sink, *, error: Exception | None = None) -> None:
        self.name, self.text = name, f"a {name}"
        self.give, self._error = sink, error
        self.n_open = 0

    def __enter__(self) -> Self:
        if self._error is not None:
            raise self._error
        self.n_open += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.n_open -= 1


class Line:
    """A live source on fake devices, iterated by a thread of its own as a session does."""

    def __init__(self, roles: tuple[str, ...] = BOTH, *, grid: Callable[[int], Grid] = Prompt) -> None:
        self.clock = ManualClock(ZERO_NS)
        self.devices: dict[str, FakeDevice] = {}
        makers = {role: self._maker(role) if role in roles else None for role in BOTH}
        self.source = LiveSource(**makers, grid=grid, clock=self.clock)
        self._items: queue.Queue[Item | None] = queue.Queue()
        self._begun = threading.Event()
        self.thread = threading.Thread(target=self._iterate)

    def _maker(self, role: str) -> Callable[[Sink], FakeDevice]:
        def make(sink: Sink) -> FakeDevice:
            return self.devices.setdefault(role, FakeDevice(role, sink))

        return make

    def _iterate(self) -> None:
        for item in self.source:
            self._items.put(item)
        self._items.put(None)

    def begin(self) -> None:
        """Iterate from now on; returns once what is given is taken."""
        self.thread.start()
        self.tell("camera" if "camera" in self.devices else "microphone", Lost(at_ns=ZERO_NS, text="not there yet"))
        self.tell("camera" if "camera" in self.devices else "microphone", Back(at_ns=ZERO_NS, text="there"))
        assert [kind for kind, _ in self.take(2)] == ["device_lost", "device_back"]

    def turn(self, to_ms: float) -> None:
        self.clock.advance(ZERO_NS + round(to_ms * MS) - self.clock.now_ns())

    def tell(self, role: str, item: Picture | Sound | Lost | Back) -> None:
        self.devices[role].give(item)

    def take(self, n: int) -> list[tuple[str, float]]:
        items = [self._items.get(timeout=WAIT_S) for _ in range(n)]
        return told([item for item in items if item is not None])

    def rest(self) -> list[tuple[str, float]]:
        """Stop it, and what else had come."""
        self.source.stop()
        self.thread.join(WAIT_S)
        items = [self._items.get_nowait() for _ in range(self._items.qsize())]
        return told([item for item in items if item is not None])


@contextmanager
def live(roles: tuple[str, ...] = BOTH, *, grid: Callable[[int], Grid] = Prompt) -> Iterator[Line]:
    before = set(threading.enumerate())
    line = Line(roles, grid=grid)
    with line.source:
        line.begin()
        yield line
        line.rest()
    assert set(threading.enumerate()) == before
    assert [device.n_open for device in line.devices.values()] == [0] * len(roles)


# order, and how long is waited


def test_items_come_in_order_of_completion_and_sound_first() -> None:
    merge = Merge(ZERO_NS, BOTH)
    for at_ms in (0, 32, 40, 64):
        merge.add_picture(picture(at_ms), ZERO_NS + 100 * MS)
    assert list(merge.ready(ZERO_NS + 100 * MS)) != []  # a picture at 0: no sound can be complete before
    merge.add_blocks([block(0), block(1)], ZERO_NS + 100 * MS)
    assert told(list(merge.ready(ZERO_NS + 100 * MS))) == [
        ("sound", 32),
        ("picture", 32),
        ("picture", 40),
        ("sound", 64),
        ("picture", 64),
    ]
    assert merge.take_late() == 0


@pytest.mark.parametrize(("waiting", "other"), [("camera", "microphone"), ("microphone", "camera")])
def test_an_item_waits_for_the_other_device_and_no_longer_than_its_hold(waiting: str, other: str) -> None:
    merge = Merge(ZERO_NS, BOTH)
    if waiting == "camera":
        merge.add_picture(picture(32), ZERO_NS + 32 * MS)
    else:
        merge.add_blocks([block(0)], ZERO_NS + 32 * MS)
    due_ns = ZERO_NS + 32 * MS + HOLD_NS[other]
    assert list(merge.ready(due_ns - 1)) == []
    assert told(list(merge.ready(due_ns))) == [("picture" if waiting == "camera" else "sound", 32)]


def test_one_device_alone_is_handed_on_at_once() -> None:
    camera, microphone = Merge(ZERO_NS, ("camera",)), Merge(ZERO_NS, ("microphone",))
    camera.add_picture(picture(40), ZERO_NS)
    microphone.add_blocks([block(0)], ZERO_NS)
    assert told(list(camera.ready(ZERO_NS))) == [("picture", 40)]
    assert told(list(microphone.ready(ZERO_NS))) == [("sound", 32)]


def test_what_comes_too_late_to_be_in_order_is_left_out_and_counted() -> None:
    merge = Merge(ZERO_NS, BOTH)
    merge.add_picture(picture(100), ZERO_NS + 900 * MS)
    assert told(list(merge.ready(ZERO_NS + 900 * MS))) == [("picture", 100)]
    merge.add_blocks([block(k) for k in range(4)], ZERO_NS + 900 * MS)  # complete at 32, 64, 96 and 128 ms
    merge.add_picture(picture(100), ZERO_NS + 900 * MS)  # the same time again
    assert merge.take_late() == 4
    assert merge.take_late() == 0
    merge.add_picture(picture(130), ZERO_NS + 900 * MS)
    assert told(list(merge.ready(ZERO_NS + 900 * MS)))[0] == ("sound", 128)


def test_what_lies_before_the_session_is_no_loss() -> None:
    merge = Merge(ZERO_NS, BOTH)
    merge.add_picture(picture(-1), ZERO_NS)
    merge.add_blocks([AudioBlock(first=-BLOCK, samples=np.zeros(BLOCK, np.float32))], ZERO_NS)
    assert list(merge.ready(ZERO_NS + 5_000 * MS)) == []
    assert merge.take_late() == 0


@pytest.mark.parametrize("latency_ms", [400, 1_500])
def test_a_camera_that_is_late_by_its_stated_latency_loses_only_its_first_pictures(latency_ms: int) -> None:
    merge, seen = Merge(ZERO_NS, BOTH), list[tuple[str, float]]()
    for k in range(1, 100):  # of 32 ms each
        now_ns = ZERO_NS + k * 32 * MS
        merge.add_blocks([block(k - 1)], now_ns)
        if k * 32 >= latency_ms:
            merge.add_picture(picture(k * 32 - latency_ms + 1), now_ns)
        seen += merge_told(merge, now_ns)
    # When the first picture came, sound of until 150 ms before the look before was gone; nothing later is lost.
    first_ms = -(-latency_ms // 32) * 32
    gone_ms = (first_ms - 32 - 150) // 32 * 32
    assert merge.take_late() == math.ceil((gone_ms - (first_ms - latency_ms + 1)) / 32)
    times = [t_ms for _, t_ms in seen]
    assert times == sorted(times)
    assert seen[-1] == ("picture", 99 * 32 - latency_ms + 1)


def merge_told(merge: Merge, now_ns: int) -> list[tuple[str, float]]:
    return told(list(merge.ready(now_ns)))


def test_a_device_far_too_late_is_not_waited_for_without_end() -> None:
    merge = Merge(ZERO_NS, BOTH)
    for k in range(32):
        merge.add_picture(picture(k), ZERO_NS + 60_000 * MS)
    merge_told(merge, ZERO_NS + 120_000 * MS)
    merge.add_blocks([block(2_000)], ZERO_NS + 120_000 * MS)
    due_ns = ZERO_NS + 2_001 * 32 * MS + LONGEST_HOLD_NS
    assert merge_told(merge, due_ns - 1) == []
    assert merge_told(merge, due_ns) == [("sound", 2_001 * 32)]


@settings(max_examples=200, deadline=None)
@given(drawn=st.data())
def test_any_arrival_within_the_holds_gives_the_same_sequence(drawn: st.DataObject) -> None:
    n = drawn.draw(st.integers(1, 40), label="items of each device")
    arrivals = list[tuple[int, int, Callable[[Merge, int], None]]]()

    def arriving(role: str, due_ns: list[int], add: Callable[[int], Callable[[Merge, int], None]]) -> None:
        delays = st.integers(0, HOLD_NS[role] - 1)
        at_ns = 0
        for k in range(n):
            at_ns = max(at_ns, due_ns[k] + drawn.draw(delays))  # a device does not overtake itself
            arrivals.append((min(at_ns, due_ns[k] + HOLD_NS[role] - 1), k, add(k)))

    pictures_ms = sorted(drawn.draw(st.sets(st.integers(0, 1_500), min_size=n, max_size=n)))
    arriving(
        "camera", [t * MS for t in pictures_ms], lambda k: lambda m, now: m.add_picture(picture(pictures_ms[k]), now)
    )
    arriving(
        "microphone", [(k + 1) * 32 * MS for k in range(n)], lambda k: lambda m, now: m.add_blocks([block(k)], now)
    )
    looks = [(at_ns, -1, None) for at_ns in drawn.draw(st.lists(st.integers(0, 4_000 * MS), max_size=20))]
    merge, handed = Merge(ZERO_NS, BOTH), list[tuple[str, float]]()
    for at_ns, _, add in sorted([*arrivals, *looks], key=lambda arrival: arrival[:2]):
        if add is not None:
            add(merge, ZERO_NS + at_ns)
        handed += merge_told(merge, ZERO_NS + at_ns)
    handed += merge_told(merge, ZERO_NS + 60_000 * MS)
    expected = [("picture", float(t)) for t in pictures_ms] + [("sound", (k + 1) * 32.0) for k in range(n)]
    assert handed == sorted(expected, key=lambda item: (item[1], item[0] == "picture"))
    assert merge.take_late() == 0


# loss


@pytest.mark.parametrize(("lost", "left"), [("camera", "microphone"), ("microphone", "camera")])
def test_a_lost_device_is_not_waited_for_until_it_is_back(lost: str, left: str) -> None:
    def give(role: str, k: int) -> None:
        line.tell(role, picture(k * 32 + 32) if role == "camera" else sound(k * BLOCK, at_ms=k * 32))

    kinds = {"camera": "picture", "microphone": "sound"}
    with live() as line:
        give(left, 0)
        line.tell(lost, Lost(at_ns=ZERO_NS + 50 * MS, text="unplugged"))
        assert line.take(2) == [("device_lost", 50), (kinds[left], 32)]
        for k in (1, 2, 3):
            give(left, k)
            assert line.take(1) == [(kinds[left], k * 32 + 32)]
        line.tell(lost, Back(at_ns=ZERO_NS + 140 * MS, text="plugged in"))
        assert line.take(1) == [("device_back", 140)]
        give(left, 4)  # complete at 160 ms: awaited again
        give(lost, 4)
        assert line.take(2) == [("sound", 160), ("picture", 160)]
        give(left, 5)
        assert line.rest() == []  # the clock stands at 0: it waits for the other
        assert line.source.n_left_out == 0


def test_the_event_says_which_device_and_what_happened() -> None:
    with Line().source as source:
        source.stop()
        assert list(source) == []
    merge = Merge(ZERO_NS, BOTH)
    assert merge.changed("camera", Lost(at_ns=ZERO_NS - 1, text="unplugged")) == SourceEvent(
        t_ns=0, kind="device_lost", text="camera: unplugged"
    )


def test_with_both_lost_events_still_come_and_so_do_the_devices() -> None:
    with live() as line:
        for role in BOTH:
            line.tell(role, Lost(at_ns=ZERO_NS, text="unplugged"))
        assert line.take(2) == [("device_lost", 0), ("device_lost", 0)]
        line.turn(5_000)
        line.tell("camera", Back(at_ns=ZERO_NS + 5_000 * MS, text="plugged in"))
        line.tell("camera", picture(5_000))
        assert line.take(2) == [("device_back", 5_000), ("picture", 5_000)]
        line.tell("microphone", Back(at_ns=ZERO_NS + 5_032 * MS, text="plugged in"))
        line.tell("microphone", sound(0, at_ms=5_032))
        line.tell("camera", picture(5_064))
        assert line.take(3) == [("device_back", 5_032), ("sound", 5_064), ("picture", 5_064)]


def test_a_microphone_lost_and_back_while_the_line_stood_still_ends_its_run_between() -> None:
    grid = Held(Straight(ZERO_NS))
    with live(("microphone",), grid=lambda zero_ns: grid) as line:
        line.tell("microphone", sound(0, at_ms=0))
        assert grid.entered.wait(WAIT_S)
        line.tell("microphone", Lost(at_ns=ZERO_NS + 40 * MS, text="unplugged"))
        line.tell("microphone", Back(at_ns=ZERO_NS + 200 * MS, text="plugged in"))
        line.tell("microphone", sound(0, at_ms=200))
        line.tell("microphone", sound(BLOCK, at_ms=232))
        grid.opened.set()
        assert line.take(4) == [("device_lost", 40), ("device_back", 200), ("sound", 32), ("sound", 232)]


# the life of the source


def test_stop_ends_the_iteration_from_another_thread_and_leaves_nothing() -> None:
    with live() as line:  # which asserts that no thread is left and every device was closed
        line.source.stop()
        line.thread.join(WAIT_S)
        assert not line.thread.is_alive()


def test_a_hold_that_runs_out_is_noticed_without_another_item() -> None:
    with live() as line:
        line.tell("microphone", sound(0, at_ms=0))
        line.turn(32 + HOLD_NS["camera"] / MS)
        assert line.take(1) == [("sound", 32)]


def test_what_devices_give_before_the_session_runs_is_no_loss_but_their_events_are_told() -> None:
    line = Line()
    with line.source as source:
        for k in range(100):
            line.tell("camera", picture(k))
        line.tell("camera", Lost(at_ns=ZERO_NS, text="unplugged"))
        line.thread.start()
        assert line.take(1) == [("device_lost", 0)]
        assert line.rest() == []
        assert source.health().left_out == 0


def test_a_line_that_stands_still_keeps_the_newest_pictures_and_all_sound() -> None:
    n, grid = 40, Held(Prompt(ZERO_NS))
    with live(grid=lambda zero_ns: grid) as line:
        line.tell("microphone", sound(0, at_ms=0))
        assert grid.entered.wait(WAIT_S)
        for k in range(n):
            line.tell("camera", picture(k * 32 + 32))
        for k in range(1, n):
            line.tell("microphone", sound(k * BLOCK, at_ms=k * 32))
        grid.opened.set()
        came = line.take(n + ROOM["camera"])
        assert [t_ms for kind, t_ms in came if kind == "sound"] == [k * 32 + 32 for k in range(n)]
        assert [t_ms for kind, t_ms in came if kind == "picture"] == [k * 32 + 32 for k in range(n - ROOM["camera"], n)]
        assert line.source.health().left_out == n - ROOM["camera"]


def test_health_counts_overruns_and_says_how_the_microphone_runs() -> None:
    with live(("microphone",)) as line:
        for k in range(3):
            line.tell("microphone", sound(k * BLOCK, at_ms=k * 32, overflowed=k > 0))
        line.take(3)
        health = line.source.health()
        assert (health.overruns, health.left_out, health.drift_ppm, health.residual_ms) == (2, 0, 12.5, 0.25)


def test_the_source_says_what_it_is_made_of() -> None:
    assert Line().source.info.text == "a camera; a microphone"
    info = Line(("microphone",)).source.info
    assert (info.name, info.has_video, info.has_audio) == ("live", False, True)
    with pytest.raises(ValueError, match="expected a camera, a microphone, or both, got neither"):
        Line(())


def test_a_device_that_cannot_be_opened_closes_the_other_and_is_said() -> None:
    camera = FakeDevice("camera", print)
    source = LiveSource(
        camera=lambda sink: camera,
        microphone=lambda sink: FakeDevice("microphone", sink, error=SourceError("there is none")),
        grid=Prompt,
        clock=ManualClock(),
    )
    with pytest.raises(SourceError, match="there is none"), source:
        pytest.fail("it opened")
    assert camera.n_open == 0
