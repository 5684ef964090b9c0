"""Crops against a dense reference: every crop pixel as the mean of many bilinear samples of the frame."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.perception.crops import FaceGeometry, crop_to_frame, cut
from stream.perception.detection import Detection

EYES = FaceGeometry(size_px=48, align="eyes", eye_distance=0.37, eye_height=0.4)
BOX = FaceGeometry(size_px=48, align="box", margin=0.1)


def face(x: float, y: float, apart: float, angle_deg: float = 0) -> Detection:
    """A face whose eyes' middle lies at (x, y), `apart` from each other, with the box that goes with it."""
    dx, dy = apart / 2 * math.cos(math.radians(angle_deg)), apart / 2 * math.sin(math.radians(angle_deg))
    side = apart / 0.43
    box = (x - side / 2, y - 0.35 * side, side, side)
    return Detection(box=box, eyes=((x - dx, y - dy), (x + dx, y + dy)), score=0.9)


def bilinear(image: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at continuous positions (the first pixel's centre is 0.5), the edge repeated."""
    height, width = image.shape[:2]
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    u, v = (x - x0)[..., None], (y - y0)[..., None]
    values = image.astype(np.float64)
    top = values[y0, x0] * (1 - u) + values[y0, x0 + 1] * u
    bottom = values[y0 + 1, x0] * (1 - u) + values[y0 + 1, x0 + 1] * u
    result: NDArray[np.float64] = top * (1 - v) + bottom * v
    return result


def reference(image: NDArray[np.uint8], detection: Detection, geometry: FaceGeometry, n: int = 24) -> Any:
    """The mean of n x n samples in each crop pixel, through eyes placed by plain trigonometry."""
    size = geometry.size_px
    (x0, y0), (x1, y1) = detection.eyes
    angle = math.atan2(y1 - y0, x1 - x0)
    scale = math.hypot(x1 - x0, y1 - y0) / (geometry.eye_distance * size)
    positions = (np.arange(size * n) + 0.5) / n
    u, v = np.meshgrid(positions - size / 2, positions - geometry.eye_height * size)
    x = (x0 + x1) / 2 + scale * (u * math.cos(angle) - v * math.sin(angle))
    y = (y0 + y1) / 2 + scale * (u * math.sin(angle) + v * math.cos(angle))
    return bilinear(image, x, y).reshape(size, n, size, n, 3).mean((1, 3))


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return np.asarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)


@pytest.mark.parametrize("apart", [9, 17.76, 25, 60, 130])
@pytest.mark.parametrize("angle_deg", [0, 20, -33])
def test_equals_a_dense_reference_on_a_portrait(portrait: NDArray[np.uint8], apart: float, angle_deg: float) -> None:
    detection = face(224.3, 108.7, apart, angle_deg)
    error = cut(portrait, detection, EYES) - reference(portrait, detection, EYES)
    assert np.abs(error).mean() < 0.7
    assert abs(error.mean()) < 0.2  # cv2 rounds halves up, twice


def test_shrinking_does_not_alias(noise: NDArray[np.uint8]) -> None:
    # White noise is the worst case: a plain bilinear warp keeps its variance where the reference averages it away.
    detection = face(250, 170, 120, 15)
    wanted = reference(noise, detection, EYES)
    got = cut(noise, detection, EYES)
    plain = cv2.warpAffine(
        noise,
        crop_to_frame(detection, EYES),
        (48, 48),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    assert np.abs(got - wanted).mean() < 4
    assert np.abs(plain - wanted).mean() > 25
    assert got.std() == pytest.approx(wanted.std(), rel=0.15)


def test_a_crop_of_the_frames_own_scale_copies_its_pixels(noise: NDArray[np.uint8]) -> None:
    detection = face(200 + 24, 100 + 0.4 * 48, 0.37 * 48)
    assert np.array_equal(cut(noise, detection, EYES), noise[100:148, 200:248])


@settings(max_examples=50, deadline=None)
@given(
    x=st.floats(-50, 600),
    y=st.floats(-50, 400),
    apart=st.floats(4, 300),
    angle_deg=st.floats(-180, 180),
    eye_distance=st.floats(0.2, 0.6),
    eye_height=st.floats(0.2, 0.6),
)
def test_the_transform_puts_both_eyes_where_the_geometry_asks(
    x: float, y: float, apart: float, angle_deg: float, eye_distance: float, eye_height: float
) -> None:
    geometry = FaceGeometry(size_px=64, eye_distance=eye_distance, eye_height=eye_height)
    detection = face(x, y, apart, angle_deg)
    matrix = crop_to_frame(detection, geometry)
    for eye, side in zip(detection.eyes, (-1, 1), strict=True):
        in_crop = np.array([32 + side * 32 * eye_distance, 64 * eye_height, 1])
        assert matrix @ in_crop == pytest.approx(eye, abs=1e-6)


def test_eyes_marked_in_a_turned_picture_land_level() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    detection = face(150, 140, 80, 30)
    for eye, colour in zip(detection.eyes, ((255, 0, 0), (0, 255, 0)), strict=True):
        cv2.circle(image, (round(eye[0] - 0.5), round(eye[1] - 0.5)), 5, colour, -1)
    crop = cut(image, detection, FaceGeometry(size_px=100, eye_distance=0.4, eye_height=0.35)).astype(float)
    rows, columns = np.mgrid[:100, :100] + 0.5
    for channel, column in ((0, 30), (1, 70)):
        weight = crop[..., channel] / crop[..., channel].sum()
        assert (weight * columns).sum() == pytest.approx(column, abs=0.5)
        assert (weight * rows).sum() == pytest.approx(35, abs=0.5)


def test_a_turned_head_is_not_zoomed_in_on() -> None:
    level = face(200, 200, 43)
    turned = Detection(box=level.box, eyes=((190, 200), (210, 200)), score=0.9)  # eyes at 0.2 of a box of 100 px
    assert math.hypot(*crop_to_frame(level, EYES)[:, 0]) == pytest.approx(43 / (0.37 * 48))
    assert math.hypot(*crop_to_frame(turned, EYES)[:, 0]) == pytest.approx(36 / (0.37 * 48))


def test_a_box_crop_is_the_square_around_the_box_with_its_margin(noise: NDArray[np.uint8]) -> None:
    # A box of 40 x 30 and a margin of 0.1 x 40 on each side: 48 pixels around its middle, one to one.
    detection = Detection(box=(100, 80, 40, 30), eyes=((110, 90), (130, 95)), score=0.9)
    assert np.array_equal(cut(noise, detection, BOX), noise[71:119, 96:144])
    doubled = FaceGeometry(size_px=24, align="box", margin=0.1)
    wanted = noise[71:119, 96:144].reshape(24, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(cut(noise, detection, doubled) - wanted).max() <= 1


def test_eyes_in_one_point_fall_back_on_the_box(noise: NDArray[np.uint8]) -> None:
    detection = Detection(box=(100, 80, 40, 30), eyes=((120, 90), (120, 90)), score=0.9)
    same = FaceGeometry(size_px=48, align="eyes", margin=0.1)
    assert np.array_equal(cut(noise, detection, same), cut(noise, detection, BOX))


def test_the_edge_is_repeated_where_the_crop_leaves_the_frame(noise: NDArray[np.uint8]) -> None:
    detection = Detection(box=(-20, 370, 40, 40), eyes=((-10, 380), (10, 380)), score=0.9)
    crop = cut(noise, detection, BOX)  # columns -24 to 24, rows 366 to 414 of 400
    padded = np.pad(noise, ((0, 14), (24, 0), (0, 0)), mode="edge")
    assert np.array_equal(crop, padded[366:414, :48])
    far = Detection(box=(5000, -900, 40, 40), eyes=((5010, -890), (5030, -890)), score=0.9)
    assert (cut(noise, far, BOX) == noise[0, -1]).all()


def test_the_frame_is_left_alone_and_the_crop_is_new_memory(noise: NDArray[np.uint8]) -> None:
    before = noise.copy()
    crop = cut(noise, face(250, 200, 40), EYES)
    crop[:] = 0
    assert crop.shape == (48, 48, 3)
    assert crop.dtype == np.uint8
    assert crop.flags["C_CONTIGUOUS"]
    assert np.array_equal(noise, before)


def test_any_object_with_the_fields_is_a_geometry(noise: NDArray[np.uint8]) -> None:
    @dataclass
    class Input:
        size_px: int = 48
        align: Any = "eyes"
        eye_distance: float = 0.37
        eye_height: float = 0.4
        margin: float = 0.0

    assert np.array_equal(cut(noise, face(250, 200, 40), Input()), cut(noise, face(250, 200, 40), EYES))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"size_px": 0}, "size_px must be at least 1, got 0"),
        ({"align": "nose"}, "align must be 'eyes', 'box' or 'frame', got 'nose'"),
        ({"eye_distance": 0.0}, "eye_distance must lie in"),
        ({"eye_height": 1.5}, "eye_height in .*1.5"),
        ({"margin": -0.1}, "margin must not be negative, got -0.1"),
        ({"colour": "bgr"}, "colour must be 'rgb', got 'bgr'"),
    ],
)
def test_a_wrong_geometry_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FaceGeometry(**({"size_px": 48} | wrong))
