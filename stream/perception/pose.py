"""Body pose in one image: BlazePose's 33 landmarks, by MediaPipe."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream.perception.mediapipe_tasks import without_log_chatter
from stream.perception.pose_task import PoseTask, bundle, load_pose_task

N_LANDMARKS = 33


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """A body in an image.

    Attributes:
        t_ns: Of the image.
        landmarks: (33, 3) float32, in metres: x to the right of the image, y downwards, z away from the camera. The
            origin lies between the hips and the network scales the body to a typical person's: place and distance in
            the image, as tests vary them, change a coordinate by ten centimetres at most. Landmarks that the image does
            not show are the network's guess. In BlazePose's order: 0 nose, 1-6 eyes, 7-8 ears, 9-10 mouth, 11-12
            shoulders, 13-14 elbows, 15-22 hands, 23-24 hips, 25-32 legs; of each pair the subject's left first.
        visibility: (33,) float32 in [0, 1]: how sure the network is that a landmark is in the image and not hidden.
    """

    t_ns: int
    landmarks: NDArray[np.float32]
    visibility: NDArray[np.float32]


class PoseEstimator:
    """Finds the most prominent body in single images: the same image gives the same pose, whatever came before it.

    MediaPipe also offers a video mode that looks for the body where it was, and smooths. On real clips that is a third
    cheaper (10 ms a frame against 17) and steadier (2 mm a frame against 5 on the shoulders of a person that talks),
    but its numbers hang on all frames since it was opened: a dropped frame, a seek, or a clip cut elsewhere would
    change them, and training sees clips where a stream has none.

    Used with `with`; one thread at a time.

    Args:
        min_score: Bodies of which either network is less sure are none, in [0, 1].
    """

    def __init__(self, *, min_score: float = 0.5) -> None:
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1], got {min_score}")
        self._min_score = min_score
        self._task: PoseTask | None = None
        self._landmarker: Any = None
        self._met_body = False

    def __enter__(self) -> Self:
        """Load the networks. Raises networks.NetworkError where one cannot be had."""
        self._task = task = load_pose_task()
        options = task.options(
            base_options=task.base_options(model_asset_buffer=bundle(task)),
            min_pose_detection_confidence=self._min_score,
            min_pose_presence_confidence=self._min_score,
        )
        with without_log_chatter():
            self._landmarker = task.landmarker.create_from_options(options)
        self._met_body = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._landmarker is not None:
            with without_log_chatter():
                self._landmarker.close()
            self._landmarker = None

    def estimate(self, image: NDArray[np.uint8], t_ns: int) -> Pose | None:
        """The pose of the body in an image; None where there is none. 17 ms on one core, 7 ms where there is none.

        Args:
            image: (height_px, width_px, 3) uint8, RGB.
            t_ns: Its time; passed on, and without influence on the pose.

        Raises:
            RuntimeError: If the estimator was not opened.
            ValueError: If the image has another shape or type.
        """
        if self._landmarker is None or self._task is None:
            raise RuntimeError("expected an open pose estimator, got a closed one; use it inside `with`")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"expected an image (height, width, 3) uint8, got {image.shape} {image.dtype}")
        # MediaPipe takes the rows of an array to follow each other, and finds nothing in one where they do not.
        picture = self._task.image(self._task.image_format.SRGB, np.ascontiguousarray(image))
        if self._met_body:
            found = self._landmarker.detect(picture)
        else:  # it logs once more when it first runs the second network
            with without_log_chatter():
                found = self._landmarker.detect(picture)
        if not found.pose_world_landmarks:
            return None
        self._met_body = True
        body = found.pose_world_landmarks[0]
        return Pose(
            t_ns=t_ns,
            landmarks=np.array([(one.x, one.y, one.z) for one in body], np.float32),
            visibility=np.array([one.visibility for one in body], np.float32),
        )
