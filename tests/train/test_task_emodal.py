"""EMODal as a task: what it takes of a clip, what it learns, and its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

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
from train.losses import LossWeights, bimodal_losses
from train.models.emodal import Emodal, EmodalConfig, Modality, Unimodal
from train.tasks.emodal import EmodalTask
from train.tasks.task import Task

SMALL = EmodalConfig(
    n_labels=2, crop_px=24, n_samples=4000, image_widths=(4, 6, 8), image_hidden=16, audio_hidden=(16, 12), dropout=0.1
)


def task(modality: Modality = "both", n_labels: int = 2) -> EmodalTask:
    return EmodalTask(replace(SMALL, modality=modality, n_labels=n_labels), labels=tuple("abcd"[:n_labels]))


def material(kind: Kind, n: int = 48, seed: int = 1) -> Labelled:
    return labelled(kind, n, task().needs(), seed=seed)


def test_it_is_a_task_with_the_papers_sizes() -> None:
    made: Task = EmodalTask()
    needs = made.needs()
    assert made.labels == ("anger", "happiness", "neutral", "sadness")
    assert needs.face is not None
    assert (needs.face.size_px, needs.face.align, needs.face.fallback) == (128, "box", "none")
    assert (needs.audio, needs.flow, needs.pose) == (True, "none", False)
    assert EmodalTask(EmodalConfig(modality="audio")).needs().face is None
    assert not EmodalTask(EmodalConfig(modality="image")).needs().audio
    with pytest.raises(ValueError, match="expected 4 labels as the network has, got a, b"):
        EmodalTask(labels=("a", "b"))


def test_a_clip_is_evaluated_by_its_middle_face_and_the_middle_of_its_sound() -> None:
    clip = material("halves").clips[5]
    assert clip.seen is not None
    assert clip.crops is not None
    assert clip.samples is not None
    assert clip.seen.tolist() == [True, True, True, False, True, True, True, False, True]
    item = task().inputs(clip, None)
    np.testing.assert_array_equal(item["crop"], clip.crops[4])  # of 0 1 2 4 5 6 8
    start = (len(clip.samples) - 4000) // 2
    np.testing.assert_array_equal(item["waveform"], clip.samples[start : start + 4000])
    assert_same_views(task(), clip)


def test_any_face_of_the_clip_is_trained_on_and_no_other_picture() -> None:
    clip = material("halves").clips[0]
    assert clip.crops is not None
    assert clip.seen is not None
    plain = replace(task(), augment=False)
    generator = np.random.default_rng(0)
    drawn = [plain.inputs(clip, generator)["crop"] for _ in range(60)]
    at = {next(k for k, crop in enumerate(clip.crops) if np.array_equal(crop, one)) for one in drawn}
    assert at == set(np.flatnonzero(clip.seen).tolist())


def test_short_sound_has_zeros_around_it() -> None:
    clip = replace(material("halves").clips[0], samples=np.ones(1000, np.float32))
    evaluated = task().inputs(clip, None)["waveform"]
    assert np.flatnonzero(evaluated).tolist() == list(range(1500, 2500))
    assert task().inputs(clip, np.random.default_rng(0))["waveform"].sum() == 1000


def test_what_a_clip_lacks_is_said() -> None:
    clip = material("halves").clips[0]
    for lacking, text in (
        (replace(clip, samples=None), "expected its sound to be prepared; prepare it for emodal"),
        (replace(clip, crops=None), "expected its faces to be prepared; prepare it for emodal"),
        (replace(clip, seen=np.zeros(9, bool)), "expected a face in one of its 9 pictures, found none"),
    ):
        with pytest.raises(ValueError, match=f"{clip.name}: {text}"):
            task().inputs(lacking, None)


@pytest.mark.parametrize("modality", ["both", "image", "audio"])
def test_gradients_reach_every_parameter(modality: Modality) -> None:
    assert without_gradient(task(modality, 4), material("halves")) == []


def test_the_loss_is_the_three_losses_of_the_paper() -> None:
    weights = LossWeights(common=0.5, joint=2.0, specific=0.25)
    made = replace(task(n_labels=4), weights=weights)
    clips = material("halves")
    torch.manual_seed(0)
    network = made.network()
    assert isinstance(network, Emodal)
    network.eval()
    inputs, labels = batch(made, clips.clips, None), torch.from_numpy(clips.labels)
    image, audio = network.image(inputs["crop"]), network.audio(inputs["waveform"])
    expected = bimodal_losses(network.outputs(image, audio), labels, weights).total
    torch.testing.assert_close(made.loss(network, inputs, labels), expected)
    torch.testing.assert_close(made.posterior(network, inputs), network.joint(image, audio).softmax(1))


def test_features_are_standardised_by_the_means_of_all_batches() -> None:
    made = task("audio")
    torch.manual_seed(0)
    network = made.network().train()
    assert isinstance(network, Unimodal)
    seen = []
    for seed in range(3):
        inputs = batch(made, material("spectrum").clips[16 * seed : 16 * seed + 16], np.random.default_rng(seed))
        made.loss(network, inputs, torch.zeros(16, dtype=torch.int64))
        seen.append(network.get_submodule("network.frontend")(inputs["waveform"]))
    standardise = network.get_submodule("network.standardise")
    torch.testing.assert_close(standardise.running_mean, torch.stack([x.mean(0) for x in seen]).mean(0))
    torch.testing.assert_close(standardise.running_var, torch.stack([x.var(0) for x in seen]).mean(0))


@pytest.mark.parametrize(("kind", "sees"), [("appearance", ("image",)), ("spectrum", ("audio",)), ("halves", ())])
def test_each_modality_learns_what_it_can_see(kind: Kind, sees: tuple[str, ...]) -> None:
    held_out, n_labels = material(kind, seed=2), 4 if kind == "halves" else 2
    modalities: tuple[Modality, ...] = ("both", "image", "audio") if kind == "halves" else ("image", "audio")
    for modality in modalities:
        made = task(modality, n_labels)
        network = trained(made, material(kind), epochs=24 if kind == "halves" else 10, learning_rate=0.01)
        right = accuracy(made, network, held_out)
        if modality == "both":
            assert right >= 0.9  # neither alone tells more than half
            assert accuracy(made, network, material(kind)) == 1.0
        elif modality in sees:
            assert right >= 0.9
        else:
            assert right <= 0.68


def test_it_learns_32_clips_by_heart() -> None:
    made, clips = task(n_labels=4), material("halves", 32)
    network = trained(made, clips, epochs=40, learning_rate=0.01, size=32)
    assert accuracy(made, network, clips) == 1.0


def test_what_shows_in_the_agreement_alone_is_beyond_added_logits() -> None:
    torch.manual_seed(0)
    network = task().network().eval()
    assert isinstance(network, Emodal)
    image, audio = torch.randn(2, 10), torch.randn(2, 10)
    same, crossed = network.joint(image, audio), network.joint(image, audio.flip(0))
    torch.testing.assert_close(same.sum(0), crossed.sum(0))  # so not both pairs of either kind can be right


@pytest.mark.parametrize("modality", ["both", "image"])
def test_the_bundle_gives_torchs_posteriors(modality: Modality, tmp_path: Path) -> None:
    made, clips = task(modality, 4), material("halves")
    network = trained(made, clips, epochs=1, learning_rate=0.01)
    exported = made.export(network, tmp_path, clips.clips[:6])
    assert exported.difference < 1e-4
    bundle = bundled(made, exported, tmp_path)
    manifest = bundle.manifest
    assert manifest.clip is not None
    assert (manifest.clip.n_frames, manifest.clip.span_s, manifest.audio.n_samples) == (1, 0.25, 4000)
    named = {"both": {"both", "face", "voice"}, "image": {"both", "face"}, "audio": {"both", "voice"}}
    assert set(manifest.posteriors) == named[modality]
    for clip in clips.clips[6:9]:
        inputs = batch(made, [clip], None)
        raw = {name: value.numpy() if name == "crop" else value[0].numpy() for name, value in inputs.items()}
        with torch.no_grad():
            expected = made.posterior(network, inputs)[0].numpy()
        np.testing.assert_allclose(posterior_of(bundle, "both", raw), expected, atol=1e-4)
        if isinstance(network, Emodal):
            alone = F.softmax(network.image_head(network.image(inputs["crop"])), 1)[0].detach().numpy()
            np.testing.assert_allclose(posterior_of(bundle, "face", raw), alone, atol=1e-4)
            alone = F.softmax(network.audio_head(network.audio(inputs["waveform"])), 1)[0].detach().numpy()
            np.testing.assert_allclose(posterior_of(bundle, "voice", raw), alone, atol=1e-4)
