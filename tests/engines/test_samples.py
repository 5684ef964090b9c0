"""Real inputs for every graph: of the shape and kind that it declares, the same each time, other for another item."""

from pathlib import Path

import numpy as np
import pytest

from engines.bundle import load, shipped
from engines.engine import EngineError, check_feeds
from engines.onnx_runtime import OnnxEngine
from engines.samples import Samples, raw
from tests.small_bundle import small_bundle
from tests.small_clip_bundle import small_clip_bundle


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("n", [1, 5])
def test_every_shipped_graph_gets_what_it_declares(name: str, n: int) -> None:
    bundle = load(name)
    with Samples(bundle) as samples, Samples(bundle) as again:
        for stage in bundle.manifest.stages:
            feeds = samples.feeds(stage, n)
            check_feeds(OnnxEngine(bundle.stage(stage)).inputs, feeds)
            for tensor, array in again.feeds(stage, n).items():
                np.testing.assert_array_equal(array, feeds[tensor])
                assert not np.array_equal(samples.feeds(stage, n, first=3)[tensor], array)


def test_graphs_of_clips_get_their_frames_flow_and_pose(tmp_path: Path) -> None:
    bundle = small_clip_bundle(tmp_path)
    with Samples(bundle) as samples:
        for stage in bundle.manifest.stages:
            feeds = samples.feeds(stage, 3)
            check_feeds(OnnxEngine(bundle.stage(stage)).inputs, feeds)
            assert all(np.ptp(array) > 0 for array in feeds.values())


def test_the_pictures_are_a_face_and_the_voice_is_heard() -> None:
    crops, wave = raw("crop", (8, 128, 128, 3)), raw("waveform", (1, 100_000))
    assert crops.dtype == np.uint8
    middle = crops[:, 40:90, 40:90].astype(float).mean((0, 1, 2))
    assert middle[0] > middle[2] + 20  # skin is redder than blue
    assert all(not np.array_equal(crops[k], crops[k + 1]) for k in range(7))
    assert 0.3 < np.abs(wave).max() <= 1


def test_a_size_of_its_own_is_interpolated() -> None:
    small, large = raw("crop", (2, 64, 64, 3)).astype(float), raw("crop", (2, 128, 128, 3)).astype(float)
    halved = large.reshape(2, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(small - halved).max() <= 1  # both are the means of four pixels; one is rounded
    flow, wide = raw("flow", (1, 4, 64, 64, 2)), raw("flow", (1, 4, 128, 128, 2))
    np.testing.assert_allclose(flow, wide.reshape(1, 4, 64, 2, 64, 2, 2).mean((3, 5)) / 2, atol=1e-5)


def test_more_items_than_there_are_come_again() -> None:
    many = raw("pose", (2, 9, 33, 3)).reshape(18, 33, 3)
    np.testing.assert_array_equal(many[:8], many[8:16])


def test_what_has_no_samples_is_refused() -> None:
    with pytest.raises(EngineError, match=r"expected crop, flow, pose, waveform of a fixed shape, got smell \(1, 2\)"):
        raw("smell", (1, 2))
    with pytest.raises(EngineError, match=r"got waveform \(1, 'n'\)"):
        raw("waveform", (1, "n"))


def test_a_bundle_that_does_not_fit_its_graphs_is_refused(tmp_path: Path) -> None:
    small_bundle(tmp_path)
    (tmp_path / "head.onnx").write_bytes((tmp_path / "frame_encoder.onnx").read_bytes())
    bundle = small_bundle(tmp_path / "b")
    (tmp_path / "b" / "head.onnx").write_bytes((tmp_path / "head.onnx").read_bytes())
    with Samples(bundle) as samples, pytest.raises(EngineError, match=r"stage head takes .*, its graph has \['crop'\]"):
        samples.feeds("head", 1)
