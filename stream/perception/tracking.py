"""Who is who over time: detections of successive frames become persons with stable ids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stream.perception.detection import Detection, Point

NS_PER_S = 1_000_000_000
TENTATIVE_NS = 300_000_000  # a face that is not confirmed is forgotten after that long unseen
PREDICT_NS = 500_000_000  # a face that is not seen is thought to move on for that long, then to stand
REACH = 1.0  # largest cost of a match: a face may be found one face size from where it was expected
REACH_PER_S = 0.5  # and that much further for each second that it was not seen


@dataclass(frozen=True, kw_only=True)
class TrackEvent:
    """A person appeared or was given up.

    Attributes:
        t_ns: Time of the frame that showed it.
        kind: `face_found` or `face_lost`.
        person: Whom it concerns.
    """

    t_ns: int
    kind: Literal["face_found", "face_lost"]
    person: int


@dataclass(frozen=True, kw_only=True)
class Track:
    """A confirmed person who is visible in the frame just analysed."""

    person: int
    detection: Detection


class _Candidate:
    """A face followed from frame to frame; a person once confirmed."""

    def __init__(self, t_ns: int, detection: Detection) -> None:
        self.person: int | None = None
        self.detection = detection
        self.first_ns = self.last_ns = t_ns
        self.n_seen = 1
        self.velocity = (0.0, 0.0)  # px per ns

    def expected(self, t_ns: int) -> Point:
        ahead = min(t_ns - self.last_ns, PREDICT_NS)
        (x, y), (vx, vy) = self.detection.centre, self.velocity
        return x + vx * ahead, y + vy * ahead

    def cost(self, t_ns: int, detection: Detection) -> float:
        """How unlike the expected face a detection is: distance in face sizes, and the logarithm of their ratio."""
        size, other = self.detection.size_px, detection.size_px
        if size <= 0 or other <= 0:
            return math.inf
        distance = math.dist(self.expected(t_ns), detection.centre) / math.sqrt(size * other)
        return distance + abs(math.log(size / other))

    def reach(self, t_ns: int) -> float:
        return REACH + REACH_PER_S * (t_ns - self.last_ns) / NS_PER_S

    def see(self, t_ns: int, detection: Detection) -> None:
        elapsed = t_ns - self.last_ns
        (x, y), (before_x, before_y), (vx, vy) = detection.centre, self.detection.centre, self.velocity
        # Half of the old velocity is kept: detections jitter by some per cent of the face.
        self.velocity = ((vx + (x - before_x) / elapsed) / 2, (vy + (y - before_y) / elapsed) / 2)
        self.detection, self.last_ns = detection, t_ns
        self.n_seen += 1


class FaceTracker:
    """Gives persons ids from 1, in the order in which they are confirmed.

    A face is confirmed once it was seen in two frames that lie `confirm_ns` apart or more; those of the stream's first
    analysed frame are believed at once, because waiting would delay the first estimate. A person who is not seen for
    longer than `lose_ns` is given up; who comes back sooner, near where they were expected, keeps the id. Appearance
    plays no part: a stranger who takes somebody's place within that time takes their id.

    The same calls give the same ids. One thread at a time.

    Args:
        confirm_ns: How long a new face must have been there.
        lose_ns: How long a person may stay unseen.
    """

    def __init__(self, *, confirm_ns: int = 100_000_000, lose_ns: int = 2_000_000_000) -> None:
        if confirm_ns < 0 or lose_ns <= 0:
            raise ValueError(f"expected confirm_ns >= 0 and lose_ns > 0, got {confirm_ns} and {lose_ns}")
        self._confirm_ns, self._lose_ns = confirm_ns, lose_ns
        self._candidates: list[_Candidate] = []
        self._events: list[TrackEvent] = []
        self._last_ns: int | None = None
        self._n_confirmed = 0

    def update(self, t_ns: int, detections: Sequence[Detection]) -> list[Track]:
        """Take the faces of the next analysed frame.

        Args:
            t_ns: Its time, later than the last one's.
            detections: Its faces, in any order.

        Returns:
            The confirmed persons visible in it, ascending.

        Raises:
            ValueError: If the time does not advance.
        """
        if self._last_ns is not None and t_ns <= self._last_ns:
            raise ValueError(f"expected a frame after {self._last_ns} ns, got one at {t_ns} ns")
        is_first, self._last_ns = self._last_ns is None, t_ns
        self._forget(t_ns)
        rest = list(detections)
        # Persons choose first: a flickering false face beside somebody must not take their place.
        for confirmed in (True, False):
            rest = self._match(t_ns, [c for c in self._candidates if (c.person is not None) == confirmed], rest)
        # From left to right, so that ids given in one frame do not depend on the detector's order.
        self._candidates += [_Candidate(t_ns, one) for one in sorted(rest, key=lambda one: one.box)]
        for candidate in self._candidates:
            lasting = candidate.n_seen >= 2 and t_ns - candidate.first_ns >= self._confirm_ns
            if candidate.person is None and candidate.last_ns == t_ns and (is_first or lasting):
                self._n_confirmed += 1
                candidate.person = self._n_confirmed
                self._events.append(TrackEvent(t_ns=t_ns, kind="face_found", person=candidate.person))
        seen = [c for c in self._candidates if c.last_ns == t_ns]
        tracks = [Track(person=c.person, detection=c.detection) for c in seen if c.person is not None]
        return sorted(tracks, key=lambda track: track.person)

    def events(self) -> list[TrackEvent]:
        """What happened since the last call, in order."""
        drained, self._events = self._events, []
        return drained

    @property
    def n_persons(self) -> int:
        """Persons who were confirmed and are not given up."""
        return sum(candidate.person is not None for candidate in self._candidates)

    def expected(self, t_ns: int) -> list[tuple[Point, float]]:
        """Where faces, confirmed or not, are looked for at `t_ns`: centre and size in pixels."""
        return [(candidate.expected(t_ns), candidate.detection.size_px) for candidate in self._candidates]

    def _forget(self, t_ns: int) -> None:
        kept = []
        for candidate in self._candidates:
            unseen_ns = t_ns - candidate.last_ns
            if unseen_ns <= (TENTATIVE_NS if candidate.person is None else self._lose_ns):
                kept.append(candidate)
            elif candidate.person is not None:
                self._events.append(TrackEvent(t_ns=t_ns, kind="face_lost", person=candidate.person))
        self._candidates = kept

    def _match(self, t_ns: int, candidates: list[_Candidate], detections: list[Detection]) -> list[Detection]:
        """Give candidates their detections, the cheapest pair first; returns the detections that nobody took."""
        costs = [
            (candidate.cost(t_ns, detection), i, j)
            for i, candidate in enumerate(candidates)
            for j, detection in enumerate(detections)
        ]
        taken_i: set[int] = set()
        taken_j: set[int] = set()
        for cost, i, j in sorted(costs):
            if i not in taken_i and j not in taken_j and cost <= candidates[i].reach(t_ns):
                taken_i.add(i)
                taken_j.add(j)
                candidates[i].see(t_ns, detections[j])
        return [detection for j, detection in enumerate(detections) if j not in taken_j]
