"""Class-matched pairs: what is paired with what, what each row is given, and that small networks learn it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F

from tests import corpora_files as made
from train.corpora.items import CorpusError, Faces, Utterance
from train.frontends.short_term_features import ShortTermFeatures
from train.loop import LoopConfig, fit
from train.losses import LossWeights, soft_hgr_score
from train.models.emodal import LABELS, EmodalConfig, Modality
from train.real_data.matched_pairs import N_VIEWS, OF_CORPORA, MatchedLearner, Material, fresh, gather
from train.voices import Voices

N_SAMPLES = 8_000
SMALL = EmodalConfig(crop_px=24, n_samples=N_SAMPLES, image_widths=(4, 8, 8), image_hidden=16, dropout=0.0)


def faces(labels: list[int]) -> Faces:
    images = np.stack([made.picture(label, seed) for seed, label in enumerate(labels)])
    votes = np.eye(7, dtype=np.float32)[labels] * 10
    return Faces(images=images, votes=votes, names=tuple(f"{k}.png" for k in range(len(labels))))


def voices(labels: list[int], seconds: float = 0.7) -> Voices:
    samples = tuple((made.tone(k, seconds, seed) * 32767).astype(np.int16) for seed, k in enumerate(labels))
    utterances = tuple(
        Utterance(name=f"made/{n}", path=Path(f"{n}.wav"), speaker="made/1", label=k, split="train")
        for n, k in enumerate(labels)
    )
    return Voices(utterances=utterances, samples=samples)


@pytest.fixture(scope="module")
def known() -> Material:
    return gather(faces(list(range(7)) * 6), voices(list(range(7)) * 5), n_samples=N_SAMPLES, seed=1)


@pytest.fixture(scope="module")
def held_out() -> Material:
    return gather(faces(list(range(7)) * 3), voices(list(range(7)) * 2), n_samples=N_SAMPLES, seed=None)


def learner(known: Material, held_out: Material, modality: Modality, common: float = 1.0) -> MatchedLearner:
    network = fresh(replace(SMALL, modality=modality), 0)
    weights = LossWeights(common=common)
    return MatchedLearner(network, known, held_out, seed=0, batch_size=8, n_batches=3, weights=weights)


def test_the_four_labels_alone_are_kept_in_the_order_of_the_model(known: Material) -> None:
    assert LABELS == ("anger", "happiness", "neutral", "sadness")
    assert OF_CORPORA == (4, 1, 0, 3)
    assert np.bincount(known.face_labels).tolist() == [6] * 4
    assert np.bincount(known.voice_labels).tolist() == [5] * 4
    assert known.features.shape == (20, N_VIEWS, 68)
    for kept, label in zip(known.images, known.face_labels, strict=True):
        assert any(np.array_equal(kept, made.picture(OF_CORPORA[label], seed)) for seed in range(42))


def test_a_label_without_a_voice_is_an_error_that_names_it() -> None:
    with pytest.raises(CorpusError, match=r"there is no .*sadness: voice"):
        gather(faces([0, 1, 3, 4]), voices([0, 1, 4]), n_samples=N_SAMPLES, seed=None)


def test_a_plain_voice_is_the_middle_of_its_utterance(held_out: Material) -> None:
    samples = voices(list(range(7)) * 2).samples[4]  # anger, which comes third: after neutral, happiness and sadness
    start = (len(samples) - N_SAMPLES) // 2
    wave = torch.from_numpy(samples[start : start + N_SAMPLES].astype(np.float32) / 32768)
    torch.testing.assert_close(torch.from_numpy(held_out.features[3]), ShortTermFeatures()(wave[None]))


def test_pairs_are_class_matched(known: Material) -> None:
    chosen = np.arange(len(known.face_labels))
    spoken = known.pairs(chosen, seed=5)
    np.testing.assert_array_equal(known.voice_labels[spoken], known.face_labels)
    np.testing.assert_array_equal(spoken, known.pairs(chosen, seed=5))
    assert not np.array_equal(spoken, known.pairs(chosen, seed=6))


def test_rows_see_the_same_pairs_and_each_its_own_part(known: Material, held_out: Material) -> None:
    rows = {name: list(learner(known, held_out, name).batches(2)) for name in ("audio", "image", "both")}
    assert [len(batches) for batches in rows.values()] == [3] * 3
    for audio, image, both in zip(*rows.values(), strict=True):
        assert audio[0].shape == (8, 0)
        torch.testing.assert_close(image[0], both[0])
        assert both[0].shape == (8, 1, 24, 24)
        for one in (audio, image):
            torch.testing.assert_close(one[1], both[1])
            assert one[2].tolist() == both[2].tolist()
    drawn = torch.cat([labels for *_, labels in rows["both"]]).tolist()
    assert set(drawn) <= set(range(4))


def test_ranks_share_a_step_without_overlap(known: Material, held_out: Material) -> None:
    found = learner(known, held_out, "audio")
    halves = [next(iter(found.batches(0, rank, 2))) for rank in (0, 1)]
    found._batch_size = 16
    whole = next(iter(found.batches(0)))
    for k in (1, 2):
        torch.testing.assert_close(torch.stack([half[k] for half in halves], 1).flatten(0, 1), whole[k])


def test_the_loss_of_both_is_that_of_the_paper(known: Material, held_out: Material) -> None:
    found = learner(known, held_out, "both").eval()
    batch = next(iter(found.batches(0)))
    network: nn.Module = found.network
    image, audio = network.image.encode(batch[0]), network.audio.encode(batch[1])  # type: ignore[union-attr, operator]
    entropy = F.cross_entropy(network.joint(image, audio), batch[2])  # type: ignore[operator]
    entropy = entropy + F.cross_entropy(network.image_head(image), batch[2])  # type: ignore[operator]
    entropy = entropy + F.cross_entropy(network.audio_head(audio), batch[2])  # type: ignore[operator]
    torch.testing.assert_close(found(*batch), entropy - soft_hgr_score(image, audio))
    found._weights = LossWeights(common=0.0)
    torch.testing.assert_close(found(*batch), entropy)


@pytest.mark.parametrize("modality", ["audio", "image", "both"])
def test_a_small_network_learns_and_is_measured_on_held_out_pairs(
    known: Material, held_out: Material, modality: Modality, tmp_path: Path
) -> None:
    config = LoopConfig(
        epochs=30, batch_size=8, learning_rate=5e-3, weight_decay=0.0, optimiser="adamw", average=0.9,
        evaluate_every=100,
    )  # fmt: skip
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    trained = fit(fabric, learner(known, held_out, modality, 0.1), config, tmp_path)
    posteriors = trained.posteriors()  # type: ignore[operator]
    right = posteriors.argmax(1) == held_out.face_labels
    assert right.mean() > 0.9
    assert trained.evaluate()["accuracy"] == right.mean()  # type: ignore[operator]
    order, spoken = trained.held_out()  # type: ignore[operator]
    np.testing.assert_array_equal(held_out.voice_labels[spoken], held_out.face_labels[order])


def test_first_weights_are_glorots_and_the_seeds() -> None:
    config = EmodalConfig(modality="image")
    one, again, other = fresh(config, 0), fresh(config, 0), fresh(config, 1)
    dense = one.network.dense[1]  # type: ignore[union-attr, index]
    limit = (6 / (16_384 + 128)) ** 0.5
    assert 0.99 * limit < dense.weight.abs().max() <= limit
    assert not dense.bias.any()
    torch.testing.assert_close(dense.weight, again.network.dense[1].weight)  # type: ignore[union-attr, index]
    assert not torch.equal(dense.weight, other.network.dense[1].weight)  # type: ignore[union-attr, index]
