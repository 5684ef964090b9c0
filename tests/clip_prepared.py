"""Made clips as preparation would leave them, without the cost of encoding and of perception."""

import itertools

import numpy as np

from stream.perception.crops import cut, cut_frame
from stream.perception.detection import Detection
from stream.perception.flow import OpticalFlow
from tests.clip_signals import BOX, EYES, Scene, Signal, scenes
from train.preparation.prepared import Needs, Prepared

# x, y in centimetres of BlazePose's 33 landmarks on a body that stands upright: nose, eyes, ears, mouth, then limbs.
HEAD = (
    (0, -58),
    (2, -62),
    (3, -62),
    (5, -62),
    (-2, -62),
    (-3, -62),
    (-5, -62),
    (8, -60),
    (-8, -60),
    (3, -55),
    (-3, -55),
)
LIMBS = ((16, -45), (22, -20), (20, 2), (21, 6), (20, 8), (18, 6), (10, 0), (11, 35), (11, 70), (11, 74), (12, 78))


def prepared(
    signal: Signal, n_clips: int, needs: Needs, *, n_labels: int = 2, seed: int = 0, duration_s: float = 1.6
) -> tuple[list[Prepared], list[int]]:
    """Clips of these signals as preparation would leave them, and their labels, without encoding or perception.

    Faces are cut where they are known to stand. The pose is a mannequin's that leans as the portrait does.
    """
    made = scenes(signal, n_clips, n_labels, seed)
    return [_prepared(scene, needs, f"made/{k}", duration_s) for k, scene in enumerate(made)], [s.label for s in made]


def mannequin(lean_deg: float) -> np.ndarray:
    """(33, 3) float32 in metres, in BlazePose's order: of each pair the subject's left, on our right, first."""
    flat = [*HEAD, *(side for x, y in LIMBS for side in ((x, y), (-x, y)))]
    angle = np.radians(lean_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    depth = np.where(np.arange(33) < 11, -0.25, -0.05)
    return np.c_[np.array(flat) / 100 @ turn.T, depth].astype(np.float32)


def _prepared(scene: Scene, needs: Needs, name: str, duration_s: float) -> Prepared:
    times = np.arange(round(duration_s * needs.frame_hz)) / needs.frame_hz
    crops = flow = pose = None
    if needs.face is not None:
        crops = np.stack([_crop(scene, needs, float(t)) for t in times])
        if needs.flow != "none":
            between = OpticalFlow(needs.flow).between
            moved = [between(a, b) for a, b in itertools.pairwise(crops)]
            flow = np.stack([moved[0], *moved])
    if needs.pose:
        chance = np.random.default_rng((scene.seed, 7))
        pose = np.stack([mannequin(scene.lean_deg(float(t))) + chance.normal(0, 0.01, (33, 3)) for t in times])
        pose = pose.astype(np.float32)
    return Prepared(
        name=name,
        times_s=times,
        crops=crops,
        seen=None if crops is None else np.ones(len(times), bool),
        flow=flow,
        pose=pose,
        body=None if pose is None else np.ones(len(times), bool),
        samples=scene.sound(duration_s).astype(np.float32) if needs.audio else None,
    )


def _crop(scene: Scene, needs: Needs, t_s: float) -> np.ndarray:
    assert needs.face is not None
    picture = scene.picture(t_s)
    if needs.face.align == "frame" or scene.motion is not None:
        return cut_frame(picture, needs.face.size_px)
    matrix = scene.place(t_s)
    left, right = (tuple(map(float, matrix @ (*eye, 1.0))) for eye in EYES)
    scale = float(np.hypot(*matrix[0, :2]))
    x, y = matrix @ (BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2, 1.0)
    box = (float(x - scale * BOX[2] / 2), float(y - scale * BOX[3] / 2), scale * BOX[2], scale * BOX[3])
    found = Detection(box=box, eyes=((left[0], left[1]), (right[0], right[1])), score=1.0)
    return cut(picture, found, needs.face)
