"""Dense optical flow between two crops, in three kinds.

`lucas-kanade` is what ICANet uses (`cv2.calcOpticalFlowPyrLK`). It follows single points, and I3D wants a map: so
points on a regular grid are followed, and their displacements interpolated. `farneback` and `dis` are dense anyway.

The result depends on the two pictures alone, on any number of cores.
"""

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["lucas-kanade", "farneback", "dis"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Image = NDArray[np.uint8]
Flow = NDArray[np.float32]

MIN_SIZE_PX = 16  # smaller pictures are no crops of ours, and DIS finds no pyramid in them

GRID_PX = 8  # 28 x 28 points in a crop of 224 px: an eye of a face that fills it has four or five beside each other
LK_WINDOW_PX = 21  # OpenCV's own. A texture that moved by 19 px was lost in 13 % of a picture, with 15 px in 30 %
LK_LEVELS = 3  # OpenCV's own: halvings above the picture itself, enough for I3D's limit of 20 px
LK_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.01)  # steps and px: OpenCV's own
LK_MIN_EIGENVALUE = 1e-4  # OpenCV's own: less texture in the window than this, and a point cannot be followed
LK_RETURN_PX = 1.0  # a point that does not come back to where it began, within a pixel, went astray

FARNEBACK_LEVELS = 4  # the picture and three halvings, as for Lucas-Kanade
FARNEBACK_WINDOW_PX = 15
FARNEBACK_ITERATIONS = 3
FARNEBACK_POLY_PX, FARNEBACK_POLY_SIGMA = 5, 1.1  # the pair that OpenCV's manual names for sharp motion


class OpticalFlow:
    """Optical flow of one kind. Keeps nothing between calls: any thread may call.

    Args:
        kind: `lucas-kanade`, `farneback` or `dis`.

    Raises:
        ValueError: If there is no such kind.
    """

    def __init__(self, kind: Kind) -> None:
        if kind not in KINDS:
            raise ValueError(f"expected optical flow of {', '.join(KINDS)}, got {kind!r}")
        self.kind = kind
        self._compute = _COMPUTE[kind]

    def between(self, before: Image, after: Image) -> Flow:
        """Where each pixel of the earlier picture went.

        Args:
            before: (height_px, width_px, 3) uint8 RGB.
            after: The later picture, same shape.

        Returns:
            (height_px, width_px, 2) float32, new memory: x (to the right), then y (downwards), in pixels of the crop
            from one picture to the next. What is seen at (x, y) before is at (x, y) + flow[y, x] after. All finite;
            zero where nothing can be seen to move. Not cut: `train.backbones.i3d.FlowClip` cuts at 20 px.

        Raises:
            ValueError: If a picture has another shape or type, or the two differ in shape.
        """
        for picture in (before, after):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise ValueError(f"expected crops (height, width, 3) uint8, got {picture.shape} {picture.dtype}")
        if before.shape != after.shape:
            raise ValueError(f"expected two crops of one size, got {before.shape} and {after.shape}")
        if min(before.shape[:2]) < MIN_SIZE_PX:
            raise ValueError(f"expected crops of {MIN_SIZE_PX} px or more a side, got {before.shape}")
        # A repeated frame shows no motion by definition; Farnebäck alone would give it up to 0.2 px in bare regions.
        if np.array_equal(before, after):
            return np.zeros((*before.shape[:2], 2), np.float32)
        return self._compute(_grey(before), _grey(after))


def _grey(picture: Image) -> Image:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), np.uint8)


def _lucas_kanade(before: Image, after: Image) -> Flow:
    height, width = before.shape
    rows, columns = -(-height // GRID_PX), -(-width // GRID_PX)
    # Points in the middle of equal cells: cv2.resize, below, takes the values of a small map to lie just there.
    y = (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows) - 0.5
    x = (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns) - 0.5
    points = np.stack(np.meshgrid(x, y), 2).reshape(-1, 1, 2).astype(np.float32)
    there, found = _follow(before, after, points)
    back, returned = _follow(after, before, there)
    near = np.hypot(*(back - points)[:, 0].T) < LK_RETURN_PX
    inside = ((there > -0.5) & (there < (width - 0.5, height - 0.5))).all((1, 2))
    tracked = found & returned & near & inside
    moved = np.where(tracked[:, None], (there - points)[:, 0], 0).reshape(rows, columns, 2)
    filled = _fill(moved.astype(np.float32), tracked.reshape(rows, columns))
    return np.asarray(cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _follow(before: Image, after: Image, points: Flow) -> tuple[Flow, NDArray[np.bool_]]:
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points,
        points.copy(),  # overwritten
        winSize=(LK_WINDOW_PX, LK_WINDOW_PX),
        maxLevel=LK_LEVELS,
        criteria=LK_STOP,
        minEigThreshold=LK_MIN_EIGENVALUE,
    )
    return np.asarray(there, np.float32), np.asarray(status)[:, 0] == 1


def _fill(moved: Flow, tracked: NDArray[np.bool_]) -> Flow:
    """Grid displacements in which each untracked point has the mean of its tracked neighbours, ring by ring.

    Args:
        moved: (rows, columns, 2) float32, zero where not tracked.
        tracked: (rows, columns) bool. Where none is, all stay zero.
    """
    known = tracked
    while known.any() and not known.all():
        count = cv2.boxFilter(known.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = cv2.boxFilter(moved, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        reached = (count > 0.5) & ~known
        moved = np.where(reached[..., None], total / np.maximum(count, 1)[..., None], moved)
        known = known | reached
    return moved


def _farneback(before: Image, after: Image) -> Flow:
    flow = cv2.calcOpticalFlowFarneback(
        before,
        after,
        np.zeros((*before.shape, 2), np.float32),  # overwritten
        pyr_scale=0.5,
        levels=FARNEBACK_LEVELS,
        winsize=FARNEBACK_WINDOW_PX,
        iterations=FARNEBACK_ITERATIONS,
        poly_n=FARNEBACK_POLY_PX,
        poly_sigma=FARNEBACK_POLY_SIGMA,
        flags=0,
    )
    return np.asarray(flow, np.float32)


def _dis(before: Image, after: Image) -> Flow:
    # A new object each time: it holds buffers, so two threads cannot share one.
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(before, after, np.zeros((*before.shape, 2), np.float32)), np.float32)


_COMPUTE: dict[Kind, Callable[[Image, Image], Flow]] = {
    "lucas-kanade": _lucas_kanade,
    "farneback": _farneback,
    "dis": _dis,
}
