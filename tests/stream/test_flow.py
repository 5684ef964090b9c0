"""Flow is compared with motions that are known exactly: a texture given by a formula, moved by another one."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tools
from stream.perception import flow as module
from stream.perception.flow import KINDS, Flow, Image, Kind, OpticalFlow

SIZE = 96
PORTRAIT = Path(tools.__file__).parent / "assets" / "astronaut.jpg"

each_kind = pytest.mark.parametrize("kind", KINDS)


def waves() -> tuple[np.ndarray, np.ndarray]:
    """Wave vectors (60, 2) with wavelengths of 8 to 48 px, and phases (60, 3) of the colours."""
    generator = np.random.default_rng(1)
    direction = generator.uniform(0, 2 * math.pi, 60)
    number = 2 * math.pi / generator.uniform(8, 48, 60)
    return np.stack([np.cos(direction), np.sin(direction)], 1) * number[:, None], generator.uniform(0, 6.28, (60, 3))


VECTORS, PHASES = waves()


def texture(places: np.ndarray) -> Image:
    """Colours of an endless smooth texture at places (..., 2)."""
    waves = np.sin((places @ VECTORS.T)[..., None] + PHASES).sum(-2)
    return np.asarray(np.clip(np.round(127 + 18 * waves), 0, 255), np.uint8)


def moved(*, shift: tuple[float, float] = (0, 0), degrees: float = 0, zoom: float = 1) -> tuple[Image, Image, Flow]:
    """Two pictures, and where each pixel of the first went: x to the right, y downwards."""
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), 2).astype(float)
    centre = (SIZE - 1) / 2
    turn = math.radians(degrees)
    matrix = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    there = (pixels - centre) @ matrix.T + centre + shift
    origin = (pixels - centre - shift) @ np.linalg.inv(matrix).T + centre
    return texture(pixels), texture(origin), (there - pixels).astype(np.float32)


def errors(found: Flow, true: Flow) -> np.ndarray:
    return np.asarray(np.linalg.norm(found - true, axis=2))


@pytest.fixture(scope="module")
def portrait() -> Image:
    loaded = cv2.imread(str(PORTRAIT))
    assert loaded is not None
    return np.asarray(cv2.cvtColor(loaded, cv2.COLOR_BGR2RGB), np.uint8)


@each_kind
@pytest.mark.parametrize("shift", [(0.37, -0.61), (2.3, 1.7), (-1.5, 0.0), (7.25, -3.4)])
def test_translations_are_found_to_a_twentieth_of_a_pixel(kind: Kind, shift: tuple[float, float]) -> None:
    before, after, true = moved(shift=shift)
    found = OpticalFlow(kind).between(before, after)
    assert found.shape == (SIZE, SIZE, 2)
    assert found.dtype == np.float32
    assert np.median(errors(found, true)) < 0.05


@each_kind
@pytest.mark.parametrize(("degrees", "zoom"), [(3, 1), (-2, 1), (0, 1.04), (0, 0.97), (2, 1.02)])
def test_rotation_and_zoom_are_found(kind: Kind, degrees: float, zoom: float) -> None:
    before, after, true = moved(degrees=degrees, zoom=zoom)
    error = errors(OpticalFlow(kind).between(before, after), true)
    assert np.median(error) < 0.2
    assert np.median(error) < 0.2 * np.linalg.norm(true, axis=2).mean()


def test_lucas_kanade_follows_what_moves_as_far_as_i3d_looks() -> None:
    before, after, true = moved(shift=(16, -10))
    assert np.median(errors(OpticalFlow("lucas-kanade").between(before, after), true)) < 0.05


@each_kind
def test_a_real_face_that_moves(kind: Kind, portrait: Image) -> None:
    # The window moves to the left and downwards, so what it shows moves to the right and upwards.
    before, after = portrait[40:200, 100:260], portrait[42:202, 97:257]
    found = OpticalFlow(kind).between(before, after)
    face = errors(found, np.broadcast_to(np.array([3, -2], np.float32), found.shape))[40:120, 40:120]
    assert np.median(face) < 0.1


@each_kind
def test_only_what_moves_moves(kind: Kind) -> None:
    before, after, _ = moved(shift=(2, 0))
    after[:, : SIZE // 2] = before[:, : SIZE // 2]
    found = OpticalFlow(kind).between(before, after)
    assert np.abs(found[:, : SIZE // 2 - 16]).mean() < 0.15
    assert abs(np.median(found[:, SIZE // 2 + 16 :, 0]) - 2) < 0.05


@each_kind
def test_equal_pictures_show_no_motion(kind: Kind, portrait: Image) -> None:
    assert not OpticalFlow(kind).between(portrait, portrait.copy()).any()


@each_kind
def test_noise_on_a_still_picture_is_hardly_motion(kind: Kind, portrait: Image) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, portrait.shape)
    after = np.clip(portrait.astype(int) + noise, 0, 255).astype(np.uint8)
    assert np.median(np.linalg.norm(OpticalFlow(kind).between(portrait, after), axis=2)) < 0.1


@each_kind
@pytest.mark.parametrize("size", [16, 17, 33, 224])
def test_flat_pictures_show_no_motion_and_no_nan(kind: Kind, size: int) -> None:
    dark, bright = (np.full((size, size, 3), value, np.uint8) for value in (9, 90))
    found = OpticalFlow(kind).between(dark, bright)
    assert found.shape == (size, size, 2)
    assert np.abs(found).max() == 0


@each_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(16, 70), width=st.integers(16, 70))
def test_any_pictures_give_finite_flow_of_their_size(kind: Kind, seed: int, height: int, width: int) -> None:
    pair = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    found = OpticalFlow(kind).between(pair[0], pair[1])
    assert found.shape == (height, width, 2)
    assert np.isfinite(found).all()


@each_kind
def test_threads_and_cores_do_not_change_the_result(kind: Kind, portrait: Image) -> None:
    before, after = portrait[40:264, 80:304], portrait[44:268, 79:303]
    flow = OpticalFlow(kind)
    alone = flow.between(before, after)
    cores = cv2.getNumThreads()
    try:
        for count in (1, 3, 8):
            cv2.setNumThreads(count)
            np.testing.assert_array_equal(flow.between(before, after), alone)
    finally:
        cv2.setNumThreads(cores)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: flow.between(before, after), range(8)):
            np.testing.assert_array_equal(found, alone)


def test_untracked_points_take_the_mean_of_tracked_neighbours() -> None:
    moved = np.zeros((3, 4, 2), np.float32)
    tracked = np.zeros((3, 4), bool)
    moved[0, 0], tracked[0, 0] = (4, -2), True
    moved[2, 0], tracked[2, 0] = (2, 0), True
    filled = module._fill(moved, tracked)
    expected = [[4, 3, 3, 3], [3, 3, 3, 3], [2, 3, 3, 3]]
    expected[0][1], expected[2][1] = 4, 2  # each has one tracked neighbour, the middle row both
    np.testing.assert_allclose(filled[:, :2, 0], np.array(expected)[:, :2])
    # The next ring is filled from the ring before: 4, 3, 2 above each other.
    np.testing.assert_allclose(filled[:, 2, 0], [3.5, 3, 2.5])
    np.testing.assert_array_equal(filled[[0, 2], 0], [[4, -2], [2, 0]])
    assert not module._fill(np.zeros((3, 4, 2), np.float32), np.zeros((3, 4), bool)).any()


def test_a_textureless_hole_is_filled_from_around_it() -> None:
    before, after, true = moved(shift=(2, 1))
    before[36:60, 36:60] = after[36:60, 36:60] = 127
    before, after = before.copy(), after.copy()
    found = OpticalFlow("lucas-kanade").between(before, after)
    assert np.median(errors(found, true)) < 0.05
    assert np.isfinite(found).all()


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="lucas-kanade, farneback, dis, got 'horn'"):
        OpticalFlow("horn")  # type: ignore[arg-type]
    flow, crop = OpticalFlow("dis"), np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"two crops of one size, got \(32, 32, 3\) and \(31, 32, 3\)"):
        flow.between(crop, crop[1:])
    with pytest.raises(ValueError, match=r"\(height, width, 3\) uint8, got \(32, 32\) uint8"):
        flow.between(crop, crop[..., 0])
    with pytest.raises(ValueError, match=r"uint8, got \(32, 32, 3\) float32"):
        flow.between(crop.astype(np.float32), crop)
    with pytest.raises(ValueError, match="16 px or more a side"):
        flow.between(crop[:15], crop[:15])
