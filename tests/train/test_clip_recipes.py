"""From a folder of clips to a bundle, by a recipe's name and settings as a command line gives them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.bundle import load
from tests import clip_corpora as made
from train.clips.recipe_run import train_clip_recipe
from train.clips.recipes import CLIP_RECIPES
from train.corpora.items import CorpusError
from train.corpora.readers import CLIP_READERS

SMALL = {
    "modality": "audio", "n_samples": "8000", "audio_hidden": "8,6", "hop_s": "0.25", "loop.batch_size": "4",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    corpus: Path
    out: Path
    bundle: Path
    weights: Path


def trial(corpus: Path, out: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "seed": 4, "epochs": 1, "settings": SMALL, "threads": 1, "workers": 1, "accelerator": "cpu",
        "cache": corpus.parent / "cache", **changes,
    }  # fmt: skip
    return train_clip_recipe(CLIP_RECIPES["emodal"], {"folders": corpus}, out, **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("recipes")
    corpus = made.folders(root / "clips", "spectrum", n_clips=20, duration_s=0.6)
    weights = root / "first.pt"
    network = CLIP_RECIPES["emodal"].task(("angry", "happy", "neutral", "sad"), _of_task(SMALL)).network()
    torch.save({k.removeprefix("network."): v for k, v in network.state_dict().items()}, weights)
    bundle = trial(corpus, root / "out", initial={"network": weights})
    return Run(corpus, root / "out", bundle, weights)


def _of_task(settings: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in settings.items() if not name.startswith("loop.")}


def test_a_run_from_clips_to_a_bundle(run: Run) -> None:
    manifest = load(run.bundle).manifest
    assert (manifest.name, manifest.labels) == ("emodal", ("angry", "happy", "neutral", "sad"))
    assert manifest.audio.n_samples == 8000
    assert [score.modality for score in manifest.scores] == ["voice"]
    assert manifest.temperature.voice == manifest.temperature.both  # one posterior under two names
    assert manifest.command == (
        "emocast train emodal --data folders=DIR --seed 4 --epochs 1 --set modality=audio --set n_samples=8000 "
        "--set audio_hidden=8,6 --set hop_s=0.25 --set loop.batch_size=4 --initial network=first.pt"
    )
    (fold,) = json.loads((run.out / "result.json").read_text())["folds"]
    note = json.loads((run.out / fold / "run.json").read_text())
    assert note["configuration"]["loop"]["batch_size"] == 4
    assert note["configuration"]["task"]["config"]["audio_hidden"] == [8, 6]
    assert len(note["configuration"]["initial"]["network"]) == 64


def test_first_weights_are_reported(run: Run) -> None:
    (fold,) = json.loads((run.out / "result.json").read_text())["folds"]
    report = (run.out / fold / "initial.txt").read_text()
    assert report.startswith(f"network: {run.weights}: ")
    n_taken, n_all = (int(word) for word in report.split(": ")[2].split(" tensors")[0].split(" of "))
    assert 0 < n_taken == n_all


def test_again_it_costs_nothing_and_other_settings_are_refused(run: Run) -> None:
    before = (run.bundle / "bundle.json").stat().st_mtime_ns
    assert trial(run.corpus, run.out, initial={"network": run.weights}) == run.bundle
    assert (run.bundle / "bundle.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds a run with .*batch_size 4 and not 8"):
        trial(run.corpus, run.out, settings={**SMALL, "loop.batch_size": "8"}, initial={"network": run.weights})


def test_wrong_words_are_one_line(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected settings of emodal: audio_hidden, .*; got narrow"):
        trial(run.corpus, tmp_path, settings={"narrow": "8"})
    with pytest.raises(ValueError, match=r"expected a setting of batch_size, .*, got 'rate'"):
        trial(run.corpus, tmp_path, settings={"loop.rate": "8"})
    with pytest.raises(ValueError, match="expected weights for a part of the network, as network, head, got 'face'"):
        trial(run.corpus, tmp_path, initial={"face": run.weights})
    with pytest.raises(CorpusError, match=r"expected --data NAME=DIR with one corpus of folders, .*, got ferplus"):
        train_clip_recipe(CLIP_RECIPES["emodal"], {"ferplus": run.corpus}, tmp_path)


def test_five_recipes_and_their_loops() -> None:
    assert list(CLIP_RECIPES) == ["icanet", "skeleton", "emodal", "bilinear", "temporal"]
    firsts = [recipe.corpora[0] for recipe in CLIP_RECIPES.values()]
    assert firsts == ["iemocap", "videoemotion8", "folders", "afew", "cremad"]
    assert all(set(recipe.corpora) == set(CLIP_READERS) for recipe in CLIP_RECIPES.values())
    skeleton = CLIP_RECIPES["skeleton"].loop  # section 3.1 of its paper
    assert (skeleton.epochs, skeleton.batch_size, skeleton.learning_rate) == (100, 16, 1e-4)


@pytest.mark.parametrize("name", list(CLIP_RECIPES))
def test_a_recipe_takes_the_labels_of_a_corpus(name: str) -> None:
    labels = ("one", "two", "three")
    task = CLIP_RECIPES[name].task(labels, {"frame_hz": "25"})
    assert task.labels == labels
    assert task.needs().frame_hz == 25.0
    assert getattr(task.config, "n_labels", 3) == 3
