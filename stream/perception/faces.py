"""Face perception: a stream of frames becomes persons and their crops."""

from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import Self

from stream.perception.crops import Geometry, cut
from stream.perception.detection import Detection, FaceDetector
from stream.perception.search import FaceSearch
from stream.perception.seen import PersonEvent
from stream.perception.tracking import FaceTracker, Track
from stream.records import Face, FrameFaces, VideoFrame

__all__ = ["Detection", "FaceDetector", "FacePerception"]

NS_PER_S = 1_000_000_000


class FacePerception:
    """Detects, follows and cuts faces at a given rate of media time: the same frames give the same faces.

    Used with `with`; one thread at a time.

    Args:
        geometry: What the crops must look like.
        analysis_hz: Frames analysed for each second of media, at most.
        detector: Finds the faces; this object opens and closes it. None takes a new `FaceDetector`.
    """

    def __init__(self, geometry: Geometry, *, analysis_hz: float = 12.5, detector: FaceDetector | None = None) -> None:
        if analysis_hz <= 0:
            raise ValueError(f"analysis_hz must be positive, got {analysis_hz}")
        self._geometry, self._rate = geometry, Fraction(analysis_hz) / NS_PER_S
        self._detector = detector or FaceDetector()
        self._search = FaceSearch(self._detector.detect)
        self._tracker = FaceTracker()
        self._last_slot: int | None = None
        self._life = ExitStack()

    def __enter__(self) -> Self:
        """Load the network. Raises networks.NetworkError where it cannot be had."""
        self._life.enter_context(self._detector)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.__exit__(kind, error, trace)

    def process(self, frame: VideoFrame) -> FrameFaces | None:
        """The faces of a frame; None where the frame is not analysed: the first one of each 1 / analysis_hz is.

        Raises:
            RuntimeError: If perception was not opened.
            ValueError: If the frame is not later than the last one analysed, or no RGB image.
        """
        slot = frame.t_ns * self._rate.numerator // self._rate.denominator
        if slot == self._last_slot:
            return None
        self._last_slot = slot
        detections = self._search.find(frame.image, self._tracker.expected(frame.t_ns))
        tracks = self._tracker.update(frame.t_ns, detections)
        return FrameFaces(t_ns=frame.t_ns, faces=tuple(self._face(frame, track) for track in tracks))

    def events(self) -> list[PersonEvent]:
        """Persons found and lost since the last call, in order."""
        return [
            PersonEvent(
                t_ns=event.t_ns,
                kind=event.kind,
                text=f"face of person {event.person} {'found' if event.kind == 'face_found' else 'lost'}",
                person=event.person,
            )
            for event in self._tracker.events()
        ]

    @property
    def n_persons(self) -> int:
        """Persons tracked now, those unseen for less than two seconds included."""
        return self._tracker.n_persons

    def _face(self, frame: VideoFrame, track: Track) -> Face:
        found = track.detection
        x, y, width, height = (round(value) for value in found.box)
        return Face(
            person=track.person,
            box=(x, y, width, height),
            crop=cut(frame.image, found, self._geometry),
            score=found.score,
        )
