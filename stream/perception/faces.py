"""Face perception: a stream of frames becomes persons and their crops, for one geometry."""

from types import TracebackType
from typing import Self

from stream.perception.crops import Geometry
from stream.perception.detection import Detection, FaceDetector
from stream.perception.seen import PersonEvent
from stream.perception.views import Perception, View
from stream.records import FrameFaces, VideoFrame

__all__ = ["Detection", "FaceDetector", "FacePerception"]


class FacePerception:
    """`Perception` with one view. Detects, follows and cuts faces at a given rate of media time.

    Used with `with`; one thread at a time.

    Args:
        geometry: What the crops must look like.
        analysis_hz: Frames analysed for each second of media, at most.
        detector: Finds the faces; this object opens and closes it. None takes a new `FaceDetector`.
    """

    def __init__(self, geometry: Geometry, *, analysis_hz: float = 12.5, detector: FaceDetector | None = None) -> None:
        self._perception = Perception([View(geometry, rate_hz=analysis_hz)], detector=detector)

    def __enter__(self) -> Self:
        """Load the network. Raises networks.NetworkError where it cannot be had."""
        self._perception.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._perception.__exit__(kind, error, trace)

    def process(self, frame: VideoFrame) -> FrameFaces | None:
        """The faces of a frame; None where the frame is not analysed: the first one of each 1 / analysis_hz is.

        Raises:
            RuntimeError: If perception was not opened.
            ValueError: If the frame is not later than the last one analysed, or no RGB image.
        """
        return self._perception.process(frame)[0]

    def events(self) -> list[PersonEvent]:
        """Persons found and lost since the last call, in order."""
        return self._perception.events()

    @property
    def n_persons(self) -> int:
        """Persons tracked now, those unseen for less than two seconds included."""
        return self._perception.n_persons
