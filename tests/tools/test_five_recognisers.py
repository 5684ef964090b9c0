"""Each of the five recognisers from encoded clips to estimates: trained, exported and replayed by the command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import load
from tests import clip_corpora as made
from tests.clip_signals import scenes
from tests.sessions import Told, played
from tools.cli import run
from train.corpora.readers import read_clips

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True, kw_only=True)
class Small:
    """A recipe on a miniature of its own corpus, narrow enough for a test."""

    recipe: str
    corpus: str
    make: Callable[[Path], Path]
    settings: tuple[str, ...]


RECIPES = (
    Small(
        recipe="temporal",
        corpus="cremad",
        make=lambda folder: made.cremad(folder, n_clips=20, n_labels=2, duration_s=1.0),
        settings=(
            "crop_px=24", "n_samples=4000", "face_widths=4,8", "face_blocks=1,1", "voice_widths=4,8",
            "voice_blocks=1,1", "n_segments=3",
        ),
    ),
    Small(
        recipe="icanet",
        corpus="iemocap",
        make=lambda folder: made.iemocap(folder, n_clips=20, duration_s=1.0),
        settings=(
            "crop_px=32", "n_frames=16", "narrow=8", "n_samples=8000", "span_s=0.8", "flow=dis",
            "vgg.picture_px=32", "vgg.widths=8,12,16,24,24", "vgg.hidden=24",
        ),
    ),
    Small(
        recipe="skeleton",
        corpus="videoemotion8",
        make=lambda folder: made.videoemotion8(folder, n_clips=24, duration_s=2.0),
        settings=(
            "n_fused=64", "n_steps=8", "frame_hz=4", "swin.crop_px=64", "swin.patch_px=16", "swin.depths=1",
            "swin.heads=4", "swin.window=2", "swin.width=768", "vggish.hidden=24",
        ),
    ),
    Small(
        recipe="emodal",
        corpus="folders",
        make=lambda folder: made.folders(folder, n_clips=12, n_labels=2, duration_s=1.0),
        settings=("crop_px=24", "n_samples=8000", "image_widths=4,6,8", "image_hidden=16", "audio_hidden=16,12"),
    ),
    Small(
        recipe="bilinear",
        corpus="afew",
        make=lambda folder: made.afew(folder, n_clips=28, duration_s=1.0),
        settings=(
            "faces.backbone=ResNet18", "faces.crop_px=32", "faces.width=4", "n_samples=10560", "audio_width=4",
            "hidden=8", "n_pooled=16", "n_frames=3",
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a face and a voice."""
    (scene,) = scenes("both", 1, 2, 5)
    return made.write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", scene, 3.0)


@pytest.fixture(scope="module", params=RECIPES, ids=lambda small: small.recipe)
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small: Small = request.param
    root = tmp_path_factory.mktemp(small.recipe)
    data = small.make(root / "data")
    settings = [word for text in small.settings for word in ("--set", text)]
    fold = read_clips(small.corpus, data).folds[0].name
    options = ["--epochs", "1", "--threads", "1", "--workers", "1", "--out", str(root / "run"), "--fold", fold]
    assert run(["train", small.recipe, "--data", f"{small.corpus}={data}", *settings, *options]) == 0
    return root / "run"


def apart(one: Told, other: Told) -> float:
    assert [(e.t, e.person, e.label) for e in one.estimates] == [(e.t, e.person, e.label) for e in other.estimates]
    pairs = zip(one.estimates, other.estimates, strict=True)
    return max(abs(a.posterior[label] - b.posterior[label]) for a, b in pairs for label in a.posterior)


def test_a_run_leaves_what_a_reader_needs(run_folder: Path) -> None:
    (bundle,) = run_folder.glob("*/bundle")
    fold = bundle.parent
    names = {path.name for path in fold.iterdir()}
    assert {"result.json", "metrics.jsonl", "curves.png", "confusion.png", "bundle"} <= names
    result = json.loads((fold / "result.json").read_text())
    assert 0.0 <= result["result"]["accuracy"] <= 1.0
    manifest = load(bundle).manifest
    assert manifest.command.startswith(f"emocast train {manifest.name} --data ")
    assert (bundle / "README.md").stat().st_size > 500
    assert run(["models", "show", str(bundle)]) == 0


def test_it_streams_and_incremental_scoring_is_scoring_each_window_whole(run_folder: Path, clip: Path) -> None:
    bundle = load(next(run_folder.glob("*/bundle")))
    once, whole = (played(clip, bundles=[bundle], scoring=kind) for kind in ("incremental", "whole"))
    assert apart(once, whole) <= 1e-4
    scored = [e for e in once.estimates if e.reason in (None, "uncertain")]
    assert len(scored) >= 2
    assert {e.person for e in scored} == {1}
    assert max(max(e.posterior.values()) for e in scored) > 1 / len(bundle.manifest.labels)
    assert len({tuple(e.posterior.values()) for e in scored}) > 1
    spans = [tuple(float(p) for p in e.posterior.values()) for e in scored]
    assert np.allclose([sum(p) for p in spans], 1.0, atol=1e-4)


def test_it_is_replayed_by_its_folder(run_folder: Path, clip: Path, tmp_path: Path) -> None:
    bundle, out = next(run_folder.glob("*/bundle")), tmp_path / "a.jsonl"
    options = ["--speed", "max", "--no-feed", "--quiet", "--out", str(out)]
    assert run(["replay", str(clip), "--model", str(bundle), *options]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    estimates = [line for line in lines if line["type"] == "estimate"]
    assert len(estimates) >= 5
    assert {line["bundle"] for line in estimates} == {load(bundle).sha256[:16]}
