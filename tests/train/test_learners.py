"""What each stage learns from, and that a small network learns it by heart."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from tests import corpora_files as made
from train.corpora.items import Faces, Utterance
from train.default.learners import FaceLearner, PairLearner, VoiceLearner, balanced
from train.loop import LoopConfig, fit
from train.models.temporal import AudioVisualNetwork, TemporalConfig
from train.voices import Voices

# torch 2.13 crashes in the backward pass of channels-last convolutions of 8 channels on some CPUs (AMD family 25).
SMALL = TemporalConfig(
    face_widths=(16, 32, 48), face_blocks=(1, 1, 1), voice_widths=(16, 32, 48), voice_blocks=(1, 1, 1), dropout=0.0
)
PER_LABEL = 4  # 28 faces and 28 utterances


def faces(n_each: int = PER_LABEL) -> Faces:
    labels = np.tile(np.arange(7), n_each)
    images = np.stack([made.picture(label, seed) for seed, label in enumerate(labels)])
    votes = np.eye(7, dtype=np.float32)[labels] * 10
    return Faces(images=images, votes=votes, names=tuple(f"{k}.png" for k in range(len(labels))))


def voices(n_each: int = PER_LABEL) -> Voices:
    labels = [k for _ in range(n_each) for k in range(7)]
    samples = tuple((made.tone(k, 2.0, seed) * 32767).astype(np.int16) for seed, k in enumerate(labels))
    utterances = tuple(
        Utterance(name=f"made/{n}", path=Path(f"{n}.wav"), speaker="made/1", label=k, split="train")
        for n, k in enumerate(labels)
    )
    return Voices(utterances=utterances, samples=samples)


def network() -> AudioVisualNetwork:
    torch.manual_seed(0)
    return AudioVisualNetwork(SMALL).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def face_learner(net: AudioVisualNetwork, **changes: object) -> FaceLearner:
    settings = {"seed": 0, "batch_size": 28, "sizes_px": (24,), **changes}
    return FaceLearner(net, faces(), faces(), **settings)  # type: ignore[arg-type]


def voice_learner(net: AudioVisualNetwork, **changes: object) -> VoiceLearner:
    settings = {"seed": 0, "batch_size": 14, "n_batches": 2, "smoothing": 0.0, "mixup": 0.0, **changes}
    return VoiceLearner(net, voices(), voices(), **settings)  # type: ignore[arg-type]


def pair_learner(net: AudioVisualNetwork) -> PairLearner:
    return PairLearner(net, (faces(), faces()), (voices(), voices()), seed=0, batch_size=14, n_batches=2)


def learn(learner: nn.Module, folder: Path, epochs: int) -> nn.Module:
    config = LoopConfig(
        epochs=epochs, learning_rate=5e-3, weight_decay=0.0, optimiser="adamw", average=0.9, evaluate_every=1000
    )
    return fit(Fabric(accelerator="cpu", devices=1, precision="32-true"), learner, config, folder)


def test_a_small_network_learns_faces_voices_and_pairs_by_heart(tmp_path: Path) -> None:
    net = network()
    seen = learn(face_learner(net, sizes_px=(48,)), tmp_path / "faces", 80)
    assert seen.evaluate() == {"accuracy": 1.0, "uar": 1.0}  # type: ignore[operator]
    heard = learn(voice_learner(net, batch_size=28), tmp_path / "voices", 45)
    assert heard.evaluate() == {"made": 1.0}  # type: ignore[operator]
    both = learn(pair_learner(net), tmp_path / "pairs", 2)
    assert both.evaluate() == {"uar_one_window": 1.0}  # type: ignore[operator]


@pytest.mark.parametrize("make", [face_learner, voice_learner, pair_learner])
def test_an_epochs_batches_are_the_same_each_time_and_another_epochs_are_not(
    make: Callable[[AudioVisualNetwork], nn.Module],
) -> None:
    learner = make(network()).eval()

    def epoch(number: int) -> list[Tensor]:
        return [tensor for batch in learner.batches(number) for tensor in batch]  # type: ignore[operator]

    first, again, next_one = epoch(0), epoch(0), epoch(1)
    assert len(first) == 2 * learner.n_batches()  # type: ignore[operator]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], next_one[0])


def test_faces_come_with_their_votes_and_in_the_size_of_the_epoch() -> None:
    learner = face_learner(network(), batch_size=14, sizes_px=(24, 36))
    sizes = [[tuple(grey.shape) for grey, _ in learner.batches(epoch)] for epoch in range(3)]
    assert sizes == [[(14, 1, side, side)] * 2 for side in (24, 36, 36)]
    targets = torch.cat([targets for _, targets in learner.batches(0)])
    assert targets.sum(0).tolist() == [PER_LABEL] * 7  # each picture once


def test_fewer_faces_than_a_batch_are_one_batch() -> None:
    learner = face_learner(network(), batch_size=128)
    assert learner.n_batches() == 1
    (batch,) = learner.batches(0)
    assert batch[0].shape == (28, 1, 24, 24)


def test_mixed_voices_have_mixed_targets() -> None:
    plain = voice_learner(network())
    mixed = voice_learner(network(), mixup=0.3)
    for (views, targets), (mixed_views, mixed_targets) in zip(plain.batches(0), mixed.batches(0), strict=True):
        assert targets.sum(1).tolist() == [1.0] * 14
        assert targets.max(1).values.tolist() == [1.0] * 14
        torch.testing.assert_close(mixed_targets.sum(1), torch.ones(14))
        shares = []
        for k in range(14):
            # the share of the item itself, at least a half, is the same in the views and in the targets
            own, other = views[k].double(), views[13 - k].double()
            share = float(((mixed_views[k] - other) * (own - other)).sum() / (own - other).square().sum())
            expected = share * targets[k] + (1 - share) * targets[13 - k]
            torch.testing.assert_close(mixed_targets[k], expected.float(), atol=1e-4, rtol=0)
            shares.append(share)
        assert min(shares) > 0.499


@torch.no_grad()
def test_losses_are_cross_entropies() -> None:
    net = network().eval()
    generator = torch.Generator().manual_seed(0)
    grey, views = torch.randn(3, 1, 24, 24, generator=generator), torch.randn(3, 2, 64, 30, generator=generator)
    targets = torch.tensor([[0.7, 0.3, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0.5, 0, 0.5, 0, 0, 0]])
    logs = net.face_head(net.face.encode(grey)).log_softmax(1)
    expected = sum(-float(targets[i, k] * logs[i, k]) for i in range(3) for k in range(7)) / 3
    assert face_learner(net).eval()(grey, targets).item() == pytest.approx(expected, rel=1e-4)
    smooth = 0.9 * targets + 0.1 / 7
    logs = net.voice_head(net.voice.encode(views)).log_softmax(1)
    expected = sum(-float(smooth[i, k] * logs[i, k]) for i in range(3) for k in range(7)) / 3
    assert voice_learner(net, smoothing=0.1).eval()(views, targets).item() == pytest.approx(expected, rel=1e-4)


def test_the_head_of_pairs_begins_as_the_sum_of_the_single_heads_and_alone_is_trained() -> None:
    net = network().eval()
    learner = pair_learner(net)
    face, voice = torch.randn(5, 48), torch.randn(5, 96)
    torch.testing.assert_close(
        net.joint(face, voice), net.face_head(face) + net.voice_head(voice), atol=1e-5, rtol=1e-5
    )
    assert {name for name, _ in learner.named_parameters()} == {"head.weight", "head.bias"}


def test_pairs_are_class_matched() -> None:
    net = network()
    learner = pair_learner(net)
    labels = torch.cat([labels for _, labels in learner.batches(0)])
    assert set(labels.tolist()) <= set(range(7))
    features = next(iter(learner.batches(0)))[0]
    assert features.shape == (14, 48 + 96)
    assert not features.requires_grad


def test_pairs_leave_out_labels_that_one_side_lacks() -> None:
    net, spoken = network(), voices()
    few = [k for k, label in enumerate(spoken.labels) if label in (1, 4)]
    only = Voices(utterances=tuple(spoken.utterances[k] for k in few), samples=tuple(spoken.samples[k] for k in few))
    learner = PairLearner(net, (faces(), faces()), (only, only), seed=0, batch_size=14, n_batches=2)
    assert set(torch.cat([labels for _, labels in learner.batches(0)]).tolist()) == {1, 4}
    happy = Faces(images=faces().images[1::7], votes=faces().votes[1::7], names=faces().names[1::7])
    one = PairLearner(net, (faces(), happy), (only, only), seed=0, batch_size=14, n_batches=2)
    assert 0.0 <= one.evaluate()["uar_one_window"] <= 1.0


@pytest.mark.parametrize(("power", "share_of_rare"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_balanced_draws(power: float, share_of_rare: float) -> None:
    labels = np.array([3] * 90 + [5] * 10)
    drawn = balanced(labels, 4000, power, seed=1)
    assert drawn.shape == (4000,)
    assert Counter(labels[drawn].tolist())[5] / 4000 == pytest.approx(share_of_rare, abs=0.03)
    np.testing.assert_array_equal(drawn, balanced(labels, 4000, power, seed=1))
    assert not np.array_equal(drawn, balanced(labels, 4000, power, seed=2))


@pytest.mark.parametrize("make", [face_learner, voice_learner, pair_learner])
def test_ranks_share_what_one_with_a_larger_batch_would_draw(make: Callable[..., nn.Module]) -> None:
    learner = make(network()).eval()
    ranks = [list(learner.batches(1, rank, 2)) for rank in (0, 1)]  # type: ignore[operator]
    assert len(ranks[0]) == len(ranks[1]) == learner.n_batches(2)  # type: ignore[operator]
    alone = list(learner.batches(1))  # type: ignore[operator]
    assert all(torch.equal(a, b) for a, b in zip(alone[0], next(iter(learner.batches(1, 0, 1))), strict=True))  # type: ignore[operator]
    for (first, _), (second, _) in zip(*ranks, strict=True):
        assert first.shape == second.shape
        assert not torch.equal(first, second)


def test_ranks_see_each_face_once() -> None:
    learner = face_learner(network(), batch_size=7)
    assert (learner.n_batches(), learner.n_batches(2)) == (4, 2)
    targets = torch.cat([targets for rank in (0, 1) for _, targets in learner.batches(0, rank, 2)])
    assert targets.sum(0).tolist() == [PER_LABEL] * 7
