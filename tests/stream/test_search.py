"""Small faces, with a stand-in detector that sees what fits its looks, and with the real one in test_faces.py."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.perception.detection import Detection
from stream.perception.search import MIN_TILE_PX, FaceSearch, distinct, overlap, tiles

Image = NDArray[np.uint8]


def face(x: float, y: float, size: float = 40, score: float = 0.9) -> Detection:
    eyes = ((x + 0.3 * size, y + 0.4 * size), (x + 0.7 * size, y + 0.4 * size))
    return Detection(box=(x, y, size, size), eyes=eyes, score=score)


class Marked:
    """Finds white squares on black, unless they are too small a part of the image, and counts its looks."""

    def __init__(self, score: float = 0.9, least: float = 15 / 128) -> None:
        self.looks: list[tuple[int, int]] = []
        self._score, self._least = score, least

    def __call__(self, image: Image) -> list[Detection]:
        height, width = image.shape[:2]
        self.looks.append((width, height))
        rows, columns = np.nonzero(image[..., 0])
        if not len(rows):
            return []
        left, top = columns.min(), rows.min()
        size = max(columns.max() - left, rows.max() - top) + 1
        seen = size >= self._least * max(width, height)
        return [face(float(left), float(top), float(size), self._score)] if seen else []


def frame(x: int, y: int, size: int, width: int = 640, height: int = 360) -> Image:
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + size, x : x + size] = 255
    return image


@pytest.mark.parametrize("shape", [(640, 360), (1280, 720), (720, 1280), (1920, 1080), (640, 480), (360, 288)])
def test_tiles_cover_the_frame_and_overlap(shape: tuple[int, int]) -> None:
    width, height = shape
    regions = tiles(width, height)
    for side in {side for _, _, side in regions}:
        assert side >= MIN_TILE_PX
        covered = np.zeros((height, width), int)
        for left, top, other in regions:
            if other == side:
                assert 0 <= left <= width - side
                assert 0 <= top <= height - side
                covered[top : top + side, left : left + side] += 1
        assert covered.min() >= 1
        # A face of a third of a tile lies whole in at least one, wherever it is.
        reach = side // 3
        for starts, length in (
            (sorted({left for left, _, other in regions if other == side}), width),
            (sorted({top for _, top, other in regions if other == side}), height),
        ):
            for at in range(length - reach + 1):
                assert any(start <= at and at + reach <= start + side for start in starts)


def test_small_frames_have_no_tiles() -> None:
    assert tiles(160, 120) == []
    assert tiles(128, 128) == []


def test_a_large_face_is_found_at_once() -> None:
    search = FaceSearch(Marked())
    assert [one.box for one in search.find(frame(300, 100, 200), [])] == [(300, 100, 200, 200)]


def test_a_small_face_is_found_within_one_round_of_tiles_and_then_looked_at() -> None:
    detector = Marked()
    search = FaceSearch(detector)
    image = frame(500, 250, 30)
    rounds = [search.find(image, []) for _ in tiles(640, 360)]
    assert any(rounds)
    assert all(one.box == (500, 250, 30, 30) for found in rounds for one in found)
    detector.looks.clear()
    [found] = search.find(image, [((515, 265), 30)])
    assert found.box == (500, 250, 30, 30)
    assert detector.looks[0] == (90, 90)


def test_a_known_large_face_gets_no_look_of_its_own() -> None:
    detector = Marked()
    FaceSearch(detector).find(frame(300, 100, 200), [((400, 200), 200)])
    assert detector.looks == [(640, 360), (360, 360)]  # the whole frame and the tile that is due


def test_a_small_face_of_the_whole_frame_is_looked_at_in_the_same_frame() -> None:
    detector = Marked(least=0.05)
    [found] = FaceSearch(detector).find(frame(300, 100, 60), [])
    assert found.box == (300, 100, 60, 60)
    assert detector.looks[-1] == (180, 180)


def test_what_only_a_tile_shows_is_no_face() -> None:
    tile = [face(10, 10, 40)]
    search = FaceSearch(lambda image: tile if image.shape[:2] == (360, 360) else [])
    assert search.find(np.zeros((360, 640, 3), np.uint8), []) == []


def test_faces_of_tiles_must_be_surer() -> None:
    image = frame(500, 250, 30)
    search = FaceSearch(Marked(score=0.7))
    assert not any(search.find(image, []) for _ in tiles(640, 360))
    assert search.find(image, [((515, 265), 30)])


def test_a_face_cut_by_a_looks_edge_is_left_to_another_look() -> None:
    # The look around (515, 265) shows columns 470 to 560 only, and so a part of the face.
    search = FaceSearch(lambda image: [face(70, 40, 40)] if image.shape[:2] == (90, 90) else [])
    assert search.find(np.zeros((360, 640, 3), np.uint8), [((515, 265), 30)]) == []
    # At the frame's own edge there is nothing more to see, and the face counts.
    assert [one.box for one in search.find(np.zeros((360, 640, 3), np.uint8), [((610, 265), 30)])] == []
    search = FaceSearch(lambda image: [face(60, 40, 40)] if image.shape[:2] == (90, 75) else [])
    assert [one.box for one in search.find(np.zeros((360, 640, 3), np.uint8), [((610, 265), 30)])] == [
        (625, 260, 40, 40)
    ]


def test_a_known_place_outside_the_frame_is_not_looked_at() -> None:
    detector = Marked()
    FaceSearch(detector).find(np.zeros((360, 640, 3), np.uint8), [((900, 100), 30), ((-200, -200), 20)])
    assert detector.looks == [(640, 360), (360, 360)]


def test_of_overlapping_detections_the_first_stays() -> None:
    closest, same, other = face(100, 100), face(108, 104, score=0.99), face(300, 100)
    assert distinct([closest, same, other]) == [closest, other]


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(face(0, 0, 40), face(0, 0, 40)) == 1
    assert overlap(face(0, 0, 40), face(20, 0, 40)) == pytest.approx(800 / 2400)
    assert overlap(face(0, 0, 40), face(40, 0, 40)) == 0
    assert overlap(face(0, 0, 40), face(10, 10, 20)) == pytest.approx(400 / 1600)
