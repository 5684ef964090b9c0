"""Each of the five recognisers from encoded clips to estimates: trained, exported and replayed by the command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.bundle import load
from stream.aggregation import calibrate
from tests import clip_corpora as made
from tests.clip_signals import scenes
from tests.sessions import Told, played
from tests.train.clip_tasks import batch
from tools.cli import run
from train.clips.recipes import CLIP_RECIPES
from train.corpora.clips import Clip, ClipCorpus
from train.corpora.readers import read_clips
from train.preparation.prepare import prepare

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
            "crop_px=32", "n_frames=16", "narrow=8", "n_samples=16000", "span_s=1.0", "flow=dis",
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
        settings=("crop_px=24", "n_samples=16000", "image_widths=4,6,8", "image_hidden=16", "audio_hidden=16,12"),
    ),
    Small(
        recipe="bilinear",
        corpus="afew",
        make=lambda folder: made.afew(folder, n_clips=28, duration_s=1.0),
        settings=(
            "faces.backbone=ResNet18", "faces.crop_px=32", "faces.width=4", "n_samples=16000", "audio_width=4",
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


def test_a_stream_says_what_training_measured(run_folder: Path, tmp_path: Path) -> None:
    """A clip as long as the window, once prepared and scored by torch, once streamed and scored by the graphs."""
    bundle = load(next(run_folder.glob("*/bundle")))
    manifest = bundle.manifest
    if manifest.clip is None:
        pytest.skip("its windows are drawn at random: tests/train/test_task_temporal.py compares the draws")
    (scene,) = scenes("both", 1, 2, 9)
    path = made.write_clip(tmp_path / "a.mkv", scene, manifest.clip.span_s)
    small = next(one for one in RECIPES if one.recipe == manifest.name)
    task = CLIP_RECIPES[small.recipe].task(manifest.labels, dict(text.split("=", 1) for text in small.settings))
    clip = Clip(name="one/a", path=path, label=0, person="a")
    corpus = ClipCorpus(name="one", labels=manifest.labels, clips=(clip,), folds=(), protocol="")
    prepared = prepare(corpus, task.needs(), tmp_path / "cache", workers=1)[0]
    network = task.network()
    network.load_state_dict(torch.load(bundle.folder.parent / "weights.pt", weights_only=True))
    with torch.no_grad():
        posterior = task.posterior(network.eval(), batch(task, [prepared]))[0].numpy()
    (estimate,) = (
        e for e in played(path, bundles=[bundle]).estimates if e.span[1] == pytest.approx(manifest.clip.span_s)
    )
    assert estimate.modalities == {"face": 0.5, "voice": 0.5}
    # flow is kept to a 32nd of a pixel in the cache, sound to 16 bits
    expected = calibrate(posterior, manifest.temperature.both)
    np.testing.assert_allclose(list(estimate.posterior.values()), expected, atol=2e-3)


def test_it_is_replayed_by_its_folder(run_folder: Path, clip: Path, tmp_path: Path) -> None:
    bundle, out = next(run_folder.glob("*/bundle")), tmp_path / "a.jsonl"
    options = ["--speed", "max", "--no-feed", "--quiet", "--out", str(out)]
    assert run(["replay", str(clip), "--model", str(bundle), *options]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    estimates = [line for line in lines if line["type"] == "estimate"]
    assert len(estimates) >= 5
    assert {line["bundle"] for line in estimates} == {load(bundle).sha256[:16]}
