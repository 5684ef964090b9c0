"""What perception has seen: the analysed frames of the last seconds, addressed by time, between two threads."""

from collections import deque
from dataclasses import dataclass

from stream.delivery import Aborted, Bounded, Delivery
from stream.records import FrameFaces, SourceEvent


@dataclass(frozen=True, kw_only=True)
class PersonEvent(SourceEvent):
    """A person who appeared or left: kind `face_found` or `face_lost`."""

    person: int


class SeenFaces(Bounded):
    """A log of analysed frames that perception writes and scoring reads.

    Args:
        capacity: Frames kept. Full, it makes perception wait, or drops the oldest and counts it.
        delivery: `wait` or `drop_oldest`.
    """

    def __init__(self, capacity: int, *, delivery: Delivery) -> None:
        super().__init__(delivery)
        self._capacity = capacity
        self._frames: deque[FrameFaces] = deque()
        self._events: deque[PersonEvent] = deque()
        self._watermark_ns = 0
        self._newest_ns = -1
        self.n_dropped = 0

    def append(self, frame: FrameFaces, events: tuple[PersonEvent, ...] = ()) -> None:
        """Add the next analysed frame. Perception thread. Raises Aborted once the log was aborted."""
        with self._changed:
            while len(self._frames) >= self._capacity and self.delivery is Delivery.WAIT and not self._aborted:
                self._changed.wait()
            if self._aborted:
                raise Aborted("the SeenFaces was aborted")
            if len(self._frames) >= self._capacity:
                self._frames.popleft()
                self.n_dropped += 1
            self._frames.append(frame)
            self._events.extend(events)
            self._pass(frame.t_ns)

    def pass_over(self, t_ns: int) -> None:
        """Say that there was a frame at `t_ns` which was not analysed. Perception thread."""
        with self._changed:
            self._pass(t_ns)

    def _pass(self, t_ns: int) -> None:
        # A frame at t says that everything before t is known.
        self._newest_ns = t_ns
        self._watermark_ns = max(self._watermark_ns, t_ns)
        self._changed.notify_all()

    def advance(self, t_ns: int) -> None:
        """State that no frame before `t_ns` will follow. Perception thread."""
        with self._changed:
            if t_ns > self._watermark_ns:
                self._watermark_ns = t_ns
                self._changed.notify_all()

    def wait_past(self, t_ns: int, timeout_s: float) -> bool:
        """Wait until every frame before `t_ns` is here or the log is closed; False when the time ran out.

        Raises:
            Aborted: If the log is or becomes aborted: what it holds may then lack frames.
        """
        with self._changed:
            past = self._changed.wait_for(
                lambda: self._aborted or self._closed or self._watermark_ns >= t_ns, timeout_s
            )
            if self._aborted:
                raise Aborted("the SeenFaces was aborted")
            return past

    def take(self, start_ns: int, end_ns: int) -> list[FrameFaces]:
        """Frames in [start, end), ascending; these and all before them leave the log. Scoring thread."""
        taken = []
        with self._changed:
            while self._frames and self._frames[0].t_ns < end_ns:
                frame = self._frames.popleft()
                if frame.t_ns >= start_ns:
                    taken.append(frame)
            self._changed.notify_all()
        return taken

    def take_events(self, end_ns: int) -> list[PersonEvent]:
        """Events before `end_ns`, in order; they leave the log."""
        with self._changed:
            taken = []
            while self._events and self._events[0].t_ns < end_ns:
                taken.append(self._events.popleft())
            return taken

    def ended_before(self, t_ns: int) -> bool:
        """Whether the log is closed and no frame, analysed or not, came at `t_ns` or later."""
        with self._changed:
            return self._closed and self._newest_ns < t_ns
