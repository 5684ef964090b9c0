"""Factorised bilinear pooling as a task: what it takes of a clip, what it learns, frozen faces, and its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stream.windows import spread
from tests.train.task_clips import (
    Kind,
    Labelled,
    accuracy,
    assert_same_views,
    batch,
    bundled,
    labelled,
    posterior_of,
    trained,
    without_gradient,
)
from train.models.bilinear import (
    CLASS_WEIGHTS,
    LABELS,
    BilinearConfig,
    BilinearRecogniser,
    FaceClassifier,
    FaceConfig,
    SingleModality,
    VideoBranch,
)
from train.tasks.bilinear import BilinearTask
from train.tasks.task import Task

SMALL = BilinearConfig(
    faces=(FaceConfig(backbone="ResNet18", crop_px=32, width=4),),
    n_samples=640 + 62 * 160,
    audio_width=4,
    hidden=8,
    n_pooled=16,
    dropout=0.0,
)


def task(labels: tuple[str, ...] = ("a", "b"), **changes: str) -> BilinearTask:
    return BilinearTask(replace(SMALL, **changes), labels=labels, n_frames=3)  # type: ignore[arg-type]


def material(kind: Kind, n: int = 48, seed: int = 1) -> Labelled:
    return labelled(kind, n, task().needs(), seed=seed, duration_s=0.8)  # ten pictures


@pytest.fixture(scope="module")
def face_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face network that was trained on faces alone, as the paper's are, saved as the training of pictures does."""
    made = task(modality="face", visual_attention="mean")
    network = trained(made, material("appearance", 64), epochs=8, learning_rate=3e-3)
    assert isinstance(network, SingleModality)
    assert isinstance(network.branch, VideoBranch)
    assert accuracy(made, network, material("appearance", seed=2)) >= 0.9
    (face,) = network.branch.features.networks
    state: dict[str, Tensor] = {f"network.network.{name}": tensor for name, tensor in face.state_dict().items()}
    path = tmp_path_factory.mktemp("faces") / "weights.pt"
    torch.save(state | {"network.classifier.bias": torch.zeros(8)}, path)
    return path


def frozen(weights: Path, **changes: str) -> BilinearTask:
    return replace(task(**changes), freeze=True, face_weights=(weights,))


def test_it_is_a_task_with_the_papers_sizes() -> None:
    made: Task = BilinearTask()
    assert made.labels == LABELS
    face = made.needs().face
    assert face is not None
    assert (face.size_px, face.align, face.margin, face.fallback) == (224, "box", 0.3, "frame")
    assert BilinearTask(BilinearConfig(modality="voice")).needs().face is None
    assert not BilinearTask(BilinearConfig(modality="face")).needs().audio


def test_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 2 class weights, got 7"):
        BilinearTask(BilinearConfig(class_weights=CLASS_WEIGHTS), labels=("a", "b"))
    with pytest.raises(ValueError, match="expected no file of face weights, or 1, got 2"):
        BilinearTask(face_weights=(tmp_path / "a", tmp_path / "b"))
    with pytest.raises(ValueError, match="expected files of face weights to freeze"):
        BilinearTask(freeze=True)
    with pytest.raises(ValueError, match="expected one picture or more, got 0"):
        BilinearTask(n_frames=0)


def test_pictures_are_spread_over_the_clip_with_and_without_a_face() -> None:
    clip = material("agreement").clips[0]
    assert clip.crops is not None
    assert clip.samples is not None
    item = replace(task(), n_frames=4).inputs(clip, None)
    np.testing.assert_array_equal(item["crops"], clip.crops[spread(10, 4)])
    start = (len(clip.samples) - SMALL.n_samples) // 2
    np.testing.assert_array_equal(item["waveform"], clip.samples[start : start + SMALL.n_samples])
    assert_same_views(task(), clip)
    for lacking in (replace(clip, crops=None), replace(clip, samples=None)):
        with pytest.raises(ValueError, match="to be prepared; prepare it for bilinear"):
            task().inputs(lacking, None)


def test_items_are_varied_alike_within_a_clip() -> None:
    clip = material("agreement").clips[0]
    assert clip.crops is not None
    still = replace(clip, crops=np.repeat(clip.crops[:1], 10, 0))
    drawn = task().inputs(still, np.random.default_rng(3))["crops"]
    np.testing.assert_array_equal(drawn, np.repeat(drawn[:1], 3, 0))
    assert not np.array_equal(drawn[0], clip.crops[0])
    plain = replace(task(), augment=False).inputs(still, np.random.default_rng(3))["crops"]
    np.testing.assert_array_equal(plain[0], clip.crops[0])


@pytest.mark.parametrize("changes", [{}, {"modality": "face"}, {"modality": "voice"}, {"fusion": "concatenation"}])
def test_gradients_reach_every_parameter(changes: dict[str, str]) -> None:
    assert without_gradient(task(**changes), material("agreement", 16)) == []


