"""Scoring of clip windows against the small clip bundle's graphs computed by hand, and what is computed only once."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle, BundleError, load
from engines.engine import EngineError
from engines.select import Engines
from stream.clip_scoring import ClipScorer, nearest_chunks
from stream.records import Clip, Face, Window
from stream.voice import VoiceState
from stream.windows import spread
from tests.small_bundle import small_bundle, softmax
from tests.small_clip_bundle import CHUNK, N_FRAMES, N_SAMPLES, SIZE_PX, head, small_clip_bundle, write_clip_bundle
from tests.windows import draw

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_clip_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def scorer(bundle: Bundle) -> Iterator[ClipScorer]:
    with ClipScorer(bundle, Engines("onnx")) as opened:
        yield opened


def picture(person: int = 1, flow: bool = True) -> Face:
    return Face(
        person=person,
        box=(0, 0, SIZE_PX, SIZE_PX),
        crop=RANDOM.integers(0, 256, (SIZE_PX, SIZE_PX, 3)).astype(np.uint8),
        score=0.9,
        flow=RANDOM.normal(size=(SIZE_PX, SIZE_PX, 2)).astype(np.float32) if flow else None,
        pose=RANDOM.normal(size=(33, 3)).astype(np.float32),
    )


def chunk() -> np.ndarray:
    return RANDOM.uniform(-1, 1, CHUNK).astype(np.float32)


def window(
    frames: Sequence[Face] = (), chunks: Sequence[tuple[int, np.ndarray]] = (), wave: np.ndarray | None = None
) -> Window:
    clip = Clip(frames=tuple(frames), times_ns=tuple(50_000_000 * k for k in range(len(frames))), chunks=tuple(chunks))
    return Window(
        person=1,
        draw=draw(0),
        end_ns=500_000_000,
        face=frames[-1] if frames else None,
        voice=VoiceState.SILENCE if wave is None else VoiceState.PRESENT,
        waveform=wave,
        clip=clip,
    )


def colours(frames: Sequence[Face]) -> np.ndarray:
    return np.array([frame.crop.reshape(-1, 3).mean(0) / 255 for frame in frames])


def wave() -> np.ndarray:
    return RANDOM.uniform(-1, 1, N_SAMPLES).astype(np.float32)


def posterior(scorer: ClipScorer, one: Window) -> np.ndarray:
    (score,) = scorer.score([one])
    assert score.posterior is not None
    return score.posterior


@pytest.mark.parametrize("n_frames", [1, 3, N_FRAMES, 9])
def test_both_modalities(scorer: ClipScorer, n_frames: int) -> None:
    frames, chunks = [picture() for _ in range(n_frames)], [(k, chunk()) for k in range(3)]
    taken = [frames[k] for k in spread(n_frames, N_FRAMES)]
    at = [min(50 * k // 100, 2) for k in spread(n_frames, N_FRAMES)]  # a frame each 50 ms, a chunk each 100
    expected = head(
        colours(taken),
        np.array([chunks[k][1].max() for k in at]),
        np.stack([f.flow for f in taken if f.flow is not None]),
    )
    np.testing.assert_allclose(posterior(scorer, window(frames, chunks, wave())), expected, atol=1e-5)


def test_one_modality_is_scored_by_its_own_head(scorer: ClipScorer) -> None:
    frames = [picture() for _ in range(N_FRAMES)]
    posture = np.mean([f.pose.mean(0) for f in frames if f.pose is not None], axis=0)
    seen = softmax(colours(frames).mean(0) + posture)
    np.testing.assert_allclose(posterior(scorer, window(frames)), seen, atol=1e-5)
    sound = wave()
    heard = softmax(np.array([sound.max(), sound.min(), sound.mean()]))
    np.testing.assert_allclose(posterior(scorer, window((), [(0, chunk())], sound)), heard, atol=1e-5)


def test_what_has_no_posterior_is_not_guessed(tmp_path: Path) -> None:
    bundle = small_clip_bundle(tmp_path, posteriors={"both": "head.posterior"})
    with ClipScorer(bundle, Engines("onnx")) as scorer:
        scores = scorer.score([window([picture()]), window((), [(0, chunk())], wave()), window()])
    assert [score.posterior for score in scores] == [None, None, None]
    assert [sum(score.weights.values()) for score in scores] == [0.0, 0.0, 0.0]


def test_the_weights_are_those_of_what_the_posterior_takes(tmp_path: Path) -> None:
    named = {"both": "face_head.posterior", "voice": "voice_head.posterior"}
    one = window([picture()], [(0, chunk())], wave())
    with ClipScorer(small_clip_bundle(tmp_path, posteriors=named), Engines("onnx")) as scorer:
        (score,) = scorer.score([one])
    assert score.weights == {"face": 1.0, "voice": 0.0}
    with ClipScorer(small_clip_bundle(tmp_path / "both"), Engines("onnx")) as scorer:
        assert scorer.score([one])[0].weights == {"face": 0.5, "voice": 0.5}


def test_sliding_costs_what_is_new(bundle: Bundle) -> None:
    frames, chunks = [picture() for _ in range(12)], [(k, chunk()) for k in range(8)]
    sound = wave()
    with (
        ClipScorer(bundle, Engines("onnx")) as kept,
        ClipScorer(bundle, Engines("onnx"), incremental=False) as whole,
    ):
        costs = []
        for k in range(7):
            one = window(frames[k : k + N_FRAMES], chunks[k : k + 2], sound)
            before = kept.n_encoded, whole.n_encoded
            np.testing.assert_allclose(posterior(kept, one), posterior(whole, one), atol=1e-6)
            costs.append((kept.n_encoded - before[0], whole.n_encoded - before[1]))
    # each window's 50 ms of 5 frames lie in chunks 0 to 2 of their own; 5 frames and 2 chunks are a whole window
    assert costs == [(7, 7), *[(2, 7)] * 6]


def test_persons_do_not_share_what_is_kept(scorer: ClipScorer) -> None:
    first, second = [picture(1) for _ in range(N_FRAMES)], [picture(2) for _ in range(N_FRAMES)]
    together = scorer.score([window(first), window(second)])
    for frames, score in zip((first, second), together, strict=True):
        assert score.posterior is not None
        np.testing.assert_allclose(score.posterior, posterior(scorer, window(frames)), atol=1e-6)


def test_what_has_left_every_window_is_forgotten(scorer: ClipScorer) -> None:
    frames = [picture() for _ in range(40)]
    for k in range(30):
        scorer.score([window(frames[k : k + N_FRAMES], [(k, chunk())], wave())])
    assert {name: len(kept) for name, kept in scorer._kept.items()} == {"colour": N_FRAMES, "tone": 1}


def test_a_step_takes_the_chunk_that_holds_it_or_the_nearest() -> None:
    times_ns = [0, 950_000_000, 960_000_000, 2_000_000_000, 9_000_000_000]
    np.testing.assert_array_equal(nearest_chunks(times_ns, [1, 2, 4], 0.96), [0, 0, 0, 1, 2])


def test_a_bundle_of_pairs_and_a_graph_that_does_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected a clip recogniser, small scores single pairs"):
        ClipScorer(small_bundle(tmp_path / "pairs"), Engines("onnx"))
    stages = json.loads((write_clip_bundle(tmp_path / "a") / "bundle.json").read_text())["stages"]
    stages["motion"]["takes"] = {"field": "flow"}
    with pytest.raises(EngineError, match=r"stage motion takes \['field'\], its graph has \['flow'\]"):
        ClipScorer(small_clip_bundle(tmp_path / "b", stages=stages), Engines("onnx"))
    wrong = {"both": "head.label"}
    with pytest.raises(EngineError, match="stage head has no output label"):
        ClipScorer(small_clip_bundle(tmp_path / "c", posteriors=wrong), Engines("onnx"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"posteriors": {}}, "no posterior is named"),
        ({"posteriors": {"both": "tail.posterior"}}, "posterior both is tail.posterior"),
        ({"flow": "none"}, "flow is none and pose True, the stages take"),
        ({"pose": False}, "flow is farneback and pose False"),
        ({"clip": {"frame_hz": 20.0, "n_frames": 5, "span_s": 0.5}}, "stage tone runs once a chunk, and clip.chunk_s"),
    ],
)
def test_a_manifest_that_does_not_fit_together(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises(BundleError, match=text):
        load(write_clip_bundle(tmp_path, **changes))
