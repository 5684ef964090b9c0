"""A camera and a microphone as one source: put on one timeline, merged in order, and still there when one goes.

Items are handed out in ascending order of the time when they are complete, as a replayed file's are, so that the line
after it cannot tell them apart. Each device is waited for, but not for long, and not at all while it is lost.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from stream.clock import Clock, MonotonicClock
from stream.records import RATE_HZ, AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.sources.device import Back, Device, Lost, Picture, Sink, Sound
from stream.windows import NS_PER_S

Item = VideoFrame | AudioBlock | SourceEvent
HOLD_NS = {"camera": 150_000_000, "microphone": 700_000_000}  # how much longer than it takes a device is waited for
LONGEST_HOLD_NS = 3 * NS_PER_S
N_LATENESS = 16  # items over which the least time is taken that a device needs to hand something on
ROOM = {"camera": 16, "microphone": 4096}  # items that may wait to be merged: beyond, the line is behind
POLL_S = 0.05


class Grid(Protocol):
    """Puts what a microphone hands on upon the session's grid; `stream.sources.drift.LiveAudioGrid` does."""

    drift_ppm: float | None
    residual_ms: float | None

    def push(self, sound: Sound) -> list[AudioBlock]: ...
    def flush(self) -> list[AudioBlock]: ...


