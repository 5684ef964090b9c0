"""Sets of face and voice features: what is read, standardised and left out; folds, networks, comparisons."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from train.corpora.items import CorpusError
from train.real_data.paired_features import AU28, FILE, LABELS, N_FOLDS, N_FRAMES, PairedClips, read, sets
from train.real_data.paired_networks import (
    LOOP,
    Members,
    PairedConfig,
    PairedNetwork,
    cross_validate,
    differences,
    rows,
)


def arrays(n_each: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Ten actors, each label `n_each` times: the label's own unit and span stand out."""
    generator = np.random.default_rng(seed)
    names, units, frames = [], [], []
    for actor in range(1, 11):
        for label in range(8):
            for take in range(n_each):
                names.append(f"03-01-0{label + 1}-01-01-0{take + 1}-{actor:02d}")
                units.append(generator.normal(1.0, 0.2, 35) + 2.0 * (np.arange(35) == label))
                spans = generator.normal(-30.0, 3.0, (7, 37)) + 20.0 * (np.arange(7)[:, None] == label % 7)
                frames.append(spans.reshape(-1))
    return {
        "utterance": np.array(names),
        "action_units": np.array(units, dtype=np.float32),
        "mfcc": np.array(frames, dtype=np.float32),
    }


def written(folder: Path, found: Mapping[str, Any]) -> Path:
    np.savez(folder / FILE, **found)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> PairedClips:
    return read(written(tmp_path, arrays()))


def test_labels_actors_and_folds_come_from_the_names(clips: PairedClips) -> None:
    assert clips.labels[:4].tolist() == [0, 0, 1, 1]
    assert clips.actors.tolist() == [actor for actor in range(1, 11) for _ in range(16)]
    for fold in range(N_FOLDS):
        assert set(clips.actors[clips.folds == fold].tolist()) == {fold + 1, fold + 6}


def test_one_recording_under_two_names_counts_once(tmp_path: Path) -> None:
    found = arrays()
    names = found["utterance"].tolist()
    at = names.index("03-01-03-01-01-01-07")
    names[at], names[at + 1] = "03-01-03-01-02-01-07", "03-01-03-01-02-02-07"
    found["utterance"] = np.array(names)
    clips = read(written(tmp_path, found))
    assert len(clips.labels) == len(names) - 1
    np.testing.assert_array_equal(clips.units, np.delete(found["action_units"], at + 1, 0))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mfcc": np.zeros((160, 40), dtype=np.float32)}, r"mfcc \(160, 40\), expected \(160, 259\)"),
        ({"utterance": np.array(["03-01-09-01-01-01-01"] * 160)}, "160 of 160 utterances are not named"),
        ({"action_units": np.full((160, 35), np.nan, dtype=np.float32)}, "not finite"),
        ({"utterance": np.array(["03-01-01-01-01-01-01"] * 160)}, r"no actor of fold \[1, 2, 3, 4\]"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, change: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(CorpusError, match=text):
        read(written(tmp_path, arrays() | change))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"expected {FILE} in"):
        read(tmp_path)


