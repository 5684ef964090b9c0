"""Pose is compared with what MediaPipe's older graph, which knows the networks' normalisation itself, says."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tools
from stream.perception import networks
from stream.perception.detection import FaceDetector
from stream.perception.pose import Pose, PoseEstimator
from stream.perception.pose_task import LANDMARKER, load_pose_task, normalised

Image = NDArray[np.uint8]
ROOT = Path(tools.__file__).parents[1]
PORTRAIT = ROOT / "tools" / "assets" / "astronaut.jpg"
SEEN = slice(0, 13)  # nose to shoulders: what the portrait shows
MIRRORED = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(i + 1 if i % 2 else i - 1 for i in range(11, 33))]

# x, y, z, visibility of some landmarks, from `mediapipe.solutions.pose` of mediapipe 0.10.21, model_complexity 1,
# static_image_mode: of the portrait, and of its upper 300 rows.
REFERENCE = {
    400: {
        0: (0.0465, -0.5644, -0.2668, 0.9999),
        2: (0.0593, -0.6066, -0.2580, 0.9997),
        8: (-0.0214, -0.6020, -0.1623, 0.9998),
        11: (0.1932, -0.4277, -0.0674, 0.9979),
        12: (-0.1069, -0.4477, -0.0846, 0.9989),
        13: (0.2165, -0.2320, -0.1037, 0.1887),
        16: (-0.1552, -0.1352, -0.2897, 0.1379),
        23: (0.1249, 0.0199, 0.0274, 0.0026),
        32: (0.0528, -0.0504, -0.4512, 0.0001),
    },
    300: {
        0: (0.0762, -0.5736, -0.2836, 0.9999),
        5: (0.0621, -0.6102, -0.2677, 0.9999),
        11: (0.2022, -0.3996, -0.0933, 0.9963),
        12: (-0.0988, -0.4432, -0.1166, 0.9986),
        15: (0.2073, -0.1017, -0.2379, 0.0539),
        24: (-0.1346, -0.0399, -0.0182, 0.0015),
        31: (0.3257, -0.0114, -0.1134, 0.0000),
    },
}


@pytest.fixture(scope="module")
def portrait() -> Image:
    loaded = cv2.imread(str(PORTRAIT))
    assert loaded is not None
    return np.asarray(cv2.cvtColor(loaded, cv2.COLOR_BGR2RGB), np.uint8)


@pytest.fixture(scope="module")
def estimator() -> Iterator[PoseEstimator]:
    with PoseEstimator() as opened:
        yield opened


@pytest.fixture(scope="module")
def pose_of(estimator: PoseEstimator) -> Callable[[Image], Pose]:
    def found(image: Image) -> Pose:
        pose = estimator.estimate(image, 0)
        assert pose is not None
        return pose

    return found


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest distance between landmarks that the portrait shows, in metres."""
    return float(np.linalg.norm(one - other, axis=1)[SEEN].max())


@pytest.mark.parametrize("height", [400, 300])
def test_landmarks_are_those_of_the_graph_the_networks_come_from(
    estimator: PoseEstimator, portrait: Image, height: int
) -> None:
    pose = estimator.estimate(portrait[:height], 123)
    assert pose is not None
    assert pose.t_ns == 123
    assert (pose.landmarks.shape, pose.visibility.shape) == ((33, 3), (33,))
    assert pose.landmarks.dtype == pose.visibility.dtype == np.float32
    for index, expected in REFERENCE[height].items():
        found = (*pose.landmarks[index], pose.visibility[index])
        np.testing.assert_allclose(found, expected, atol=0.004, err_msg=f"landmark {index}")


def test_axes_and_unit(pose_of: Callable[[Image], Pose], portrait: Image) -> None:
    landmarks = pose_of(portrait).landmarks
    nose, left, right = landmarks[0], landmarks[11], landmarks[12]
    assert left[0] > 0 > right[0]  # her left shoulder is on the right of the image
    assert nose[1] < left[1] < 0  # y downwards, hips at zero
    assert nose[2] < left[2]  # the nose is nearer to the camera
    assert 0.25 < np.linalg.norm(left - right) < 0.45
    np.testing.assert_allclose(landmarks[23:25].mean(0), 0, atol=0.02)


