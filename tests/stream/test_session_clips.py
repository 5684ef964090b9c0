"""Clip recognisers and several recognisers together, through the whole line on real media."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import skimage.data

from engines.bundle import Bundle
from stream.config import SessionConfig
from stream.feed.messages import Session as SessionMessage
from stream.perception.views import Perception, View
from stream.records import VideoFrame
from stream.session import Session
from stream.sources.media import MediaSource, Speed
from tests.media_files import Audio, Video, write_media
from tests.sessions import BUNDLE, Told, played
from tests.small_clip_bundle import HOP_S, small_clip_bundle

pytestmark = pytest.mark.timeout(120)  # a line that hangs fails

SCENE: np.ndarray = skimage.data.astronaut()


def walking(i: int, height_px: int, width_px: int) -> np.ndarray:
    """A real person who moves to the right by two pixels a picture, and whose light changes."""
    moved = cv2.warpAffine(
        SCENE, np.array([[1.0, 0, 4 * i - 60], [0, 1, 0]]), (512, 512), borderMode=cv2.BORDER_REFLECT
    )
    small = cv2.resize(moved, (width_px, height_px), interpolation=cv2.INTER_AREA)
    return np.asarray((small * (0.6 + 0.4 * np.sin(i / 5) ** 2)).astype(np.uint8))


def buzz(t_s: np.ndarray) -> np.ndarray:
    return 0.4 * np.sign(np.sin(2 * np.pi * (110 + 40 * t_s) * t_s)) * (0.3 + 0.7 * np.sin(3 * t_s) ** 2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video = Video(width_px=256, height_px=256, n_frames=50, picture=walking)
    return write_media(tmp_path_factory.mktemp("clip") / "a.mkv", video=video, audio=Audio(duration_s=2.0, sound=buzz))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_clip_bundle(tmp_path_factory.mktemp("bundle"))


def apart(one: Told, other: Told) -> float:
    """Largest difference of two runs' posteriors; they must speak of the same."""
    assert [(e.t, e.person, e.span) for e in one.estimates] == [(e.t, e.person, e.span) for e in other.estimates]
    pairs = zip(one.estimates, other.estimates, strict=True)
    return max(abs(a.posterior[label] - b.posterior[label]) for a, b in pairs for label in a.posterior)


def test_a_clip_recogniser_gives_an_estimate_a_hop(clip: Path, bundle: Bundle) -> None:
    told = played(clip, bundles=[bundle])
    assert [e.span[1] for e in told.estimates] == [round(HOP_S * k, 6) for k in range(1, 21)]
    assert {e.person for e in told.estimates} == {1}
    # half of the waveform is there from the third hop on
    assert [e.modalities["face"] for e in told.estimates] == [1.0, 1.0, *[0.5] * 18]
    spreads = [max(e.posterior.values()) - min(e.posterior.values()) for e in told.estimates]
    assert max(spreads) > 0.02
    # the picture moves to the right, which speaks for the first label
    assert all(e.posterior["red"] == max(e.posterior.values()) for e in told.estimates[5:])


def test_incremental_scoring_is_scoring_each_window_whole(clip: Path, bundle: Bundle) -> None:
    for recogniser in (bundle, BUNDLE):
        once = played(clip, bundles=[recogniser])
        whole = played(clip, bundles=[recogniser], scoring="whole")
        assert len(once.estimates) >= 8
        assert apart(once, whole) <= 1e-4


def test_real_time_and_full_speed_tell_the_same(clip: Path, bundle: Bundle) -> None:
    messages: list[Any] = []
    config = SessionConfig()
    Session(MediaSource(str(clip), speed=Speed.REALTIME, name="a"), [bundle, BUNDLE][:1], messages.append, config).run()
    assert Told(messages, {}).essence == played(clip, bundles=[bundle]).essence


