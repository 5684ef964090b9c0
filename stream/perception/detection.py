"""Face detection in one image, by MediaPipe's short-range network."""

import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream.perception import networks
from stream.perception.mediapipe_tasks import FaceTask, load_face_task, without_log_chatter

NETWORK = "face_detection_short_range"
N_WARM_UP = 8
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A face in an image.

    Attributes:
        box: x, y, width, height in pixels; ends at the image's edge where the face goes on.
        eyes: The subject's right eye (on the left of the image), then the left one, in pixels.
        score: The network's, in [0, 1].
    """

    box: tuple[float, float, float, float]
    eyes: tuple[Point, Point]
    score: float

    @property
    def centre(self) -> Point:
        """Middle of the box, in pixels."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    @property
    def size_px(self) -> float:
        """Side of the square with the box's area, in pixels."""
        return math.sqrt(self.box[2] * self.box[3])

    def moved(self, dx: float, dy: float) -> "Detection":
        """The same face in an image whose origin lies elsewhere."""
        x, y, width, height = self.box
        (x0, y0), (x1, y1) = self.eyes
        eyes = ((x0 + dx, y0 + dy), (x1 + dx, y1 + dy))
        return Detection(box=(x + dx, y + dy, width, height), eyes=eyes, score=self.score)


class FaceDetector:
    """Finds faces in single images: the same image gives the same faces, whatever came before it.

    The network sees the image shrunk to 128 x 128 with bars where it is not square, and finds faces of 15 of those
    pixels and more: a ninth of the image's longer side. `search.FaceSearch` finds smaller ones.

    Used with `with`; one thread at a time.

    Args:
        network: The network's file; None takes it from the cache, or fetches it.
        min_score: Faces with less are left out, in [0, 1].
    """

    def __init__(self, network: Path | None = None, *, min_score: float = 0.5) -> None:
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1], got {min_score}")
        self._network, self._min_score = network, min_score
        self._task: FaceTask | None = None
        self._detector: Any = None

    def __enter__(self) -> Self:
        """Load the network. Raises networks.NetworkError where it cannot be had."""
        path = self._network or networks.find(NETWORK)
        self._task = task = load_face_task()
        options = task.options(
            base_options=task.base_options(model_asset_path=str(path)),
            min_detection_confidence=self._min_score,
        )
        with without_log_chatter():
            self._detector = task.detector.create_from_options(options)
            # MediaPipe logs again, once, when it first meets a tensor that is not aligned: in one of the first images.
            for _ in range(N_WARM_UP):
                self.detect(np.zeros((128, 128, 3), np.uint8))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._detector is not None:
            with without_log_chatter():
                self._detector.close()
            self._detector = None

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces of an image, the surest first.

        Args:
            image: (height_px, width_px, 3) uint8, RGB.

        Raises:
            RuntimeError: If the detector was not opened.
            ValueError: If the image has another shape or type.
        """
        if self._detector is None or self._task is None:
            raise RuntimeError("expected an open face detector, got a closed one; use it inside `with`")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"expected an image (height, width, 3) uint8, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        found = self._detector.detect(self._task.image(self._task.image_format.SRGB, np.ascontiguousarray(image)))
        faces = [_detection(one, width, height) for one in found.detections]
        return sorted(faces, key=lambda face: (-face.score, face.box))


def _detection(found: Any, width: int, height: int) -> Detection:
    box = found.bounding_box
    right, left = ((point.x * width, point.y * height) for point in found.keypoints[:2])
    return Detection(
        box=(float(box.origin_x), float(box.origin_y), float(box.width), float(box.height)),
        eyes=(right, left),
        score=float(found.categories[0].score),
    )
