"""What each recogniser sees of a stream: persons are found once a frame, then cut as each recogniser asks."""

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import Literal, Self

import numpy as np

from stream.perception.crops import Geometry, cut, cut_frame
from stream.perception.detection import FaceDetector
from stream.perception.flow import OpticalFlow
from stream.perception.pose import N_LANDMARKS, PoseEstimator
from stream.perception.search import FaceSearch
from stream.perception.seen import PersonEvent
from stream.perception.tracking import FaceTracker, Track
from stream.records import VOICE_ONLY, Face, FrameFaces, VideoFrame

NS_PER_S = 1_000_000_000


class View:
    """One recogniser's pictures: how often, how cut, and with which optical flow and pose. One thread at a time.

    Args:
        picture: What crops look like.
        rate_hz: Frames for each second of media, at most: the first of each 1 / rate_hz is taken.
        flow: Which optical flow each crop comes with.
        pose: Whether each comes with the body's pose.
    """

    def __init__(
        self,
        picture: Geometry,
        *,
        rate_hz: float,
        flow: Literal["none", "lucas-kanade", "farneback", "dis"] = "none",
        pose: bool = False,
    ) -> None:
        if rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}")
        self.pose = pose
        self._picture, self._rate = picture, Fraction(rate_hz) / NS_PER_S
        self._flow = None if flow == "none" else OpticalFlow(flow)
        self._last_slot: int | None = None
        self._before: dict[int, np.ndarray] = {}  # crops of the frame before, by person

    def takes(self, t_ns: int) -> bool:
        """Whether the next frame is one of this view's; to be asked once a frame, in order."""
        slot = t_ns * self._rate.numerator // self._rate.denominator
        taken = slot != self._last_slot
        self._last_slot = slot
        return taken

    def see(self, frame: VideoFrame, tracks: Sequence[Track], pose: np.ndarray | None) -> FrameFaces:
        """The faces of a frame that the view takes.

        Args:
            frame: The frame.
            tracks: The persons visible in it.
            pose: (33, 3) float32, where a body was found.
        """
        body = (np.zeros((N_LANDMARKS, 3), np.float32) if pose is None else pose) if self.pose else None
        before, self._before = self._before, {}
        scene, moved = None, None
        if self._picture.align == "frame" or self._picture.fallback == "frame":
            scene = cut_frame(frame.image, self._picture.size_px)
            moved = self._moved(VOICE_ONLY, scene, before)
        faces = []
        for track in tracks:
            x, y, width, height = (round(value) for value in track.detection.box)
            box, score = (x, y, width, height), track.detection.score
            if self._picture.align == "frame" and scene is not None:
                crop, flow = scene, moved
            else:
                crop = cut(frame.image, track.detection, self._picture)
                flow = self._moved(track.person, crop, before)
            faces.append(Face(person=track.person, box=box, crop=crop, score=score, flow=flow, pose=body))
        whole = None
        if scene is not None:
            height_px, width_px = frame.image.shape[:2]
            box = (0, 0, width_px, height_px)
            whole = Face(person=VOICE_ONLY, box=box, crop=scene, score=0.0, flow=moved, pose=body)
        return FrameFaces(t_ns=frame.t_ns, faces=tuple(faces), whole=whole)

    def _moved(self, key: int, crop: np.ndarray, before: dict[int, np.ndarray]) -> np.ndarray | None:
        self._before[key] = crop
        return self._flow.between(before[key], crop) if self._flow is not None and key in before else None


class Perception:
    """Detects and follows faces, and hands each view what it takes: the same frames give the same, however paced.

    Used with `with`; one thread at a time.

    Args:
        views: One for each recogniser.
        detector: Finds the faces; this object opens and closes it. None takes a new `FaceDetector`.
    """

    def __init__(self, views: Sequence[View], *, detector: FaceDetector | None = None) -> None:
        self._views = tuple(views)
        self._detector = detector or FaceDetector()
        self._search = FaceSearch(self._detector.detect)
        self._tracker = FaceTracker()
        self._estimator = PoseEstimator() if any(view.pose for view in views) else None
        self._life = ExitStack()

    def __enter__(self) -> Self:
        """Load the networks. Raises networks.NetworkError where one cannot be had."""
        self._life.enter_context(self._detector)
        if self._estimator is not None:
            self._life.enter_context(self._estimator)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.__exit__(kind, error, trace)

    def process(self, frame: VideoFrame) -> list[FrameFaces | None]:
        """For each view what it sees of a frame; None where it does not take it.

        Raises:
            RuntimeError: If perception was not opened.
            ValueError: If the frame is not later than the last one analysed, or no RGB image.
        """
        taken = [view.takes(frame.t_ns) for view in self._views]
        if not any(taken):
            return [None] * len(taken)
        detections = self._search.find(frame.image, self._tracker.expected(frame.t_ns))
        tracks = self._tracker.update(frame.t_ns, detections)
        pose = None
        if self._estimator is not None and any(view.pose for view, t in zip(self._views, taken, strict=True) if t):
            found = self._estimator.estimate(frame.image, frame.t_ns)
            pose = None if found is None else found.landmarks
        return [view.see(frame, tracks, pose) if t else None for view, t in zip(self._views, taken, strict=True)]

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
