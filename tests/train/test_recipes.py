"""The default recipe from corpora to bundle, on miniature corpora and with few batches."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from engines.bundle import Bundle, Measured, load
from tests import corpora_files as made
from train import recipes
from train.corpora.items import CorpusError
from train.default.finish import _fusion
from train.evaluate import Recogniser, evaluate
from train.models.temporal import LABELS, AudioVisualNetwork, TemporalConfig
from train.recipes import RECIPES, STAGES, train_default


def trial(data: Mapping[str, Path], out: Path, stage: str | None = None) -> Path:
    """The recipe for an epoch of each stage, or of one."""
    return train_default(data, out, stage=stage, epochs=1, precision="32-true", threads=1, seed=3)


@dataclass(frozen=True, kw_only=True)
class Run:
    data: dict[str, Path]
    out: Path
    made: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One run of all stages, an epoch of one small batch each; the constants stay small for the whole module."""
    root = tmp_path_factory.mktemp("run")
    data = {
        "ferplus": made.even_ferplus(root / "ferplus", train=2, valid=2),
        "ravdess": made.ravdess(root / "ravdess"),
        "emodb": made.emodb(root / "emodb"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FACES", "POLISH", "VOICES", "PAIRS"):
            patch.setattr(recipes, name, replace(getattr(recipes, name), batch_size=8))
        patch.setattr(recipes, "FACES_SIZES_PX", (24,))
        patch.setattr(recipes, "VOICES_BATCHES", 1)
        patch.setattr(recipes, "PAIRS_BATCHES", 1)
        yield Run(data=data, out=root / "out", made=trial(data, root / "out"))


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    return load(run.made)


def notes(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_note_and_weights_for_each_stage(run: Run) -> None:
    assert run.made == run.out / "bundle"
    first = notes(run.out)[:5]
    assert [note["stage"] for note in first] == list(STAGES)
    assert {note["seed"] for note in first} == {3}
    assert first[0]["data"] == ["emodb", "ferplus", "ravdess"]
    for stage in STAGES[:-1]:
        assert (run.out / stage / "weights.pt").is_file()
        assert len((run.out / stage / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_bundle_says_what_it_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.labels == LABELS
    assert [c.name for c in manifest.trained] == ["FER+", "RAVDESS", "EmoDB"]
    assert manifest.command == (
        "emocast train default --data ferplus=DIR --data ravdess=DIR --data emodb=DIR --seed 3 --epochs 1"
    )
    assert (manifest.face.size_px, manifest.audio.n_samples) == (48, 20_480)
    assert manifest.scheme.alignments == ("centered", "causal")
    assert sorted(p.name for p in bundle.folder.iterdir()) == [
        "README.md", "audio_encoder.onnx", "bundle.json", "frame_encoder.onnx", "head.onnx",
    ]  # fmt: skip
    for value in (manifest.temperature.face, manifest.temperature.voice, manifest.temperature.both):
        assert 0.2 <= value <= 5.0


def test_its_scores_are_what_evaluate_finds(run: Run, bundle: Bundle) -> None:
    faces = [("ferplus", run.data["ferplus"])]
    voices = [(name, run.data[name]) for name in ("ravdess", "emodb")]
    pairs = evaluate(bundle, faces=faces, voices=voices, seed=3)
    heard = evaluate(bundle, voices=voices, seed=3)
    expected = [
        ("ferplus", "face", evaluate(bundle, faces=faces, seed=3)["face"]),
        ("ravdess", "voice", heard["ravdess"]),
        ("emodb", "voice", heard["emodb"]),
        ("all of these", "voice", heard["voice"]),
        *(("class-matched pairs", name, pairs[name]) for name in ("both", "face", "voice")),
    ]
    found = bundle.manifest.scores
    assert [(s.corpus, s.modality) for s in found] == [(corpus, modality) for corpus, modality, _ in expected]
    for score, (_, _, metrics) in zip(found, expected, strict=True):
        assert (score.n, score.split) == (metrics.n, "valid")
        assert score.accuracy == pytest.approx(metrics.accuracy, abs=6e-5)
        assert score.uar == pytest.approx(metrics.uar, abs=6e-5)
        assert score.ece == pytest.approx(metrics.ece, abs=6e-5)


def test_its_weights_are_those_of_the_last_stages(run: Run, bundle: Bundle) -> None:
    network = AudioVisualNetwork(TemporalConfig())
    state = {stage: torch.load(run.out / stage / "weights.pt", weights_only=True) for stage in STAGES[1:-1]}
    own = {
        f"{into}.{key.removeprefix(part + '.')}": value
        for stage, part, into in (
            ("polish", "face", "face"), ("polish", "head", "face_head"), ("voices", "voice", "voice"),
            ("voices", "head", "voice_head"), ("pairs", "head", "both_head"),
        )
        for key, value in state[stage].items() if key.startswith(part + ".")
    }  # fmt: skip
    network.load_state_dict(own)
    network.eval()
    grey = np.stack([made.picture(0, 0), made.picture(3, 1)])
    crops = np.repeat(grey[..., None], 3, axis=3)
    waves = np.random.default_rng(0).normal(0, 0.1, (2, 20_480)).astype(np.float32)
    with torch.no_grad():
        face, voice = network.face(torch.from_numpy(crops)), network.voice(torch.from_numpy(waves))
        expected = network.joint(face, voice).softmax(1)
    recogniser = Recogniser(bundle)
    np.testing.assert_allclose(recogniser.faces(grey).features, face, atol=1e-4)
    np.testing.assert_allclose(recogniser.faces(grey).posterior, network.face_head(face).softmax(1).detach(), atol=1e-4)
    np.testing.assert_allclose(recogniser.voice(waves).features, voice, atol=1e-4)
    np.testing.assert_allclose(recogniser.both(face.numpy(), voice.numpy()), expected, atol=1e-4)


def test_the_card_states_seed_command_terms_and_scores(bundle: Bundle) -> None:
    card = (bundle.folder / "README.md").read_text()
    assert bundle.manifest.command in card
    assert "Seed 3." in card
    for corpus in bundle.manifest.trained:
        assert f"| {corpus.name} | {corpus.used} | {corpus.licence} |" in card
    for s in bundle.manifest.scores:
        row = f"| {s.corpus} | {s.modality} | {s.protocol} | {s.n} | {s.accuracy:.1%} | {s.uar:.1%} | {s.ece:.3f} |"
        assert row in card
    assert "class-matched" in card


def test_fusion_weights_are_rightness_beyond_chance() -> None:
    def scored(corpus: str, modality: Literal["face", "voice", "both"], accuracy: float) -> Measured:
        return Measured(
            corpus=corpus, split="valid", modality=modality, protocol="", n=1, accuracy=accuracy, uar=0.0, ece=0.0
        )

    chance = 1 / 7
    scores = [
        scored("ferplus", "face", chance + 0.6), scored("ravdess", "voice", chance + 0.4),
        scored("emodb", "voice", chance + 0.2), scored("class-matched pairs", "both", chance + 0.75),
        scored("class-matched pairs", "face", 0.0), scored("class-matched pairs", "voice", 0.0),
    ]  # fmt: skip
    fusion = _fusion(scores)
    assert (fusion.face, fusion.voice, fusion.both) == (1.0, 0.5, 1.25)
    poor = [scored("ferplus", "face", 0.0), scored("emodb", "voice", 0.0), scored("class-matched pairs", "both", 0.0)]
    fusion = _fusion(poor)
    assert (fusion.face, fusion.voice, fusion.both) == (1.0, 1.0, 1.0)


def test_finished_stages_are_not_repeated(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(run.out, out)
    for stage in STAGES[:-1]:
        before = torch.load(out / stage / "weights.pt", weights_only=True)
        assert trial(run.data, out, stage=stage) == out
        after = torch.load(out / stage / "weights.pt", weights_only=True)
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert len((out / stage / "metrics.jsonl").read_text().splitlines()) == 1
    assert [note["stage"] for note in notes(out)] == [*STAGES, *STAGES[:-1]]


def test_stages_by_themselves_give_the_weights_of_the_whole_run(run: Run, tmp_path: Path) -> None:
    # faces and voices may train side by side, in any order
    for stage in ("voices", "faces", "polish", "pairs"):
        trial(run.data, tmp_path, stage=stage)
    for stage in ("voices", "faces", "polish", "pairs"):
        one, two = (torch.load(out / stage / "weights.pt", weights_only=True) for out in (run.out, tmp_path))
        for key in one:
            torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=1e-4, msg=f"{stage} {key}")


def test_a_stage_that_needs_another_says_which(run: Run, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"expected stage polish to be trained in .*; run it first: --stage polish"):
        trial(run.data, tmp_path, stage="pairs")
    with pytest.raises(ValueError, match="expected a stage of faces, polish, voices, pairs, bundle, got 'head'"):
        trial(run.data, tmp_path, stage="head")


@pytest.mark.parametrize(
    ("names", "got"),
    [((), "nothing"), (("ferplus",), "ferplus"), (("ravdess",), "ravdess"), (("ferplus", "ravdess", "x"), "x")],
)
def test_a_missing_corpus_is_one_line(tmp_path: Path, names: tuple[str, ...], got: str) -> None:
    expected = rf"expected --data ferplus=DIR and one or more of ravdess=DIR, emodb=DIR, .*, got .*{got}$"
    with pytest.raises(CorpusError, match=expected):
        trial(dict.fromkeys(names, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_recipes_by_name() -> None:
    assert list(RECIPES) == ["default", "default-int8", "emodal-matched", "bilinear-features", "bilinear-faces"]
    assert RECIPES["default"].corpora == ("ferplus", "ravdess", "emodb", "nemo", "cremad")
    assert RECIPES["default"].train is train_default