def test_several_recognisers_are_fused_by_their_weights(clip: Path, bundle: Bundle, tmp_path: Path) -> None:
    other = small_clip_bundle(tmp_path, name="other", labels=["blue", "red", "green"])
    alone = [played(clip, bundles=[one]) for one in (bundle, other)]
    fused = played(clip, bundles=[bundle, other], model=("a", "b"), weights="3:1")
    assert len(fused.estimates) == len(alone[0].estimates)
    for first, second, both in zip(*(told.estimates for told in (*alone, fused)), strict=True):
        for label, share in both.posterior.items():
            assert share == pytest.approx((3 * first.posterior[label] + second.posterior[label]) / 4, abs=2e-6)
    opening = fused.messages[0]
    assert isinstance(opening, SessionMessage)
    assert opening.recogniser == "clip+other 3:1"
    assert {e.bundle for e in fused.estimates} == {opening.bundle}
    assert opening.bundle not in (bundle.sha256[:16], other.sha256[:16])


def test_recognisers_with_other_hops_wait_for_each_other(clip: Path, bundle: Bundle, tmp_path: Path) -> None:
    slow = {"segment_s": 0.7, "audio_s": 0.5, "jitter_s": 0.0, "n_segments": 1, "alignments": ["causal"]}
    wide = small_clip_bundle(tmp_path, scheme=slow)
    for order in ((bundle, wide), (wide, bundle)):
        told = played(clip, bundles=list(order), model=("a", "b"))
        hop_s = order[0].manifest.scheme.segment_s
        assert [e.span[1] for e in told.estimates] == pytest.approx(
            [hop_s * (k + 1) for k in range(len(told.estimates))]
        )
        assert told.totals["hops"] == len(told.estimates) >= 3


def test_recognisers_of_other_labels_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="expected recognisers of the same labels, clip has red, green, blue, default"):
        Session(MediaSource("x", speed=Speed.MAX), [bundle, BUNDLE], print, SessionConfig())


@pytest.mark.parametrize("weights", ["", "1", "1:x", "1:2:3", "-1:2", "0:0"])
def test_weights_that_are_none_are_refused(weights: str) -> None:
    with pytest.raises(ValueError, match="weights: expected"):
        SessionConfig(model=("a", "b"), weights=weights)


def test_sound_alone_is_heard(tmp_path: Path, bundle: Bundle) -> None:
    told = played(write_media(tmp_path / "a.wav", audio=Audio(duration_s=1.0, sound=buzz)), bundles=[bundle])
    assert [e.modalities["voice"] for e in told.estimates] == [0.0, 0.0, *[1.0] * 8]
    assert {e.modalities["face"] for e in told.estimates} == {0.0}


def test_pose_and_flow_are_computed_only_where_a_recogniser_asks(
    clip: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        def __init__(self, *_: object) -> None:
            raise AssertionError("expected nobody to need this")

    monkeypatch.setattr("stream.perception.views.PoseEstimator", Refused)
    monkeypatch.setattr("stream.perception.views.OpticalFlow", Refused)
    assert played(clip).estimates
    for wanted in (replace_manifest(bundle, pose=False), replace_manifest(bundle, flow="none")):
        with pytest.raises(AssertionError, match="expected nobody to need this"):
            played(clip, bundles=[wanted])


def replace_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, **changes))


def test_each_view_takes_its_own_rate_and_shares_the_persons(bundle: Bundle) -> None:
    views = [View(BUNDLE.manifest.face, rate_hz=10), View(bundle.manifest.face, rate_hz=25, flow="dis", pose=True)]
    frames = [VideoFrame(t_ns=40_000_000 * k, image=walking(k, 256, 256)) for k in range(10)]
    with Perception(views) as perception:
        seen = [perception.process(frame) for frame in frames]
    assert [k for k, (slow, _) in enumerate(seen) if slow is not None] == [0, 3, 5, 8]
    for slow, fast in seen:
        assert fast is not None
        assert fast.whole is not None
        assert slow is None or [f.person for f in slow.faces] == [f.person for f in fast.faces] == [1]
        assert fast.faces[0].crop is fast.whole.crop
        assert fast.faces[0].pose is not None
        assert np.abs(fast.faces[0].pose).max() > 0.1
    flows = [fast.whole.flow for _, fast in seen if fast is not None and fast.whole is not None]
    assert flows[0] is None
    assert np.median([np.median(flow[..., 0]) for flow in flows[1:] if flow is not None]) > 0.05