def test_columns_are_standardised_by_the_training_clips_alone(clips: PairedClips) -> None:
    train = clips.folds != 0
    units, spans, valid = (part.numpy() for part in sets(clips, train))
    intensity = np.delete(units[train, :, 0], AU28, 1)
    np.testing.assert_allclose(intensity.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(intensity.std(0), 1.0, atol=1e-4)
    np.testing.assert_array_equal(units[:, AU28, 0], 0.0)
    np.testing.assert_allclose(spans[train].mean(0), 0.0, atol=1e-4)
    assert valid.all()
    moved = replace(clips, units=clips.units + 100.0 * (~train)[:, None].astype(np.float32))
    np.testing.assert_array_equal(sets(moved, train)[0].numpy()[train], units[train])
    assert (sets(moved, train)[0].numpy()[~train, 0] > 50).all()


def test_what_lies_after_a_clips_end_is_left_out(clips: PairedClips) -> None:
    frames = clips.frames.copy()
    frames[0, 5 * N_FRAMES + 10 :] = 0.0
    short = replace(clips, frames=frames)
    train = np.arange(len(frames)) > 0
    _, spans, valid = sets(short, train)
    assert valid[0].tolist() == [True] * 6 + [False]
    assert (spans[0, 5, 10:] == 0).all()
    torch.testing.assert_close(spans[1:], sets(clips, train)[1][1:])
    torch.manual_seed(0)
    network = PairedNetwork(PairedConfig()).eval()
    inputs = [part[:2] for part in sets(short, train)]
    with torch.no_grad():
        before = network(*inputs)
        inputs[1][0, 6] = 9.0  # not valid: may not matter
        torch.testing.assert_close(network(*inputs), before)
        inputs[1][0, 5] = 9.0
        assert not torch.allclose(network(*inputs)[0], before[0])


@torch.no_grad()
def test_members_are_the_text_of_the_module_as_loops() -> None:
    torch.manual_seed(0)
    members = Members(PairedConfig(width=3)).eval()
    pairs, frames = torch.randn(2, 18, 2), torch.randn(2, 7, 37)
    units, spans = members.units(pairs), members.spans(frames)
    for b in range(2):
        for u in range(18):
            weight = members.unit_weight[u]
            expected = pairs[b, u, 0] * weight[0] + pairs[b, u, 1] * weight[1] + members.unit_bias[u]
            torch.testing.assert_close(units[b, u], expected.clamp_min(0.0))
        for s in range(7):
            expected = members.span.weight @ frames[b, s] + members.span_bias[s]
            torch.testing.assert_close(spans[b, s], expected.clamp_min(0.0))


def test_the_rows_are_the_texts_nine_three_concatenated_and_each_modality_alone() -> None:
    found = rows()
    assert len(found) == 9 + 3 + 6
    assert found["self-transformer-fbp"] == PairedConfig(visual_attention="self", audio_attention="transformer")
    inputs = torch.randn(4, 18, 2), torch.randn(4, 7, 37), torch.ones(4, 7, dtype=torch.bool)
    for config in found.values():
        network = PairedNetwork(config)
        logits = network(*inputs)
        assert logits.shape == (4, len(LABELS))
        logits.square().sum().backward()
        used = {"both": {"unit", "span"}, "face": {"unit"}, "voice": {"span"}}[config.modality]
        for name, parameter in network.named_parameters():
            if not name.startswith("members") or any(part in name for part in used):
                assert parameter.grad is not None, name


@pytest.mark.parametrize("row", ["transformer-transformer-fbp", "voice-relation"])
def test_folds_are_learnt_from_the_others(clips: PairedClips, row: str) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    loop = replace(LOOP, epochs=25 if row.startswith("voice") else 12, batch_size=32, learning_rate=1e-2)
    first = cross_validate(fabric, clips, rows()[row], loop)
    np.testing.assert_allclose(first.sum(1), 1.0, atol=1e-5)
    # Span 0 stands out for two labels, neutral and surprised: a voice cannot tell these apart.
    known = clips.labels % 7 != 0 if row.startswith("voice") else np.full(len(first), True)
    assert (first.argmax(1) == clips.labels)[known].mean() > 0.85


def test_a_fold_neither_sees_its_own_labels_nor_depends_on_them(clips: PairedClips) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    loop, tested = replace(LOOP, epochs=2, batch_size=32), clips.folds == 3
    first = cross_validate(fabric, clips, rows()["face-self"], loop)[tested]
    wrong = replace(clips, labels=np.where(tested, 7 - clips.labels, clips.labels))
    np.testing.assert_array_equal(cross_validate(fabric, wrong, rows()["face-self"], loop)[tested], first)


def test_differences_are_means_over_rows_and_actors() -> None:
    generator = np.random.default_rng(0)
    by_actor: dict[str, np.ndarray | None] = {name: generator.uniform(0.4, 0.6, 20) for name in rows()}
    for name in ("self", "relation", "transformer"):
        concatenated = by_actor[f"{name}-{name}-concatenation"]
        assert concatenated is not None
        by_actor[f"{name}-{name}-fbp"] = concatenated + 0.05
    found = differences(by_actor)
    assert len(found) == 7
    assert found["FBP - concatenation, same attention twice"] == pytest.approx(
        {"mean": 0.05, "low": 0.05, "high": 0.05}
    )
    faces = found["both with FBP - face alone"]
    assert faces["low"] < faces["mean"] < faces["high"]
    by_actor["face-self"] = None
    assert "both with FBP - face alone" not in differences(by_actor)