class LiveSource:
    """A camera, a microphone, or both; opened by `with`, iterated once, until `stop`.

    Args:
        camera: Makes the camera for a sink; None where there is none.
        microphone: Makes the microphone for a sink; None where there is none.
        grid: Makes what puts its sound on the timeline, whose zero (clock ns) it is given.
        clock: The session clock, which the devices stamp by.
        name: Name of the stream.
        late_ns: How late the camera's picture is, by the names of both devices; taken off its times.

    Attributes:
        clock: The session clock.
        n_left_out: Pictures and runs of sound that came too late to be in order, or found no room.

    Raises:
        ValueError: If there is neither.
    """

    paced = True

    def __init__(
        self,
        *,
        camera: Callable[[Sink], Device] | None,
        microphone: Callable[[Sink], Device] | None,
        grid: Callable[[int], Grid],
        clock: Clock | None = None,
        name: str = "live",
        late_ns: Callable[[str, str], int] = lambda camera, microphone: 0,
    ) -> None:
        if camera is None and microphone is None:
            raise ValueError("expected a camera, a microphone, or both, got neither")
        self.clock = clock or MonotonicClock()
        self._make_grid, self._name, self._late_ns = grid, name, late_ns
        self._arrived = threading.Condition()
        self._came: deque[tuple[str, Picture | Sound | Lost | Back]] = deque()  # in order of arrival
        self._n_waiting = dict.fromkeys(ROOM, 0)  # pictures and sounds among these
        makers = {"camera": camera, "microphone": microphone}
        self._devices = {role: make(self._sink(role)) for role, make in makers.items() if make is not None}
        self._life = ExitStack()
        self._begun = self._stopped = False
        self.n_left_out = 0
        self._overruns = 0
        self._grid: Grid | None = None

    def _sink(self, role: str) -> Sink:
        def take(item: Picture | Sound | Lost | Back) -> None:
            with self._arrived:
                if isinstance(item, Picture | Sound):
                    if not self._begun:
                        return  # the session is still being opened, which may take seconds
                    self._make_room(role)
                    self._n_waiting[role] += 1
                if isinstance(item, Sound):
                    self._overruns += item.overflowed
                self._came.append((role, item))
                self._arrived.notify()

        return take

    def _make_room(self, role: str) -> None:
        if self._n_waiting[role] < ROOM[role]:
            return
        media = (k for k, (owner, item) in enumerate(self._came) if owner == role and isinstance(item, Picture | Sound))
        del self._came[next(media)]  # the newest is kept
        self._n_waiting[role] -= 1
        self.n_left_out += 1

    @property
    def info(self) -> SourceInfo:
        """What the devices are; known once entered."""
        return SourceInfo(
            name=self._name,
            has_video="camera" in self._devices,
            has_audio="microphone" in self._devices,
            frame_rate_hz=None,
            duration_s=None,
            text="; ".join(device.text for device in self._devices.values()),
        )

    @property
    def names(self) -> dict[str, str]:
        """What each device is found by again, by its role; known once entered."""
        return {role: device.name for role, device in self._devices.items()}

    def health(self) -> SourceHealth:
        """How the devices run. Any thread may call."""
        grid = self._grid
        return SourceHealth(
            overruns=self._overruns,
            left_out=self.n_left_out,
            drift_ppm=None if grid is None else grid.drift_ppm,
            residual_ms=None if grid is None else grid.residual_ms,
        )

    def __enter__(self) -> Self:
        """Open the devices. Raises SourceError if one cannot be opened."""
        with ExitStack() as opening:
            for device in self._devices.values():
                opening.enter_context(device)
            self._life = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.__exit__(kind, error, trace)

    def stop(self) -> None:
        """End the iteration. Any thread may call."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify()

    def __iter__(self) -> Iterator[Item]:
        """The items, from now on, once."""
        zero_ns = self.clock.now_ns()
        self._grid = self._make_grid(zero_ns) if "microphone" in self._devices else None
        names = self.names
        late_ns = self._late_ns(names["camera"], names["microphone"]) if len(names) == 2 else 0
        merge = Merge(zero_ns, tuple(self._devices), late_ns=late_ns)
        self._begun = True
        while True:
            with self._arrived:
                if not (self._stopped or self._came):
                    self._arrived.wait(POLL_S)
                if self._stopped:
                    return
                came, self._came = self._came, deque()
                self._n_waiting = dict.fromkeys(ROOM, 0)
            now_ns = self.clock.now_ns()
            for role, item in came:
                match item:
                    case Picture():
                        merge.add_picture(item, now_ns)
                    case Sound() if self._grid is not None:
                        merge.add_blocks(self._grid.push(item), now_ns)
                    case Lost() | Back():
                        if role == "microphone" and self._grid is not None:
                            merge.add_blocks(self._grid.flush(), now_ns)  # samples are counted anew from here
                        yield merge.changed(role, item)
            yield from merge.ready(now_ns)
            with self._arrived:
                self.n_left_out += merge.take_late()


class Merge:
    """Orders what two devices give by when it is complete; one thread.

    Args:
        zero_ns: Clock time of the session's zero.
        roles: The devices there are.
        late_ns: How late the camera's picture is.
    """

    def __init__(self, zero_ns: int, roles: tuple[str, ...], *, late_ns: int = 0) -> None:
        self._zero_ns, self._late_ns = zero_ns, late_ns
        self._known_ns = dict.fromkeys(roles, 0)  # no item of the device that ends before this can still come
        self._lateness_ns: dict[str, deque[int]] = {role: deque(maxlen=N_LATENESS) for role in roles}
        self._live = set(roles)
        self._waiting: list[tuple[int, int, int, VideoFrame | AudioBlock]] = []  # time, sound first, number, item
        self._n = 0
        self._handed_ns = -1
        self._last_frame_ns = -1
        self._n_late = 0

    def add_picture(self, picture: Picture, now_ns: int) -> None:
        """A picture from the camera; one from before the session, or not after the last one, is left out."""
        t_ns = picture.at_ns - self._late_ns - self._zero_ns
        if t_ns < 0:
            return
        self._add("camera", t_ns, VideoFrame(t_ns=t_ns, image=picture.image), now_ns)

    def add_blocks(self, blocks: list[AudioBlock], now_ns: int) -> None:
        """Sound on the session's grid, in order; what lies before the session is left out."""
        for block in blocks:
            end = block.first + len(block.samples)
            if end > 0:
                self._add("microphone", -(-end * NS_PER_S // RATE_HZ), block, now_ns)

    def _add(self, role: str, t_ns: int, item: VideoFrame | AudioBlock, now_ns: int) -> None:
        self._lateness_ns[role].append(now_ns - self._zero_ns - t_ns)
        if t_ns < self._handed_ns or (role == "camera" and t_ns <= self._last_frame_ns):
            self._n_late += 1
            return
        if role == "camera":
            self._last_frame_ns = t_ns
        self._known_ns[role] = max(self._known_ns[role], t_ns)
        self._n += 1
        heapq.heappush(self._waiting, (t_ns, role == "camera", self._n, item))

    def changed(self, role: str, change: Lost | Back) -> SourceEvent:
        """The event of a device that was lost or came back."""
        t_ns = max(change.at_ns - self._zero_ns, 0)
        if isinstance(change, Lost):
            self._live.discard(role)
        else:
            self._live.add(role)
            self._known_ns[role] = max(self._known_ns[role], t_ns)
        kind = "device_lost" if isinstance(change, Lost) else "device_back"
        return SourceEvent(t_ns=t_ns, kind=kind, text=f"{role}: {change.text}")

    def ready(self, now_ns: int) -> Iterator[VideoFrame | AudioBlock]:
        """The items that nothing earlier can come before any more, or that have waited long enough."""
        now_ns -= self._zero_ns
        while self._waiting:
            t_ns, is_picture, _, item = self._waiting[0]
            other = "microphone" if is_picture else "camera"
            awaited = other in self._live and self._known_ns[other] < t_ns
            if awaited and now_ns < t_ns + self._hold_ns(other):
                return
            heapq.heappop(self._waiting)
            self._handed_ns = t_ns
            yield item

    def _hold_ns(self, role: str) -> int:
        # A camera behind a network is late by its stated latency, always: waiting less would lose every picture. The
        # least of the last ones is taken, so that a line which stood still for a while waits no longer for that.
        least_ns = max(min(self._lateness_ns[role], default=0), 0)
        return min(HOLD_NS[role] + least_ns, LONGEST_HOLD_NS)

    def take_late(self) -> int:
        """How many came too late to be in order since this was last asked."""
        n_late, self._n_late = self._n_late, 0
        return n_late