def test_a_mirrored_body_is_the_mirrored_pose(pose_of: Callable[[Image], Pose], portrait: Image) -> None:
    mirrored = pose_of(portrait[:, ::-1]).landmarks[MIRRORED] * (-1, 1, 1)
    assert apart(mirrored, pose_of(portrait).landmarks) < 0.08


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2.0])
def test_place_and_distance_hardly_matter(pose_of: Callable[[Image], Pose], portrait: Image, scale: float) -> None:
    side = round(portrait.shape[0] * scale)
    scene = np.full((900, 1100, 3), 90, np.uint8)
    scene[900 - side :, 250 : 250 + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    changed = np.abs(pose_of(scene).landmarks - pose_of(portrait).landmarks)[SEEN]
    assert changed.max() < 0.1
    assert np.median(changed) < 0.05


def test_a_stream_gives_the_same_bytes_in_any_order(estimator: PoseEstimator, portrait: Image) -> None:
    stream = [portrait[:, shift : shift + 340] for shift in range(0, 60, 10)]
    stream.insert(2, np.zeros((340, 400, 3), np.uint8))

    def bytes_of(one: PoseEstimator, image: Image) -> bytes:
        pose = one.estimate(image, 0)
        return b"none" if pose is None else pose.landmarks.tobytes() + pose.visibility.tobytes()

    first = [bytes_of(estimator, image) for image in stream]
    assert [one == b"none" for one in first] == [False, False, True, False, False, False, False]
    assert len(set(first)) == len(first)
    assert [bytes_of(estimator, image) for image in reversed(stream)] == first[::-1]
    with PoseEstimator() as another:
        assert [bytes_of(another, image) for image in stream] == first


def test_images_without_a_body(estimator: PoseEstimator, portrait: Image) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    for image in (np.zeros((200, 300, 3), np.uint8), np.full((99, 50, 3), 255, np.uint8), noise, portrait[330:, :200]):
        assert estimator.estimate(image, 0) is None


def test_every_frame_of_a_real_clip_has_a_steady_body(estimator: PoseEstimator, shared_clips: Path) -> None:
    with av.open(str(shared_clips / "bbaf2n.mpg")) as clip:
        # Rows of 1080 bytes come with gaps between them.
        images = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in islice(clip.decode(video=0), 25)]
    poses = [estimator.estimate(image, 0) for image in images]
    landmarks = np.array([pose.landmarks for pose in poses if pose is not None])
    assert len(landmarks) == 25
    steps = np.linalg.norm(np.diff(landmarks, axis=0), axis=2)
    assert np.median(steps[:, 11:13]) < 0.015
    assert (np.array([pose.visibility[0] for pose in poses if pose is not None]) > 0.9).all()


def test_faces_and_poses_are_found_side_by_side(estimator: PoseEstimator, portrait: Image) -> None:
    with FaceDetector() as detector, PoseEstimator() as another:
        face, pose, same = detector.detect(portrait), another.estimate(portrait, 0), estimator.estimate(portrait, 0)
    assert len(face) == 1
    assert pose is not None
    assert same is not None
    np.testing.assert_array_equal(pose.landmarks, same.landmarks)


def test_metadata_are_added_and_weights_kept() -> None:
    task = load_pose_task()
    network = networks.find(LANDMARKER).read_bytes()
    before = task.model.ModelT.InitFromObj(task.model.Model.GetRootAsModel(network, 0))
    after = task.model.ModelT.InitFromObj(task.model.Model.GetRootAsModel(normalised(task, network), 0))
    *kept, added = after.buffers
    assert len(kept) == len(before.buffers)
    for one, other in zip(kept, before.buffers, strict=True):
        assert (one.data is None) == (other.data is None)
        assert one.data is None or np.array_equal(one.data, other.data)
    assert (after.metadata[-1].name, after.metadata[-1].buffer) == (b"TFLITE_METADATA", len(kept))
    content = task.metadata.ModelMetadata.GetRootAsModelMetadata(bytes(added.data), 0)
    step = task.metadata.ModelMetadataT.InitFromObj(content).subgraphMetadata[0].inputTensorMetadata[0].processUnits[0]
    assert (list(step.options.mean), list(step.options.std)) == ([0], [255])


def test_misuse_is_refused(estimator: PoseEstimator) -> None:
    closed = PoseEstimator()
    with pytest.raises(RuntimeError, match="closed one; use it inside `with`"):
        closed.estimate(np.zeros((8, 8, 3), np.uint8), 0)
    with closed:
        assert closed.estimate(np.zeros((8, 8, 3), np.uint8), 0) is None
    with pytest.raises(RuntimeError, match="closed one"):
        closed.estimate(np.zeros((8, 8, 3), np.uint8), 0)
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected an image \(height, width, 3\) uint8"):
            estimator.estimate(image, 0)
    with pytest.raises(ValueError, match=r"min_score must lie in \[0, 1\], got 1\.5"):
        PoseEstimator(min_score=1.5)


def test_a_process_imports_little_and_keeps_its_stderr_clean() -> None:
    program = """
import os, sys, cv2, numpy as np
from stream.perception.pose import PoseEstimator
assert "mediapipe" not in sys.modules
image = cv2.imread(sys.argv[1])[..., ::-1]
def poses():
    with PoseEstimator() as estimator:
        for size in (90, 100, 399):
            estimator.estimate(np.zeros((size, 2 * size, 3), np.uint8), 0)
        return [estimator.estimate(image[:size], 0).landmarks.tobytes() for size in (400, 300)]
first = poses()
assert not {"matplotlib", "sounddevice", "torch", "mediapipe"} & set(sys.modules), sorted(sys.modules)
os.write(2, b"ours\\n")
import mediapipe
from mediapipe.tasks.python.vision import PoseLandmarker
assert poses() == first
"""
    command = [sys.executable, "-c", program, str(PORTRAIT)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ended.returncode, ended.stderr) == (0, "ours\n")
