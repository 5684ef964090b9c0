"""The camera that is found again: losses of every kind, on a clock turned by hand and a camera that is made up."""

import queue
import threading

import numpy as np
import pytest

from stream.clock import ManualClock
from stream.sources.camera import MOST_STUCK, OPEN_S, Camera
from stream.sources.cameras.capture import PictureFormat
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.errors import SourceError

pytestmark = pytest.mark.timeout(60)  # a thread that hangs fails

MS = 1_000_000
PERIOD_NS = 40 * MS
AWAIT_S = 20.0


def level(n: int) -> np.ndarray:
    return np.full((4, 6, 3), n, np.uint8)


class MadeCapture:
    """A camera that gives what it is told to, when it is told to, and blocks until then."""

    def __init__(self, rate_hz: float | None = 25.0) -> None:
        self.name = "made"
        self.came = PictureFormat(width_px=6, height_px=4, rate_hz=rate_hz)
        self.closed = threading.Event()
        self._given: queue.Queue[np.ndarray | Exception | None] = queue.Queue()
        self._busy = False
        self._picture = level(0)

    def give(self, *given: np.ndarray | Exception | None) -> None:
        """Let reads return these: a picture, an error, or None for the end. Returns at once."""
        for one in given:
            self._given.put(one)

    def await_taken(self) -> None:
        """Block until all that was given is dealt with: the next read has begun, or the camera is closed."""
        self._given.join()

    def grab(self) -> bool:
        self._done()
        given = self._given.get()
        self._busy = True
        if isinstance(given, Exception):
            raise given
        if given is not None:
            self._picture = given
        return given is not None

    def picture(self) -> np.ndarray:
        return self._picture

    def close(self) -> None:
        self._done()
        self.closed.set()

    def _done(self) -> None:
        if self._busy:
            self._given.task_done()
            self._busy = False


class Bench:
    """A camera under test, its clock, and what it handed on. `openings` is what each opening meets, in order."""

    def __init__(self, *openings: MadeCapture | Exception, **settings: object) -> None:
        self.clock = ManualClock(1000 * MS)
        self.handed: queue.Queue[Picture | Sound | Lost | Back] = queue.Queue()
        self.openings: queue.Queue[MadeCapture | Exception | None] = queue.Queue()
        self.captures = [opening for opening in openings if isinstance(opening, MadeCapture)]
        self.n_opened = 0
        for opening in openings:
            self.openings.put(opening)
        options: dict[str, object] = {"clock": self.clock, "sink": self.handed.put, "opener": self.open} | settings
        self.camera = Camera("made", **options)  # type: ignore[arg-type]

    def __enter__(self) -> "Bench":
        self.camera.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for capture in self.captures:  # let no thread hang
            capture.give(None)
        for _ in range(MOST_STUCK):
            self.openings.put(None)
        self.camera.__exit__(None, None, None)

    def open(self) -> MadeCapture:
        self.n_opened += 1
        opening = self.openings.get()
        if isinstance(opening, Exception):
            raise opening
        if opening is None:
            raise OSError("the test is over")
        return opening

    def next(self) -> Picture | Sound | Lost | Back:
        return self.handed.get(timeout=AWAIT_S)

    def play(self, capture: MadeCapture, *pictures: np.ndarray, period_ns: int = PERIOD_NS) -> None:
        """Give pictures, one a period, each dealt with before the clock is turned on."""
        for picture in pictures:
            self.clock.advance(period_ns)
            capture.give(picture)
            capture.await_taken()

    def pauses_s(self, since_ns: int, n: int) -> list[float]:
        """The first n waits before an attempt to open again, as they begin; the clock is turned to the end of each."""
        while True:
            waits_ns = list(self.clock.waits_ns)
            found = sorted({t_ns for t_ns in waits_ns if since_ns < t_ns < since_ns + 10_000 * MS})
            if len(found) == n:
                steps = np.diff([since_ns, *found]) / 1e9
                return [round(float(step), 3) for step in steps]
            if found and found[-1] > self.clock.now_ns():
                self.clock.advance(found[-1] - self.clock.now_ns())
            assert self.clock.await_waits(len(waits_ns) + 1, AWAIT_S)

    def turn_to_retry(self, lost: Lost) -> None:
        """Turn the clock to the first attempt after a loss."""
        self.pauses_s(lost.at_ns, 1)
        self.clock.advance(100 * MS)


