"""Rings against plain lists, one thread and two."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.delivery import Aborted, Delivery
from stream.records import AudioBlock, VideoFrame
from stream.rings import AudioRing, FrameRing

TIMEOUT_S = 20.0  # a guard against a deadlock; never waited for when the rings work

# (jump before the block, its length): jumps back overlap, jumps forward leave gaps
BLOCKS = st.lists(st.tuples(st.integers(-6, 30), st.integers(0, 25)), max_size=25)


def ramp(first: int, n: int) -> AudioBlock:
    """A block whose samples are their own index, plus 1."""
    return AudioBlock(first=first, samples=np.arange(first + 1, first + 1 + n, dtype=np.float32))


def audio_ring(capacity: int, delivery: Delivery) -> AudioRing:
    """A ring that holds `capacity` samples."""
    return AudioRing(capacity, rate_hz=1, delivery=delivery)


def picture(number: int, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    """An image whose every value is its number."""
    return np.full((*size, 3), number % 256, np.uint8)


class Background:
    """Runs a function in a thread and hands on what it raised."""

    def __init__(self, target: Callable[[], object]) -> None:
        self._target = target
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:
            self._error = error

    def join(self) -> BaseException | None:
        """Wait for the end; what was raised, or None."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "deadlock"
        return self._error


