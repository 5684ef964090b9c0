"""Face crops: one similarity transform from the frame to the square that a recogniser was trained on, antialiased."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

# Eyes come together when a head turns, but the face does not shrink. Of FER+ pictures, 95 % have an eye distance above
# this share of the detector's box (median 0.43); turned heads are scaled as if theirs were this wide.
MIN_EYES_PER_BOX = 0.36

Point = tuple[float, float]
Image = NDArray[np.uint8]


class Geometry(Protocol):
    """What a crop must look like; `FaceGeometry` and a bundle's face input both fit."""

    @property
    def size_px(self) -> int: ...
    @property
    def align(self) -> Literal["eyes", "box", "frame"]: ...
    @property
    def eye_distance(self) -> float: ...
    @property
    def eye_height(self) -> float: ...
    @property
    def margin(self) -> float: ...
    @property
    def fallback(self) -> Literal["none", "frame"]: ...


class Located(Protocol):
    """A face's place in a frame; `detection.Detection` fits."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def eyes(self) -> tuple[Point, Point]: ...


@dataclass(frozen=True, kw_only=True)
class FaceGeometry:
    """How a face is cut from a frame.

    Attributes:
        size_px: Side of the square crop.
        align: `eyes` turns and scales the face by its eyes; `box` takes the detector's box and a margin, upright;
            `frame` takes the largest square in the middle of the frame.
        eye_distance: With `eyes`: distance of the eyes, as a fraction of the side.
        eye_height: With `eyes`: the eyes' distance from the top, as a fraction of the side.
        margin: With `box`: share of the box's larger side that is added on each side.
        fallback: What stands in where a frame shows no face: `none`, or the whole `frame`.
        colour: Channel order of the crop.
    """

    size_px: int
    align: Literal["eyes", "box", "frame"] = "eyes"
    eye_distance: float = 0.4
    eye_height: float = 0.4
    margin: float = 0.0
    fallback: Literal["none", "frame"] = "none"
    colour: Literal["rgb"] = "rgb"

    def __post_init__(self) -> None:
        if self.size_px < 1:
            raise ValueError(f"size_px must be at least 1, got {self.size_px}")
        if self.align not in ("eyes", "box", "frame"):
            raise ValueError(f"align must be 'eyes', 'box' or 'frame', got {self.align!r}")
        if self.fallback not in ("none", "frame"):
            raise ValueError(f"fallback must be 'none' or 'frame', got {self.fallback!r}")
        if not 0 < self.eye_distance <= 1 or not 0 <= self.eye_height <= 1:
            raise ValueError(
                f"eye_distance must lie in (0, 1] and eye_height in [0, 1], got {self.eye_distance}, {self.eye_height}"
            )
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")
        if self.colour != "rgb":
            raise ValueError(f"colour must be 'rgb', got {self.colour!r}")


def crop_to_frame(face: Located, geometry: Geometry) -> NDArray[np.float64]:
    """The similarity transform that takes a point of the crop to a point of the frame.

    Both sides are continuous pixel coordinates: the first pixel covers [0, 1), its centre is 0.5.

    Returns:
        (2, 3) float64: [[a, -b, tx], [b, a, ty]], where hypot(a, b) is frame pixels per crop pixel.
    """
    size = geometry.size_px
    (x0, y0), (x1, y1) = face.eyes
    left, top, width, height = face.box
    apart = math.hypot(x1 - x0, y1 - y0)
    if geometry.align == "eyes" and apart > 0:
        scale = max(apart, MIN_EYES_PER_BOX * math.sqrt(width * height)) / (geometry.eye_distance * size)
        a, b = scale * (x1 - x0) / apart, scale * (y1 - y0) / apart
        u, v, x, y = size / 2, geometry.eye_height * size, (x0 + x1) / 2, (y0 + y1) / 2
    else:
        a, b = max(width, height) * (1 + 2 * geometry.margin) / size, 0.0
        u = v = size / 2
        x, y = left + width / 2, top + height / 2
    return np.array([[a, -b, x - a * u + b * v], [b, a, y - b * u - a * v]])


def cut(image: Image, face: Located, geometry: Geometry) -> Image:
    """The face as the recogniser wants it; where the square leaves the frame, the frame's edge is repeated.

    Any thread may call.

    Args:
        image: (height_px, width_px, 3) uint8 RGB.
        face: Where the face lies, in pixels of `image`.
        geometry: What the crop must look like.

    Returns:
        (size_px, size_px, 3) uint8 RGB, new memory.
    """
    transform = crop_to_frame(face, geometry)
    scale = math.hypot(transform[0, 0], transform[1, 0])
    # A bilinear sample sees 2 x 2 pixels and aliases where a crop pixel covers more. So the crop is sampled `n` times
    # as densely, no coarser than the frame, and each crop pixel is the mean of its n x n samples.
    n = max(1, math.ceil(scale))
    dense = geometry.size_px * n
    # cv2 counts from pixel centres: crop sample i lies at (i + 0.5) / n, frame pixel j at j + 0.5.
    matrix = transform.copy()
    matrix[:, :2] /= n
    matrix[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    warped = cv2.warpAffine(
        image, matrix, (dense, dense), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    if n > 1:
        warped = cv2.resize(warped, (geometry.size_px, geometry.size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, dtype=np.uint8)


def cut_frame(image: Image, size_px: int) -> Image:
    """The largest square in the middle of a frame, for recognisers that look at the whole picture.

    Any thread may call.

    Args:
        image: (height_px, width_px, 3) uint8 RGB.
        size_px: Side of the result.

    Returns:
        (size_px, size_px, 3) uint8 RGB, new memory; antialiased where it is smaller.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    smooth = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size_px, size_px), interpolation=smooth), dtype=np.uint8)