def stamps(items: list[Picture | Sound | Lost | Back]) -> list[int]:
    return [item.at_ns // MS for item in items if isinstance(item, Picture)]


def first_picture(capture: MadeCapture) -> MadeCapture:
    capture.give(level(0))
    return capture


# pictures


def test_pictures_are_stamped_at_arrival_less_the_latency() -> None:
    capture = first_picture(MadeCapture())
    with Bench(capture, latency_s=0.015) as bench:
        bench.play(capture, level(1), level(2))
        items = [bench.next(), bench.next()]
    assert stamps(items) == [1025, 1065]
    assert [item.image[0, 0, 0] for item in items if isinstance(item, Picture)] == [1, 2]
    assert capture.closed.wait(AWAIT_S)


def test_stamps_ascend_even_where_the_clock_stands_still() -> None:
    capture = first_picture(MadeCapture())
    with Bench(capture) as bench:
        bench.play(capture, level(1))
        bench.play(capture, level(2), level(3), period_ns=0)
        times = [bench.next().at_ns for _ in range(3)]
    assert np.diff(times).tolist() == [1, 1]


def test_the_text_says_what_came_and_what_was_asked_for() -> None:
    with Bench(first_picture(MadeCapture()), width=6, rate_hz=25) as bench:
        assert bench.camera.name == "made"
        assert bench.camera.text == "made: 6x4 25 Hz, asked for 6xany 25 Hz"


def test_repeated_pictures_are_left_out_and_counted() -> None:
    capture = first_picture(MadeCapture())
    with Bench(capture) as bench:
        bench.play(capture, level(1), level(1), level(1), level(2))
        assert stamps([bench.next(), bench.next()]) == [1040, 1160]
        assert bench.camera.left_out["repeated"] == 2


# losses


@pytest.mark.parametrize(
    ("end", "why"),
    [(None, "it gives no more pictures"), (OSError("no such device"), "no such device")],
    ids=["false", "raises"],
)
def test_a_read_that_fails_is_a_loss(end: Exception | None, why: str) -> None:
    capture = first_picture(MadeCapture())
    with Bench(capture) as bench:
        capture.give(end)
        assert bench.next() == Lost(at_ns=1000 * MS, text=f"camera made: {why}")


def test_a_read_that_blocks_is_a_loss_and_what_it_gives_later_is_thrown_away() -> None:
    stuck, again = first_picture(MadeCapture()), first_picture(MadeCapture())
    with Bench(stuck, again) as bench:
        bench.play(stuck, level(1))
        assert isinstance(bench.next(), Picture)
        bench.clock.advance(1000 * MS)
        lost = bench.next()
        assert lost == Lost(at_ns=2040 * MS, text="camera made: it stalled: no picture for 1 s")
        stuck.give(level(7))  # the driver comes back, too late
        assert stuck.closed.wait(AWAIT_S)
        bench.turn_to_retry(lost)
        again.await_taken()
        bench.play(again, level(2))
        back, picture = bench.next(), bench.next()
        assert bench.handed.empty()
    assert back == Back(at_ns=2180 * MS, text="camera made: 6x4 25 Hz")
    assert isinstance(picture, Picture)
    assert (picture.at_ns, picture.image[0, 0, 0]) == (2180 * MS, 2)


def test_the_same_picture_again_and_again_is_a_loss() -> None:
    lying = first_picture(MadeCapture())
    with Bench(lying) as bench:
        bench.play(lying, *[level(1)] * 26)  # the plug is pulled after the first, and reads go on to succeed
        assert stamps([bench.next()]) == [1040]
        lost = bench.next()
    assert lost == Lost(at_ns=2040 * MS, text="camera made: it stalled: the same picture again and again for 1 s")


def test_a_camera_that_only_repeats_its_last_picture_is_not_back() -> None:
    capture, lying = first_picture(MadeCapture()), MadeCapture()
    with Bench(capture, lying, stall_s=100) as bench:
        bench.play(capture, level(1))
        assert isinstance(bench.next(), Picture)
        capture.give(None)
        lost = bench.next()
        assert isinstance(lost, Lost)
        bench.turn_to_retry(lost)
        bench.play(lying, level(1), level(1))
        assert bench.handed.empty()
        assert bench.camera.left_out["repeated"] == 2
        bench.play(lying, level(2), level(3))
        assert isinstance(bench.next(), Back)
        assert isinstance(bench.next(), Picture)


def test_a_slow_camera_is_given_five_periods() -> None:
    capture = first_picture(MadeCapture(rate_hz=2.0))
    with Bench(capture) as bench:
        bench.play(capture, level(1), period_ns=500 * MS)
        assert stamps([bench.next()]) == [1500]
        bench.clock.advance(2400 * MS)
        capture.give(level(2), level(3))
        capture.await_taken()
        bench.clock.advance(2500 * MS)
        lost = bench.next()
    assert lost == Lost(at_ns=6400 * MS, text="camera made: it stalled: no picture for 2.5 s")


def test_attempts_come_after_pauses_that_double() -> None:
    capture = first_picture(MadeCapture())
    with Bench(capture, *[SourceError("not yet")] * 7, stall_s=100) as bench:
        capture.give(None)
        lost = bench.next()
        assert bench.pauses_s(lost.at_ns, 7) == [0.1, 0.2, 0.4, 0.8, 1.5, 1.5, 1.5]
        assert bench.handed.empty()  # one loss is told once


def test_openings_that_hang_are_not_piled_up() -> None:
    capture = first_picture(MadeCapture())
    before = set(threading.enumerate())
    with Bench(capture, stall_s=100) as bench:
        capture.give(None)
        bench.next()
        n_waits, limit_ns = 0, round(OPEN_S * 1e9)
        while n_waits < 60:  # each attempt blocks; the clock is turned past every wait
            n_waits = len(bench.clock.waits_ns) + 1
            bench.clock.advance(limit_ns)
            assert bench.clock.await_waits(n_waits, AWAIT_S)
        assert bench.n_opened == 1 + MOST_STUCK
        assert len(set(threading.enumerate()) - before) == 1 + MOST_STUCK  # one watches, the others hang


# the first opening


def test_what_cannot_be_opened_is_refused_in_its_own_words() -> None:
    with pytest.raises(SourceError, match="no such camera"), Bench(SourceError("no such camera")):
        pass


def test_a_camera_that_opens_but_gives_nothing_is_refused() -> None:
    capture = MadeCapture()
    capture.give(None)
    with (
        pytest.raises(
            SourceError, match=r"expected a picture from camera made, got none \(it gives no more pictures\)"
        ),
        Bench(capture),
    ):
        pass
    assert capture.closed.wait(AWAIT_S)


def test_a_first_opening_that_hangs_is_refused_in_time() -> None:
    bench = Bench()
    errors: queue.Queue[str] = queue.Queue()

    def enter() -> None:
        try:
            with bench:
                pass
        except SourceError as error:
            errors.put(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    assert bench.clock.await_waits(1, AWAIT_S)
    bench.clock.advance(round(OPEN_S * 1e9))
    assert "got none (15 s passed); another program may be using it" in errors.get(timeout=AWAIT_S)
    thread.join()
    bench.openings.put(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "expected a width_px above 0, got 0"),
        ({"rate_hz": -1.0}, "expected a rate_hz above 0, got -1.0"),
        ({"pixel_format": "MJPEG"}, "expected a pixel format of four characters, MJPG for example, got 'MJPEG'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Bench(**settings)


# leaving


def test_a_camera_is_left_while_it_is_lost() -> None:
    capture = first_picture(MadeCapture())
    before = set(threading.enumerate())
    with Bench(capture) as bench:
        capture.give(None)
        assert isinstance(bench.next(), Lost)
    assert capture.closed.is_set()
    assert not set(threading.enumerate()) - before


def test_nothing_is_handed_on_after_it_was_left() -> None:
    capture = first_picture(MadeCapture())
    bench = Bench(capture)
    with bench.camera:  # it blocks in a read when it is left
        pass
    capture.give(level(1))
    assert capture.closed.wait(AWAIT_S)
    assert bench.handed.empty()