class AudioModel:
    """What an audio ring should hold: every sample ever written, by index, and the oldest that is kept."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.kept: dict[int, float] = {}
        self.end = self.released = self.n_dropped = self.n_gap = self.n_overlap = 0

    def write(self, block: AudioBlock) -> None:
        fresh = [(block.first + i, float(x)) for i, x in enumerate(block.samples) if block.first + i >= self.end]
        self.n_overlap += len(block.samples) - len(fresh)
        if fresh:
            self.n_gap += fresh[0][0] - self.end
            self.end = fresh[-1][0] + 1
            self.kept.update(fresh)
        for index in [index for index in self.kept if index < self.end - self.capacity]:
            del self.kept[index]
            self.n_dropped += index >= self.released

    def read(self, start: int, n: int) -> tuple[list[float], int]:
        wanted = range(start, start + n)
        return [self.kept.get(i, 0.0) for i in wanted], sum(i in self.kept for i in wanted)


@given(capacity=st.integers(1, 40), blocks=BLOCKS, reads=st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 50))))
def test_live_audio_ring_holds_what_a_dictionary_holds(
    capacity: int, blocks: list[tuple[int, int]], reads: list[tuple[int, int]]
) -> None:
    ring, model = audio_ring(capacity, Delivery.DROP_OLDEST), AudioModel(capacity)
    for number, (jump, n) in enumerate(blocks):
        block = ramp(model.end + jump, n)
        ring.write(block)
        model.write(block)
        if number % 3 == 2:
            model.released = max(model.released, model.end - capacity // 2)
            ring.release(model.end - capacity // 2)
        for back, n_read in reads:
            start = model.end - back
            if start < 0 or start >= model.released:
                n_read = n_read if start >= model.released else min(n_read, max(-start, 0))
                samples, n_real = ring.read(start, n_read)
                assert (samples.tolist(), n_real) == model.read(start, n_read)
        assert ring.end == model.end
        assert (ring.n_dropped, ring.n_gap, ring.n_overlap) == (model.n_dropped, model.n_gap, model.n_overlap)


@settings(max_examples=40, deadline=None)
@given(capacity=st.integers(4, 40), blocks=BLOCKS, hop=st.integers(1, 4))
def test_waiting_audio_ring_loses_nothing_between_two_threads(
    capacity: int, blocks: list[tuple[int, int]], hop: int
) -> None:
    ring, model = audio_ring(capacity, Delivery.WAIT), AudioModel(10**9)
    written = []
    for jump, n in blocks:
        written.append(ramp(model.end + jump, n))
        model.write(written[-1])

    def write() -> None:
        for block in written:
            ring.write(block)
        ring.close()

    writer = Background(write)
    got: list[float] = []
    n_real = 0
    while len(got) < model.end:
        assert ring.wait_until(len(got) + hop, TIMEOUT_S)
        samples, n = ring.read(len(got), hop)
        got.extend(samples.tolist())
        n_real += n
        ring.release(len(got))
    assert writer.join() is None
    assert got[: model.end] == model.read(0, model.end)[0]
    assert (n_real, ring.n_dropped) == (len(model.kept), 0)
    assert (ring.end, ring.n_gap, ring.n_overlap) == (model.end, model.n_gap, model.n_overlap)


def test_an_audio_block_longer_than_the_ring_goes_through_it() -> None:
    ring = audio_ring(4, Delivery.WAIT)
    writer = Background(lambda: ring.write(ramp(3, 20)))
    got: list[float] = []
    while len(got) < 23:
        ring.wait_until(len(got) + 1, TIMEOUT_S)
        got.append(float(ring.read(len(got), 1)[0][0]))
        ring.release(len(got))
    assert writer.join() is None
    assert got == [0, 0, 0, *range(4, 24)]


def test_releasing_ahead_of_the_end_gives_no_more_room_than_the_ring_has() -> None:
    ring = audio_ring(4, Delivery.WAIT)
    ring.release(7)
    ring.write(ramp(0, 11))  # room until sample 7 + 4
    assert ring.read(7, 4)[0].tolist() == [8, 9, 10, 11]


def test_reading_what_was_released_is_an_error() -> None:
    ring = audio_ring(10, Delivery.WAIT)
    ring.write(ramp(0, 8))
    ring.release(4)
    with pytest.raises(ValueError, match="expected a read at or after the released sample 4, got 3"):
        ring.read(3, 2)
    assert ring.read(-3, 3)[1] == 0  # before the session nothing was ever released
    ring.release(2)
    assert ring.released == 4


def test_a_wait_that_the_writer_can_never_satisfy_is_an_error() -> None:
    ring = audio_ring(10, Delivery.WAIT)
    with pytest.raises(ValueError, match="at most 10 samples after the released 0, got 11"):
        ring.wait_until(11, TIMEOUT_S)


def test_waiting_for_audio_ends_with_its_time_the_close_or_the_samples() -> None:
    ring = audio_ring(10, Delivery.WAIT)
    assert ring.wait_until(1, 0.0) is False
    ring.write(ramp(0, 1))
    assert ring.wait_until(1, 0.0) is True
    ring.close()
    assert ring.wait_until(9, 0.0) is True
    assert ring.closed
    with pytest.raises(ValueError, match="closed AudioRing"):
        ring.write(ramp(1, 1))


@pytest.mark.parametrize("samples", [np.zeros((2, 2), np.float32), np.zeros(2, np.float64)])
def test_audio_of_another_kind_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(n,\) float32 samples"):
        audio_ring(10, Delivery.WAIT).write(AudioBlock(first=0, samples=samples))


@pytest.mark.parametrize("capacity_s", [0.0, -1.0, 0.00003])
def test_a_capacity_that_is_no_number_of_samples_is_refused(capacity_s: float) -> None:
    with pytest.raises(ValueError, match="whole number of samples"):
        AudioRing(capacity_s, delivery=Delivery.WAIT)


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_blocked_audio_writer_is_freed(end: str) -> None:
    ring = audio_ring(4, Delivery.WAIT)
    writer = Background(lambda: ring.write(ramp(0, 5)))
    assert ring.wait_until(4, TIMEOUT_S)
    getattr(ring, end)()
    error = writer.join()
    assert isinstance(error, Aborted if end == "abort" else ValueError)
    assert ring.end == 4


def test_an_abort_frees_the_reader_of_audio() -> None:
    ring = audio_ring(4, Delivery.WAIT)
    reader = Background(lambda: ring.wait_until(3))
    ring.abort()
    assert isinstance(reader.join(), Aborted)


@given(capacity=st.integers(1, 5), steps=st.lists(st.booleans(), max_size=40))
def test_live_frame_ring_keeps_the_newest_and_counts_the_rest(capacity: int, steps: list[bool]) -> None:
    ring = FrameRing(capacity, delivery=Delivery.DROP_OLDEST)
    unread: list[int] = []
    n_written = n_dropped = 0
    for write in steps:
        if write:
            ring.write(VideoFrame(t_ns=10 * n_written, image=picture(n_written)))
            unread.append(n_written)
            n_written += 1
            n_dropped += len(unread) > capacity
            unread = unread[-capacity:]
        else:
            frame = ring.read(0.0)
            assert (None if frame is None else frame.t_ns // 10) == (unread.pop(0) if unread else None)
        held = range(max(n_written - capacity, 0), n_written)
        for t_ns in range(-5, 10 * n_written + 10, 5):
            shown = ring.at(t_ns)
            expected = max((i for i in held if 10 * i <= t_ns), default=None)
            assert (None if shown is None else int(shown.image[0, 0, 0])) == expected
        assert (ring.n_unread, ring.n_dropped, ring.n_written) == (len(unread), n_dropped, n_written)


@settings(max_examples=20, deadline=None)
@given(capacity=st.integers(1, 4), n=st.integers(0, 60))
def test_waiting_frame_ring_loses_nothing_between_two_threads(capacity: int, n: int) -> None:
    ring = FrameRing(capacity, delivery=Delivery.WAIT)
    sizes = [(2, 3) if i % 20 < 10 else (4, 2) for i in range(n)]  # the size changes on the way

    def write() -> None:
        for i, size in enumerate(sizes):
            ring.write(VideoFrame(t_ns=i, image=picture(i, size)))
        ring.close()

    writer = Background(write)
    got = []
    while (frame := ring.read(TIMEOUT_S)) is not None:
        got.append(frame)
    assert writer.join() is None
    assert ring.ended
    assert [frame.t_ns for frame in got] == list(range(n))
    for i, frame in enumerate(got):  # after the ring was written over many times
        np.testing.assert_array_equal(frame.image, picture(i, sizes[i]))


def test_frames_are_copied_in_and_out() -> None:
    ring = FrameRing(1, delivery=Delivery.WAIT)
    image = picture(1)
    ring.write(VideoFrame(t_ns=0, image=image))
    image[:] = 9
    first = ring.read(0.0)
    assert first is not None
    ring.write(VideoFrame(t_ns=1, image=picture(2)))
    np.testing.assert_array_equal(first.image, picture(1))


def test_the_size_of_the_picture_is_that_of_the_newest_frame() -> None:
    ring = FrameRing(2, delivery=Delivery.WAIT)
    sizes = [ring.picture]
    for t_ns, (width, height) in enumerate(((4, 2), (3, 5))):
        ring.write(VideoFrame(t_ns=t_ns, image=np.zeros((height, width, 3), np.uint8)))
        sizes.append(ring.picture)
    assert sizes == [None, (4, 2), (3, 5)]


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_blocked_frame_writer_is_freed(end: str) -> None:
    ring = FrameRing(1, delivery=Delivery.WAIT)
    ring.write(VideoFrame(t_ns=0, image=picture(0)))
    writer = Background(lambda: ring.write(VideoFrame(t_ns=1, image=picture(1))))
    getattr(ring, end)()
    assert isinstance(writer.join(), Aborted if end == "abort" else ValueError)
    assert ring.n_written == 1


def test_an_abort_frees_the_reader_of_frames() -> None:
    ring = FrameRing(1, delivery=Delivery.WAIT)
    reader = Background(ring.read)
    ring.abort()
    assert isinstance(reader.join(), Aborted)


def test_a_closed_frame_ring_is_read_to_its_end() -> None:
    ring = FrameRing(2, delivery=Delivery.WAIT)
    ring.write(VideoFrame(t_ns=5, image=picture(3)))
    ring.close()
    assert not ring.ended
    frame = ring.read()
    assert frame is not None
    assert frame.t_ns == 5
    assert ring.ended
    assert ring.read() is None


def test_frames_that_do_not_fit_are_refused() -> None:
    ring = FrameRing(2, delivery=Delivery.WAIT)
    with pytest.raises(ValueError, match="expected a capacity of 1 frame or more, got 0"):
        FrameRing(0, delivery=Delivery.WAIT)
    with pytest.raises(ValueError, match=r"expected an image \(height, width, 3\) uint8, got \(2, 2\) uint8"):
        ring.write(VideoFrame(t_ns=0, image=np.zeros((2, 2), np.uint8)))
    ring.write(VideoFrame(t_ns=7, image=picture(0)))
    with pytest.raises(ValueError, match="expected a frame later than 7 ns, got one at 7 ns"):
        ring.write(VideoFrame(t_ns=7, image=picture(0)))


def test_audio_that_was_said_not_to_come_is_awaited_no_longer() -> None:
    ring = audio_ring(10, Delivery.WAIT)
    ring.write(ramp(0, 3))
    assert not ring.wait_until(5, 0)
    ring.advance(5)
    assert ring.wait_until(5, 0)
    assert not ring.wait_until(6, 0)
    assert ring.end == 3  # nothing was written: what comes at 5 leaves a gap, as it would have without
    ring.write(ramp(5, 1))
    samples, n_real = ring.read(0, 6)
    assert samples.tolist() == [1, 2, 3, 0, 0, 6]
    assert n_real == 4
    ring.advance(2)  # an earlier statement changes nothing
    assert ring.wait_until(6, 0)


def test_advance_wakes_a_reader_of_audio() -> None:
    ring = audio_ring(10, Delivery.WAIT)
    reached: list[bool] = []
    reader = Background(lambda: reached.append(ring.wait_until(4, TIMEOUT_S)))
    ring.advance(4)
    assert reader.join() is None
    assert reached == [True]


def test_frames_say_how_far_they_have_come() -> None:
    ring = FrameRing(2, delivery=Delivery.WAIT)
    ring.write(VideoFrame(t_ns=40, image=picture(0)))
    assert ring.advanced_ns == 40
    ring.advance(90)
    ring.advance(60)
    assert ring.advanced_ns == 90
