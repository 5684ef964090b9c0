"""Finds faces too small for the network in the whole frame, by looking closer: at tiles, and at faces known already."""

from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stream.perception.detection import Detection, Point

Image = NDArray[np.uint8]
Region = tuple[int, int, int]  # left, top, side in pixels

# A face of less than this fraction of the frame's longer side is looked at on its own. On a portrait turned by up to 30
# degrees the eyes were wrong by 2 % of the face in such looks, and by 5 % (at worst 10 %) in a frame of 5.4 face sizes.
SMALL = 0.25
LOOK = 3.0  # side of that look, in face sizes: the face then has 43 of the network's 128 pixels
TILE_SCORE = 0.75  # a tile shows closely much that is no face, so its faces must be surer before they get a look
SAME = 0.3  # intersection over union from which two detections are one face
MIN_TILE_PX = 128


class FaceSearch:
    """Detects faces of a stream: in the whole frame, in one tile of it in turn, and closely around small ones.

    One tile a frame costs one detection, and finds a small face at most one round of tiles (18 frames) later than a
    large one; from then on it is looked at in each frame. Which tile is due is counted by frames, so a stream gives the
    same faces however it is paced. One thread at a time.

    Args:
        detect: Finds faces in an image; `FaceDetector.detect`.
    """

    def __init__(self, detect: Callable[[Image], list[Detection]]) -> None:
        self._detect = detect
        self._n_frames = 0

    def find(self, image: Image, known: Iterable[tuple[Point, float]]) -> list[Detection]:
        """Faces of the next analysed frame, each once.

        Args:
            image: (height_px, width_px, 3) uint8, RGB.
            known: Centre and size in pixels of the faces expected in it.
        """
        height, width = image.shape[:2]
        small = SMALL * max(width, height)
        looks = [face for at, size in known if size < small for face in self._look_around(image, at, size)]
        whole = self._detect(image)
        coarse = list(whole)
        if regions := tiles(width, height):
            tile = self._look(image, regions[self._n_frames % len(regions)])
            coarse += [face for face in tile if face.score >= TILE_SCORE]
        self._n_frames += 1
        for face in distinct(looks + coarse)[len(distinct(looks)) :]:
            if face.size_px < small:
                looks += self._look_around(image, face.centre, face.size_px)
        # The closest look at a face has the most pixels of it and comes first, so it is the one kept. What only a tile
        # shows, and no look of its own confirms, is none.
        return distinct(looks + whole)

    def _look_around(self, image: Image, at: Point, size: float) -> list[Detection]:
        return self._look(image, (round(at[0] - LOOK * size / 2), round(at[1] - LOOK * size / 2), round(LOOK * size)))

    def _look(self, image: Image, region: Region) -> list[Detection]:
        height, width = image.shape[:2]
        left, top = max(0, region[0]), max(0, region[1])
        right, bottom = min(width, region[0] + region[2]), min(height, region[1] + region[2])
        if right - left < 2 or bottom - top < 2:
            return []
        faces = [face.moved(left, top) for face in self._detect(image[top:bottom, left:right])]
        return [face for face in faces if not _is_cut(face, (left, top, right, bottom), (width, height))]


def tiles(width: int, height: int) -> list[Region]:
    """Squares that cover a frame with an overlap of a third or more: of its shorter side, then of half of that."""
    regions = []
    for side in (min(width, height), min(width, height) // 2):
        if side < MIN_TILE_PX or side >= 0.8 * max(width, height):
            continue  # too little to gain over the whole frame
        columns, rows = _starts(width, side), _starts(height, side)
        regions += [(left, top, side) for top, left in product(rows, columns)]
    return regions


def distinct(faces: list[Detection]) -> list[Detection]:
    """The faces without those that overlap an earlier one."""
    kept: list[Detection] = []
    for face in faces:
        if all(overlap(face, other) < SAME for other in kept):
            kept.append(face)
    return kept


def overlap(one: Detection, other: Detection) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = one.box, other.box
    across = min(x0 + w0, x1 + w1) - max(x0, x1)
    down = min(y0 + h0, y1 + h1) - max(y0, y1)
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (w0 * h0 + w1 * h1 - across * down)


def _starts(length: int, side: int) -> list[int]:
    n = 1 if length == side else -(-3 * (length - side) // (2 * side)) + 1
    return [round(k * (length - side) / (n - 1)) for k in range(n)] if n > 1 else [0]


def _is_cut(face: Detection, region: tuple[int, int, int, int], frame: tuple[int, int]) -> bool:
    # A detection ends at the edge of its image. Where that edge is not the frame's, the face goes on beyond it.
    x, y, w, h = face.box
    left, top, right, bottom = region
    return (
        (left > 0 and x <= left)
        or (top > 0 and y <= top)
        or (right < frame[0] and x + w >= right)
        or (bottom < frame[1] and y + h >= bottom)
    )