@pytest.mark.parametrize(("kind", "sees"), [("appearance", "face"), ("spectrum", "voice")])
def test_each_modality_learns_what_it_can_see(kind: Kind, sees: str) -> None:
    for modality in ("face", "voice"):
        made = task(modality=modality)
        network = trained(made, material(kind), epochs=8, learning_rate=5e-3)
        right = accuracy(made, network, material(kind, seed=2))
        assert right >= 0.9 if modality == sees else right <= 0.68


def test_pooling_learns_what_shows_in_the_agreement_alone(face_weights: Path) -> None:
    held_out = material("agreement", 64, seed=2)
    made = frozen(face_weights)
    network = trained(made, material("agreement", 96), epochs=15, learning_rate=5e-3)
    assert accuracy(made, network, held_out) >= 0.9
    for changes in ({"modality": "face"}, {"modality": "voice"}, {"fusion": "concatenation"}):
        alone = task(**changes) if changes.get("modality") == "voice" else frozen(face_weights, **changes)
        network = trained(alone, material("agreement", 96), epochs=5, learning_rate=5e-3)
        assert accuracy(alone, network, held_out) <= 0.68


def test_it_learns_32_clips_by_heart() -> None:
    made, clips = task(), material("appearance", 32)
    network = trained(made, clips, epochs=24, learning_rate=5e-3, size=8)
    assert accuracy(made, network, clips) == 1.0


def test_frozen_faces_are_computed_once_and_stay_as_the_file_has_them(face_weights: Path) -> None:
    made, clips = frozen(face_weights), material("agreement", 16)
    state = torch.load(face_weights, weights_only=True)
    network = trained(made, clips, epochs=2, learning_rate=1e-2, size=8)
    assert isinstance(network, BilinearRecogniser)
    for name, tensor in network.video.features.networks[0].state_dict().items():
        torch.testing.assert_close(tensor, state[f"network.network.{name}"])
    assert str(made.matched[0]).endswith("not in the network: network.classifier.bias")
    item = made.inputs(clips.clips[0], None)
    unchanged = task().inputs(clips.clips[0], None)["crops"]
    with torch.no_grad():
        expected = network.video(torch.from_numpy(unchanged)[None])[0]
    torch.testing.assert_close(torch.from_numpy(item["features"]), expected, atol=1e-5, rtol=1e-5)
    # Pixels are not looked at again.
    black = replace(clips.clips[0], crops=np.zeros_like(clips.clips[0].crops))
    np.testing.assert_array_equal(made.inputs(black, None)["features"], item["features"])


def test_face_weights_begin_a_training_of_everything(face_weights: Path, tmp_path: Path) -> None:
    made = replace(task(), face_weights=(face_weights,))
    network = made.network()
    assert all(p.requires_grad for p in network.parameters())
    state = torch.load(face_weights, weights_only=True)
    torch.testing.assert_close(
        network.get_parameter("video.features.networks.0.backbone.conv1.weight"),
        state["network.network.backbone.conv1.weight"],
    )
    torch.save(FaceClassifier(replace(SMALL.faces[0], width=8)).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(ValueError, match="expected all of a face network of the same backbone, crop and width"):
        replace(made, face_weights=(tmp_path / "wide.pt",)).network()
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected the weights of a"):
        replace(made, face_weights=(tmp_path / "other.pt",)).network()


def test_class_weights_multiply_posteriors() -> None:
    clips = material("agreement", 4)
    plain, weighted = (
        BilinearTask(replace(SMALL, class_weights=weights), n_frames=3) for weights in ((), CLASS_WEIGHTS)
    )
    torch.manual_seed(0)
    network = plain.network().eval()
    inputs = batch(plain, clips.clips, None)
    scores = plain.posterior(network, inputs) * torch.tensor(CLASS_WEIGHTS)
    expected = scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(weighted.posterior(network, inputs), expected)


EXPORTED: dict[str, tuple[dict[str, str], set[str]]] = {
    "both": ({}, {"both"}),
    "voice": ({"modality": "voice"}, {"both", "voice"}),
}


@pytest.mark.parametrize("name", list(EXPORTED))
def test_the_bundle_gives_torchs_posteriors(name: str, tmp_path: Path) -> None:
    changes, posteriors = EXPORTED[name]
    made = task(LABELS, **changes)
    made = replace(made, config=replace(made.config, class_weights=CLASS_WEIGHTS))
    clips = material("agreement")
    network = trained(made, clips, epochs=1, learning_rate=1e-3)
    exported = made.export(network, tmp_path, clips.clips[:3])
    assert exported.difference < 1e-4
    bundle = bundled(made, exported, tmp_path)
    manifest = bundle.manifest
    assert set(manifest.posteriors) == posteriors
    assert manifest.clip is not None
    assert (manifest.clip.n_frames, manifest.clip.span_s) == (3, SMALL.n_samples / 16_000)
    for clip in clips.clips[3:5]:
        inputs = batch(made, [clip], None)
        named = {"crops": "crop", "waveform": "waveform"}
        raw = {named[key]: value[0].numpy() for key, value in inputs.items()}
        with torch.no_grad():
            expected = made.posterior(network, inputs)[0].numpy()
        np.testing.assert_allclose(posterior_of(bundle, "both", raw), expected, atol=1e-4)
