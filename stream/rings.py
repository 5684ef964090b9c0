"""Bounded, preallocated memory between a source and what reads it: audio by sample index, video frames in order.

A ring has one writer thread and one reader thread. What happens when it is full is its `Delivery`.
"""

from collections.abc import Callable

import numpy as np

from stream.delivery import Aborted, Bounded, Delivery
from stream.records import RATE_HZ, AudioBlock, VideoFrame


class AudioRing(Bounded):
    """Mono samples addressed by their absolute index on the session timeline, and which of them are real.

    Samples that were never captured (a gap), and those before index 0, read as zeros that are not real.

    Args:
        capacity_s: Seconds held; must be a whole number of samples.
        rate_hz: Sample rate.
        delivery: `wait` blocks the writer while it would overwrite samples that were not released; `drop_oldest`
            overwrites them and counts.

    Attributes:
        n_dropped: Real samples overwritten before the reader released them; always 0 under `wait`.
        n_gap: Samples that the blocks written so far jumped over.
        n_overlap: Samples left out of writes because their place was already taken or lies before index 0.
    """

    def __init__(self, capacity_s: float, *, rate_hz: int = RATE_HZ, delivery: Delivery) -> None:
        super().__init__(delivery)
        self.capacity = round(capacity_s * rate_hz)
        if self.capacity <= 0 or abs(self.capacity - capacity_s * rate_hz) > 1e-6:
            raise ValueError(f"expected a positive, whole number of samples, got {capacity_s} s at {rate_hz} Hz")
        self._samples = np.zeros(self.capacity, np.float32)
        self._real = np.zeros(self.capacity, np.bool_)
        self._end = 0
        self._advanced = 0
        self._released = 0
        self.n_dropped = self.n_gap = self.n_overlap = 0

    @property
    def end(self) -> int:
        """Index after the newest sample known so far, real or gap."""
        with self._changed:
            return self._end

    @property
    def released(self) -> int:
        """Index before which the reader wants nothing any more."""
        with self._changed:
            return self._released

    def write(self, block: AudioBlock) -> None:
        """Append a block; a jump forward leaves a gap, what lies before `end` is left out. The writer's thread.

        Under `wait` it blocks while there is no room, and a block or gap longer than the ring goes in piece by piece.

        Raises:
            Aborted: If the ring is or becomes aborted.
            ValueError: If the ring is closed, or the samples are not one-dimensional float32.
        """
        samples = block.samples
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"expected (n,) float32 samples, got {samples.shape} {samples.dtype}")
        with self._changed:
            self._check_open()
            n_taken = min(max(self._end - block.first, 0), len(samples))
            self.n_overlap += n_taken
            if n_taken < len(samples):
                n_gap = max(block.first - self._end, 0)
                self.n_gap += n_gap
                self._append(None, n_gap)
                self._append(samples[n_taken:], len(samples) - n_taken)

    def read(self, start: int, n: int) -> tuple[np.ndarray, int]:
        """The samples [start, start + n) as they are known now. The reader's thread.

        What lies before index 0, at or after `end`, or in a gap is zero. So is what `drop_oldest` has overwritten: a
        live reader that came late finds a gap, and `n_dropped` has counted it.

        Returns:
            (n,) float32 copy, owned by the caller, and how many of the samples are real.

        Raises:
            ValueError: If `n` is negative, or samples are asked for that were released: whether they were still there
                would depend on how far the writer had come.
        """
        if n < 0:
            raise ValueError(f"expected 0 or more samples to read, got {n}")
        out = np.zeros(n, np.float32)
        with self._changed:
            if max(start, 0) < min(start + n, self._released):
                raise ValueError(f"expected a read at or after the released sample {self._released}, got {start}")
            first = max(start, self._end - self.capacity, 0)
            last = min(start + n, self._end)
            n_real = 0
            for place, held in self._pieces(first, last):
                out[held - start : held - start + place.stop - place.start] = self._samples[place]
                n_real += int(np.count_nonzero(self._real[place]))
        return out, n_real

    def release(self, index: int) -> None:
        """Say that nothing before `index` will be read again; an earlier index than before changes nothing.

        Any thread may call. An index after `end` is allowed: samples until there may be overwritten as they come.
        """
        with self._changed:
            if index > self._released:
                self._released = index
                self._changed.notify_all()

    def advance(self, index: int) -> None:
        """State that no sample before `index` will be written any more: what lies before it is known. The writer's
        thread. Nothing is written: a track that starts late or pauses does not hold up those who wait.
        """
        with self._changed:
            if index > self._advanced:
                self._advanced = index
                self._changed.notify_all()

    def wait_until(self, index: int, timeout_s: float | None = None) -> bool:
        """Block until `end`, or what `advance` stated, is at least `index`, or the ring is closed. The reader's thread.

        Args:
            index: Index after the last sample that is wanted.
            timeout_s: Longest wait; None waits without limit.

        Returns:
            True once it is so; False where `timeout_s` ran out first.

        Raises:
            Aborted: If the ring is or becomes aborted.
            ValueError: Under `wait`, if `index` is further than the capacity from the released sample: the writer
                could never get there.
        """
        with self._changed:
            if self.delivery is Delivery.WAIT and index - self._released > self.capacity and not self._closed:
                raise ValueError(
                    f"expected to wait for at most {self.capacity} samples after the released {self._released}, "
                    f"got {index}; release what was read, or make the ring longer"
                )
            self._changed.wait_for(lambda: self._aborted or self._closed or self._known() >= index, timeout_s)
            if self._aborted:
                raise Aborted("the AudioRing was aborted")
            return self._closed or self._known() >= index

    def _known(self) -> int:
        return max(self._end, self._advanced)

    def _append(self, samples: np.ndarray | None, n: int) -> None:
        # None stands for a gap. The lock is held, and is given up only while there is no room.
        done = 0
        while done < n:
            if self.delivery is Delivery.WAIT:
                self._changed.wait_for(lambda: self._aborted or self._closed or self._room() > 0)
                self._check_open()
                size = min(n - done, self._room())
            else:
                size = min(n - done, self.capacity)
                self._count_lost(size)
            for place, index in self._pieces(self._end, self._end + size):
                source = done + index - self._end
                width = place.stop - place.start
                self._samples[place] = 0 if samples is None else samples[source : source + width]
                self._real[place] = samples is not None
            self._end += size
            done += size
            self._changed.notify_all()

    def _room(self) -> int:
        return min(self._released - self._end, 0) + self.capacity

    def _count_lost(self, size: int) -> None:
        first = max(self._end - self.capacity, self._released, 0)
        for place, _ in self._pieces(first, min(self._end + size - self.capacity, self._end)):
            self.n_dropped += int(np.count_nonzero(self._real[place]))

    def _pieces(self, first: int, last: int) -> list[tuple[slice, int]]:
        # Where [first, last), at most one capacity, lies in memory: (place, index of its first sample), in order.
        if first >= last:
            return []
        at, n = first % self.capacity, last - first
        n_head = min(n, self.capacity - at)
        pieces = [(slice(at, at + n_head), first)]
        return pieces if n_head == n else [*pieces, (slice(0, n - n_head), first + n_head)]


