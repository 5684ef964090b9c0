"""Scoring against the small bundle's graphs computed by hand."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle, load
from engines.engine import EngineError
from engines.select import Engines
from stream.records import Window
from stream.scoring import Scorer, modality
from stream.voice import VoiceState
from tests.small_bundle import MANIFEST, N_SAMPLES, SIZE_PX, frame_encoder, small_bundle, softmax, stages, write_bundle
from tests.windows import face, window

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def scorer(bundle: Bundle) -> Iterator[Scorer]:
    with Scorer(bundle, Engines("onnx")) as opened:
        yield opened


def crop() -> np.ndarray:
    return RANDOM.integers(0, 256, (SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


def wave() -> np.ndarray:
    return RANDOM.uniform(-1, 1, N_SAMPLES).astype(np.float32)


def expected(one: Window) -> np.ndarray:
    """What the graphs are, for one window."""
    colours = one.face.crop.reshape(-1, 3).mean(0) / 255 if one.face else np.zeros(3)
    if one.waveform is None:
        return softmax(8 * colours)
    heard = np.array([one.waveform.mean(), one.waveform.max(), one.waveform.min()])
    return softmax(colours - heard) if one.face else softmax(heard)


def test_the_modality_is_what_can_be_scored() -> None:
    assert modality(window(seen=face(), heard=wave())) == "both"
    assert modality(window(seen=face())) == "face"
    assert modality(window(heard=wave())) == "voice"
    assert modality(window()) is None
    assert modality(window(seen=face(), voice=VoiceState.SHARED)) == "face"


def test_each_window_is_scored_by_what_it_has(scorer: Scorer) -> None:
    shared = wave()
    windows = [
        window(person=0, heard=shared),
        window(person=1, seen=face(1, crop()), voice=VoiceState.SHARED),
        window(person=2),
        window(person=3, seen=face(3, crop()), heard=wave()),
        window(person=4, seen=face(4, crop()), heard=shared),
        window(person=5, seen=face(5, crop())),
        window(person=6, heard=wave()),
    ]
    scores = scorer.score(windows)
    assert [score.window for score in scores] == windows
    for score in scores:
        if score.window.person == 2:
            assert score.posterior is None
        else:
            assert score.posterior is not None
            np.testing.assert_allclose(score.posterior, expected(score.window), rtol=1e-4)
    assert [tuple(score.weights.values()) for score in scores] == [
        (0.0, 1.0),
        (1.0, 0.0),
        (0.0, 0.0),
        (0.5, 0.5),
        (0.5, 0.5),
        (1.0, 0.0),
        (0.0, 1.0),
    ]
    assert scorer.last_ms > 0


def test_windows_score_the_same_alone_and_together(scorer: Scorer) -> None:
    windows = [window(person=k, seen=face(k, crop()), heard=wave()) for k in range(1, 5)]
    together = [score.posterior for score in scorer.score(windows)]
    for one, posterior in zip(windows, together, strict=True):
        assert posterior is not None
        (alone,) = scorer.score([one])
        assert alone.posterior is not None
        np.testing.assert_allclose(alone.posterior, posterior, rtol=1e-5)


def test_nothing_to_score_is_no_work(scorer: Scorer) -> None:
    assert scorer.score([]) == []
    (score,) = scorer.score([window()])
    assert score.posterior is None


def test_a_closed_scorer_cannot_score(bundle: Bundle) -> None:
    with Scorer(bundle, Engines("onnx")) as scorer:
        scorer.score([window(seen=face(crop=crop()))])
    with pytest.raises(EngineError, match="this one was closed"):
        scorer.score([window(seen=face())])


def test_graphs_that_do_not_fit_the_manifest_are_refused_when_opened(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "a")
    frame_encoder(folder / "frame_encoder.onnx", size_px=24)
    (folder / "bundle.json").write_text(json.dumps({**MANIFEST, "stages": stages(folder)}))
    with pytest.raises(
        EngineError,
        match=r"a graph should have crop uint8 \(batch, 16, 16, 3\), it has crop uint8 \(batch, 24, 24, 3\); export",
    ):
        Scorer(load(folder), Engines("onnx"))
    two = small_bundle(tmp_path / "b", labels=["red", "green"])
    with pytest.raises(EngineError, match=r"should have posterior float32 \(batch, 2\), it has features float32 "):
        Scorer(two, Engines("onnx"))
