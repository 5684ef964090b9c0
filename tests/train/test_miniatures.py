"""The miniature corpora show their class in the signal they name, and in no other, once encoded too."""

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

from engines.bundle import FaceInput
from stream.perception.crops import FaceGeometry, cut
from stream.perception.detection import FaceDetector
from stream.perception.flow import OpticalFlow
from stream.perception.pose import PoseEstimator
from stream.records import RATE_HZ
from tests import clip_corpora as made
from tests.clip_prepared import mannequin, prepared
from tests.clip_signals import EYES as PORTRAIT_EYES
from tests.clip_signals import Scene, Signal, scenes
from train.corpora import iemocap
from train.preparation.prepared import Needs, Prepared

EYES = FaceInput(size_px=32, align="eyes")
Statistic = Callable[[Prepared], np.ndarray]


def marks_of(crops: np.ndarray) -> np.ndarray:
    grey = crops.astype(float).mean((0, 3))
    return (grey - grey.mean()).ravel()


def bands_of(samples: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.rfft(samples[: RATE_HZ * 3 // 2])) ** 2
    bands = np.log([part.mean() for part in np.array_split(power[: len(power) // 2], 48)])
    return np.asarray(bands - bands.mean())


def lean_of(pose: np.ndarray) -> np.ndarray:
    nose = pose[:, 0]
    return np.array([np.abs(nose[:, 0]).mean(), nose[:, 1].mean()])


STATISTICS: dict[str, Statistic] = {
    "marks": lambda clip: marks_of(np.asarray(clip.crops)),
    "still": lambda clip: marks_of(np.asarray(clip.crops)[:1]),
    "colours": lambda clip: np.asarray(clip.crops).astype(float).mean((0, 1, 2)),
    "flow": lambda clip: np.asarray(clip.flow).mean((0, 1, 2))[1:],
    "voice": lambda clip: bands_of(np.asarray(clip.samples)),
    "body": lambda clip: lean_of(np.asarray(clip.pose)),
}
SHOWN = {"appearance": "marks", "motion": "flow", "spectrum": "voice", "skeleton": "body"}


def predicted(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of the second half by the nearest class mean of the first."""
    half = len(rows) // 2
    means = np.stack([rows[:half][labels[:half] == label].mean(0) for label in range(labels.max() + 1)])
    return np.asarray(((rows[half:, None] - means) ** 2).sum(2).argmin(1))


def accuracy(rows: np.ndarray, labels: np.ndarray) -> float:
    return float((predicted(rows, labels) == labels[len(rows) // 2 :]).mean())


def needs_for(signal: Signal) -> Needs:
    frame = FaceInput(size_px=32, align="frame")
    return Needs(
        face=frame if signal == "motion" else EYES, flow="farneback" if signal == "motion" else "none",
        pose=signal == "skeleton", frame_hz=5.0 if signal != "motion" else 12.5,
    )  # fmt: skip


@cache
def many(signal: Signal) -> tuple[list[Prepared], list[int]]:
    return prepared(signal, 120, needs_for(signal), duration_s=1.5)


@pytest.mark.parametrize(("signal", "n_labels"), [(s, n) for s in SHOWN for n in (2, 4)] + [("spectrum", 7)])
def test_the_stated_signal_tells_the_class(signal: Signal, n_labels: int) -> None:
    clips, labels = prepared(signal, 14 * n_labels, needs_for(signal), n_labels=n_labels)
    rows = np.stack([STATISTICS[SHOWN[signal]](clip) for clip in clips])
    assert accuracy(rows, np.array(labels)) >= 0.9


@pytest.mark.parametrize(
    ("signal", "statistic"),
    [
        ("appearance", "voice"),
        ("spectrum", "marks"),
        ("spectrum", "colours"),
        ("motion", "still"),
        ("motion", "colours"),
        ("motion", "voice"),
        ("skeleton", "voice"),
        ("skeleton", "still"),
    ],
)
def test_no_other_signal_tells_it(signal: Signal, statistic: str) -> None:
    clips, labels = many(signal)
    rows = np.stack([STATISTICS[statistic](clip) for clip in clips])
    assert 0.3 <= accuracy(rows, np.array(labels)) <= 0.7  # three standard deviations of 60 guesses


@pytest.mark.parametrize("n_labels", [2, 3])
def test_agreement_shows_in_both_modalities_together_and_in_neither_alone(n_labels: int) -> None:
    n_clips = 60 * n_labels
    clips, labels = prepared("agreement", n_clips, needs_for("agreement"), n_labels=n_labels)
    truth = np.array(labels)
    codes = scenes("agreement", n_clips, n_labels)
    faces = np.stack([STATISTICS["marks"](clip) for clip in clips])
    voices = np.stack([STATISTICS["voice"](clip) for clip in clips])
    chance, spread = 1 / n_labels, 3 * np.sqrt((1 - 1 / n_labels) / n_labels / (n_clips / 2))
    assert abs(accuracy(faces, truth) - chance) <= spread
    assert abs(accuracy(voices, truth) - chance) <= spread
    marks = predicted(faces, np.array([scene.marks for scene in codes]))
    voice = predicted(voices, np.array([scene.voice for scene in codes]))
    assert ((marks + voice) % n_labels == truth[n_clips // 2 :]).mean() >= 0.95
    # Exactly as many of each code with every label, so that not even a lookup of one modality gains anything.
    pairs = np.array([(scene.label, scene.marks) for scene in codes])
    assert np.ptp(np.unique(pairs, axis=0, return_counts=True)[1]) == 0


@pytest.mark.parametrize("signal", get_args(Signal))
def test_the_same_seed_makes_the_same_clips(signal: Signal) -> None:
    once, again = (prepared(signal, 2, needs_for(signal), seed=5, duration_s=0.4)[0] for _ in range(2))
    other = prepared(signal, 2, needs_for(signal), seed=6, duration_s=0.4)[0]
    for a, b, c in zip(once, again, other, strict=True):
        assert np.array_equal(np.asarray(a.crops), np.asarray(b.crops))
        assert np.array_equal(np.asarray(a.samples), np.asarray(b.samples))
        assert not np.array_equal(np.asarray(a.crops), np.asarray(c.crops))
        assert not np.array_equal(np.asarray(a.samples), np.asarray(c.samples))


def decode(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures, and sound at 16 kHz."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        mono = av.AudioResampler("flt", "mono", RATE_HZ)
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in mono.resample(frame)]
    return pictures, np.concatenate(parts)


def encoded(folder: Path, signal: Signal, n_clips: int, suffix: str = ".mp4") -> list[tuple[Scene, Path]]:
    return [(s, made.write_clip(folder / f"{k}{suffix}", s)) for k, s in enumerate(scenes(signal, n_clips))]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def test_encoded_faces_are_found_and_show_their_marks(tmp_path: Path, detector: FaceDetector) -> None:
    rows, labels = [], []
    with detector:
        for scene, path in encoded(tmp_path, "both", 12):
            found = [(picture, detector.detect(picture)) for picture in decode(path)[0][::8]]
            assert [len(faces) for _, faces in found] == [1] * 5
            crops = [cut(picture, faces[0], FaceGeometry(size_px=32)) for picture, faces in found]
            rows.append(marks_of(np.stack(crops)))
            labels.append(scene.label)
    assert accuracy(np.stack(rows), np.array(labels)) == 1.0


def test_faces_stand_where_prepared_clips_take_them_to_be(detector: FaceDetector) -> None:
    with detector:
        for scene in scenes("both", 12, 4):
            [face] = detector.detect(scene.picture(0.2))
            expected = np.c_[np.array(PORTRAIT_EYES), np.ones(2)] @ scene.place(0.2).T
            assert np.array(face.eyes) == pytest.approx(expected, abs=2.5)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".flv", ".mkv", ".mov", ".mpg"])
def test_encoded_voices_keep_their_spectrum_in_every_format(tmp_path: Path, suffix: str) -> None:
    rows, labels = [], []
    for scene, path in encoded(tmp_path, "spectrum", 8, suffix):
        pictures, samples = decode(path)
        assert len(pictures) == round(made.DURATION_S * made.RATE_FPS)
        assert abs(len(samples) / RATE_HZ - made.DURATION_S) < 0.15  # what a codec adds at its ends
        rows.append(bands_of(samples))
        labels.append(scene.label)
    assert accuracy(np.stack(rows), np.array(labels)) == 1.0


def test_encoded_motion_moves_as_stated(tmp_path: Path) -> None:
    flow = OpticalFlow("lucas-kanade")
    for scene, path in encoded(tmp_path, "motion", 4):
        pictures = decode(path)[0][4:16:2]
        moved = np.mean([flow.between(a, b)[..., 1].mean() for a, b in itertools.pairwise(pictures)])
        expected = (1 if scene.label else -1) * 0.5 * 96 / 12.5  # px from one picture to the next
        assert moved == pytest.approx(expected, abs=0.8)


def test_blazepose_sees_the_encoded_body_lean_as_the_mannequin_does(tmp_path: Path) -> None:
    with PoseEstimator() as estimator:
        for scene, path in encoded(tmp_path, "skeleton", 6):
            pose = estimator.estimate(decode(path)[0][10], 0)
            assert pose is not None
            assert pose.visibility[[0, 11, 12]].min() > 0.9
            nose, expected = pose.landmarks[0], mannequin(scene.lean_deg(10 / made.RATE_FPS))[0]
            # Upright, BlazePose has the portrait's nose 6 cm beside the hips, and it takes some of the lean for a turn.
            assert nose[:2] - (0.06, 0) == pytest.approx(expected[:2], abs=0.16)
            assert (abs(nose[0] - 0.06) > 0.1) == (scene.label == 1)


def test_the_speaker_is_in_the_stated_half_of_a_dialogue_at_the_stated_time(
    tmp_path: Path, detector: FaceDetector
) -> None:
    corpus = iemocap.read(made.iemocap(tmp_path, "both", n_clips=32, n_labels=2, n_sessions=2))
    pictures = {path: decode(path)[0] for path in {clip.path for clip in corpus.clips}}
    own, other, voices, labels = [], [], [], []
    with detector:
        for clip in corpus.clips:
            assert clip.audio is not None
            whole = pictures[clip.path][round((clip.start_s + 0.8) * made.RATE_FPS)]
            halves = {"left": whole[:, : made.SIDE_PX], "right": whole[:, made.SIDE_PX :]}
            for side, rows in ((clip.side, own), ("left" if clip.side == "right" else "right", other)):
                picture = np.ascontiguousarray(halves[side])
                [face] = detector.detect(picture)
                rows.append(marks_of(cut(picture, face, FaceGeometry(size_px=32))[None]))
            with av.open(str(clip.audio)) as container:
                sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)]) / 32768
            voices.append(bands_of(sound[round(clip.start_s * RATE_HZ) :]))
            labels.append(clip.label)
    order = np.random.default_rng(0).permutation(len(labels))
    assert accuracy(np.stack(own)[order], np.array(labels)[order]) == 1.0
    assert accuracy(np.stack(voices)[order], np.array(labels)[order]) == 1.0
    assert accuracy(np.stack(other)[order], np.array(labels)[order]) <= 0.8