class FrameRing(Bounded):
    """Video frames in order of time. Slots are allocated at the first frame, and again if the size changes.

    `write` copies into a slot and `read` copies out of it: neither side ever holds the ring's memory.

    Args:
        capacity: Frames held.
        delivery: `wait` blocks the writer while every slot holds an unread frame; `drop_oldest` drops the oldest
            unread frame and counts it.
        dropped: Told the time of each frame that is dropped, by the writer's thread.

    Attributes:
        n_written: Frames written so far.
        n_dropped: Frames that were overwritten unread; always 0 under `wait`.
    """

    def __init__(
        self, capacity: int, *, delivery: Delivery, dropped: Callable[[int], None] = lambda t_ns: None
    ) -> None:
        super().__init__(delivery)
        self._dropped = dropped
        if capacity <= 0:
            raise ValueError(f"expected a capacity of 1 frame or more, got {capacity}")
        self.capacity = capacity
        self._slots: list[np.ndarray] = []
        self._times_ns = np.zeros(capacity, np.int64)
        self.n_written = 0
        self._n_passed = 0  # read or dropped
        self.n_dropped = 0
        self._advanced_ns = 0

    @property
    def n_unread(self) -> int:
        """Frames that wait to be read."""
        with self._changed:
            return self.n_written - self._n_passed

    @property
    def ended(self) -> bool:
        """Whether the ring is closed and every frame was read: `read` will return None for ever."""
        with self._changed:
            return self._closed and self._n_passed == self.n_written

    @property
    def advanced_ns(self) -> int:
        """No frame earlier than this will be written any more."""
        with self._changed:
            return self._advanced_ns

    @property
    def picture(self) -> tuple[int, int] | None:
        """Width and height of the newest frame in pixels; None before the first."""
        with self._changed:
            if not self.n_written:
                return None
            height, width, _ = self._slots[(self.n_written - 1) % self.capacity].shape
            return width, height

    def advance(self, t_ns: int) -> None:
        """State that no frame earlier than `t_ns` will be written any more. The writer's thread."""
        with self._changed:
            self._advanced_ns = max(self._advanced_ns, t_ns)

    def write(self, frame: VideoFrame) -> None:
        """Copy a frame in. The writer's thread; the image stays the caller's.

        Raises:
            Aborted: If the ring is or becomes aborted.
            ValueError: If the ring is closed, the image is not (height_px, width_px, 3) uint8, or the frame is not
                later than the one before it.
        """
        image = frame.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected an image (height, width, 3) uint8, got {image.shape} {image.dtype}")
        with self._changed:
            self._check_open()
            last_ns = self._times_ns[(self.n_written - 1) % self.capacity]
            if self.n_written and frame.t_ns <= last_ns:
                raise ValueError(f"expected a frame later than {last_ns} ns, got one at {frame.t_ns} ns")
            self._make_room()
            slot = self.n_written % self.capacity
            if not self._slots:
                self._slots = [np.empty_like(image, order="C") for _ in range(self.capacity)]
            if self._slots[slot].shape != image.shape:
                self._slots[slot] = np.empty_like(image, order="C")
            self._slots[slot][...] = image
            self._times_ns[slot] = frame.t_ns
            self.n_written += 1
            self._advanced_ns = max(self._advanced_ns, frame.t_ns)
            self._changed.notify_all()

    def read(self, timeout_s: float | None = None) -> VideoFrame | None:
        """The next unread frame, in order; its image is a copy that the caller owns. The reader's thread.

        Args:
            timeout_s: Longest wait; None waits until there is a frame or the ring is closed.

        Returns:
            The frame; None where `timeout_s` ran out, or the ring is closed and all was read (`ended`).

        Raises:
            Aborted: If the ring is or becomes aborted.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._closed or self._n_passed < self.n_written, timeout_s)
            if self._aborted:
                raise Aborted("the FrameRing was aborted")
            if self._n_passed == self.n_written:
                return None
            frame = self._copy(self._n_passed)
            self._n_passed += 1
            self._changed.notify_all()
            return frame

    def at(self, t_ns: int) -> VideoFrame | None:
        """The frame shown at `t_ns`: the newest held one, read or not, that is not later; None where none is held.

        It knows the last `capacity` frames written. The image is a copy that the caller owns. Any thread may call.
        """
        with self._changed:
            held = np.arange(max(self.n_written - self.capacity, 0), self.n_written)
            n_until = int(np.searchsorted(self._times_ns[held % self.capacity], t_ns, side="right"))
            return self._copy(int(held[n_until - 1])) if n_until else None

    def _make_room(self) -> None:
        if self.delivery is Delivery.WAIT:
            self._changed.wait_for(lambda: self._aborted or self._closed or self._has_room())
            self._check_open()
        elif not self._has_room():
            self._dropped(int(self._times_ns[self._n_passed % self.capacity]))
            self._n_passed += 1
            self.n_dropped += 1

    def _has_room(self) -> bool:
        return self.n_written - self._n_passed < self.capacity

    def _copy(self, number: int) -> VideoFrame:
        slot = number % self.capacity
        return VideoFrame(t_ns=int(self._times_ns[slot]), image=self._slots[slot].copy())
