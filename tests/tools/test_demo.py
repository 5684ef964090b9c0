"""The demo's clip holds a face in every frame that is looked at, whose expression changes, and a voice."""

from pathlib import Path

import numpy as np
import pytest

from stream.records import AudioBlock, VideoFrame
from stream.sources.media import MediaSource, Speed
from stream.voice import peak_level_dbfs
from tools.replaying.demo_clip import DURATION_S, SEQUENCE, blend, expressed, make, read_portrait


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    make(path)
    return path


def test_clip_has_ten_seconds_of_picture_and_sound(clip: Path) -> None:
    with MediaSource(str(clip), speed=Speed.MAX) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    samples = np.concatenate([item.samples for item in items if isinstance(item, AudioBlock)])
    assert len(frames) == DURATION_S * 25
    assert frames[0].image.shape == (400, 400, 3)
    assert abs(len(samples) / 16_000 - DURATION_S) < 0.2
    for at in range(DURATION_S):
        assert peak_level_dbfs(samples[at * 16_000 : (at + 1) * 16_000], 16_000) > -30


def test_expressions_follow_each_other() -> None:
    each_s = DURATION_S / len(SEQUENCE)
    assert [blend(k * each_s + 1.0) for k in range(len(SEQUENCE))] == [{name: 1.0} for name in SEQUENCE]
    assert blend(each_s + 0.2) == {SEQUENCE[0]: pytest.approx(0.5), SEQUENCE[1]: pytest.approx(0.5)}


def test_expressions_change_brows_and_mouth_and_nothing_else() -> None:
    portrait = read_portrait()
    np.testing.assert_array_equal(expressed(portrait, {"smiling": 1.0}), portrait)
    for name in ("surprised", "sad", "angry"):
        change = np.abs(expressed(portrait, {name: 1.0}).astype(float) - portrait)
        assert change[135:160, 160:208].mean() > 8  # mouth
        assert change[84:98, 150:217].mean() > 4  # brows
        assert change[200:].max() == 0  # suit
