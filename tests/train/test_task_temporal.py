"""Temporal aggregation as a task: the paper's draws and rows, what it learns, and its bundles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.onnx_runtime import OnnxEngine
from stream.windows import WindowScheme, divide
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
from train.models.temporal import (
    QUOTED,
    TABLE,
    AudioVisualNetwork,
    Modality,
    SingleModality,
    TemporalAggregation,
    TemporalConfig,
    build,
)
from train.tasks.task import Task
from train.tasks.temporal import TemporalTask

SMALL = TemporalConfig(
    n_labels=2,
    crop_px=24,
    n_samples=4000,
    face_widths=(4, 8),
    face_blocks=(1, 1),
    voice_widths=(4, 8),
    voice_blocks=(1, 1),
    dropout=0.1,
    n_segments=3,
)
NS = 1_000_000_000


def task(modality: Modality = "both", n_labels: int = 2, n_networks: int = 1) -> TemporalTask:
    config = replace(SMALL, modality=modality, n_labels=n_labels, n_networks=n_networks)
    return TemporalTask(config, labels=tuple("abcd"[:n_labels]))


def material(kind: Kind, n: int = 48, seed: int = 1) -> Labelled:
    return labelled(kind, n, task().needs(), seed=seed)


def test_the_rows_are_the_papers() -> None:
    rows = {row.name: row for row in TABLE}
    assert len(rows) == len(TABLE) == 22
    for n in range(3, 11):
        assert rows[f"N = {n}, independent networks"].config.n_networks == n
        assert rows[f"N = {n}, one shared network"].config.n_networks == 1
    assert {row.name: row.published for row in TABLE if row.published} == {"N = 10, independent networks": 68.4}
    assert sorted(row.config.jitter_s for row in TABLE if row.name.startswith("b = ")) == [0.0, 0.05, 0.1, 0.25]
    assert [rows[f"{name} alone"].config.modality for name in ("face", "voice")] == ["face", "voice"]
    assert all((row.config.n_labels, row.config.n_samples) == (6, round(1.28 * 16_000)) for row in TABLE)
    assert len({row.config for row in TABLE}) == len(TABLE)
    assert dict(QUOTED) == {
        "Human accuracy": 63.6, "CNN-based approach": 55.8, "RMA": 65.0, "MERML": 66.5, "Proposed method": 68.4,
    }  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_every_row_is_a_task_and_a_network(row: tuple[str, TemporalConfig, float | None]) -> None:
    made: Task = TemporalTask(row[1])
    with torch.device("meta"):
        network = build(row[1])
    if isinstance(network, TemporalAggregation):
        assert len(network.networks) == row[1].n_networks
    else:
        assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"branch", "head"}
    assert (made.needs().face is None, made.needs().audio) == (row[1].modality == "voice", row[1].modality != "face")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 6 labels as the network has, got a, b"):
        TemporalTask(labels=("a", "b"))
    with pytest.raises(ValueError, match="expected one network or 3, one a segment, got 2"):
        task(n_networks=2)
    with pytest.raises(ValueError, match="expected a modality of both, face, voice, got 'audio'"):
        TemporalConfig(modality="audio")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one network for the modality face alone, got 3"):
        TemporalConfig(modality="face", n_networks=3)
    with pytest.raises(ValueError, match=r"1 or more, and an offset of 0 s or more, got 1, 0 and 0\.01 s"):
        TemporalConfig(n_segments=0)


def test_windows_are_the_schemes_draws() -> None:
    clip = material("halves").clips[3]
    assert clip.crops is not None
    assert clip.seen is not None
    assert clip.samples is not None
    scheme = WindowScheme(segment_ns=NS // 4, audio_ns=NS // 4, jitter_ns=NS // 100, n_segments=3)
    assert task().scheme == scheme
    item = task().inputs(clip, None)
    assert item["seen"].all()
    shown = np.flatnonzero(clip.seen)
    for segment, (start, end) in enumerate(divide(0, 9 * NS * 2 // 25, 3)):  # nine pictures at 12.5 Hz
        own = [k for k in shown if start <= round(clip.times_s[k] * NS) < end]
        draw = scheme.draw(0, clip.name, segment, (start, end), [round(clip.times_s[k] * NS) for k in own])
        assert draw.frame_index is not None
        np.testing.assert_array_equal(item["crops"][segment], clip.crops[own[draw.frame_index]])
        # Samples floor(r c - r d / 2) to floor(r c + r d / 2), zeros where the clip has none.
        first = 16_000 * (draw.frame_ns + draw.offset_ns - NS // 8) // NS
        expected = [clip.samples[k] if 0 <= k < len(clip.samples) else 0.0 for k in range(first, first + 4000)]
        np.testing.assert_array_equal(item["waveforms"][segment], np.array(expected, np.float32))
    assert_same_views(task(), clip)


def test_draws_of_training_differ_by_seed_and_lie_within_b() -> None:
    clip = material("halves").clips[3]
    offsets = [draw.offset_ns for seed in range(50) for draw in task().draws(clip, seed)]
    assert max(abs(offset) for offset in offsets) <= NS // 100
    assert len(set(offsets)) > 100
    frames = {draw.frame_ns for seed in range(50) for draw in task().draws(clip, seed)}
    assert frames == {round(k * NS / 12.5) for k in (0, 1, 2, 4, 5, 6, 8)}


def test_segments_without_a_face_take_the_nearest_one_and_clips_without_any_their_voice() -> None:
    clip = material("halves").clips[0]
    assert clip.crops is not None
    late = replace(clip, seen=np.arange(9) >= 7)
    item = task().inputs(late, None)
    np.testing.assert_array_equal(item["crops"][:2], clip.crops[[7, 7]])
    torch.manual_seed(0)
    network = task().network().eval()
    assert isinstance(network, TemporalAggregation)
    unseen = replace(clip, seen=np.zeros(9, bool))
    inputs = batch(task(), [unseen], None)
    assert not inputs["seen"].any()
    own = network.shared
    voice = own.voice_head(own.voice(inputs["waveforms"][0])).softmax(1).mean(0)
    torch.testing.assert_close(task().posterior(network, inputs)[0], voice)
    with pytest.raises(ValueError, match="expected a face in one of its pictures, found none; leave the clip out"):
        task("face").inputs(unseen, None)
    for lacking in (replace(clip, crops=None), replace(clip, samples=None)):
        with pytest.raises(ValueError, match="to be prepared; prepare it for temporal"):
            task().inputs(lacking, None)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_loss_and_posterior_are_their_formulas(n_networks: int) -> None:
    made, clips = task(n_networks=n_networks), material("halves", 3)
    torch.manual_seed(0)
    network = made.network().eval()
    assert isinstance(network, TemporalAggregation)
    inputs = batch(made, clips.clips, None)
    inputs["seen"] = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    labels, expected = torch.tensor([1, 0, 1]), torch.zeros(())
    for item, label in enumerate(labels):
        scores: dict[str, list[torch.Tensor]] = {"scored": [], "face": [], "voice": []}
        for k in range(3):
            own = network.networks[k % n_networks]
            assert isinstance(own, AudioVisualNetwork)
            face, voice = own.face(inputs["crops"][item, k][None]), own.voice(inputs["waveforms"][item, k][None])
            seen = bool(inputs["seen"][item, k])
            both = own.both_head(torch.cat([face, voice], 1)) if seen else own.voice_head(voice)
            scores["scored"].append(both.softmax(1)[0])
            scores["voice"].append(own.voice_head(voice).softmax(1)[0])
            if seen:
                scores["face"].append(own.face_head(face).softmax(1)[0])
        means = {name: torch.stack(own).mean(0) for name, own in scores.items() if own}
        torch.testing.assert_close(made.posterior(network, inputs)[item], means["scored"])
        for name, mean in means.items():
            expected = expected - mean[label].log() / (2 if name == "face" else 3)
    torch.testing.assert_close(made.loss(network, inputs, labels), expected)


def test_evaluation_is_the_sum_of_the_paper() -> None:
    for made in (task(), task(n_networks=3), task("face"), task("voice")):
        torch.manual_seed(0)
        network = made.network().eval()
        inputs = batch(made, material("halves", 4).clips, None)
        given = [inputs[name] for name in ("crops", "waveforms") if name in inputs]
        torch.testing.assert_close(made.posterior(network, inputs), network(*given) / 3)


@pytest.mark.parametrize(("modality", "n_networks"), [("both", 1), ("both", 3), ("face", 1), ("voice", 1)])
def test_gradients_reach_every_parameter(modality: Modality, n_networks: int) -> None:
    assert without_gradient(task(modality, n_networks=n_networks), material("appearance", 16)) == []


@pytest.mark.parametrize(("kind", "sees"), [("appearance", "face"), ("spectrum", "voice"), ("halves", "both")])
def test_each_modality_learns_what_it_can_see(kind: Kind, sees: str) -> None:
    held_out, n_labels = material(kind, seed=2), 4 if kind == "halves" else 2
    modalities: tuple[Modality, ...] = ("face", "voice", "both") if kind == "halves" else ("face", "voice")
    for modality in modalities:
        made = task(modality, n_labels)
        network = trained(made, material(kind), epochs=10, learning_rate=0.01)
        right = accuracy(made, network, held_out)
        if modality == sees:  # of the halves, neither alone tells more than half
            assert right >= 0.9
        else:
            assert right <= 0.68


def test_it_learns_32_clips_by_heart() -> None:
    made, clips = task(n_labels=4), material("halves", 32)
    network = trained(made, clips, epochs=14, learning_rate=0.01, size=8)
    assert accuracy(made, network, clips) == 1.0


@pytest.mark.parametrize("n_networks", [1, 2])
def test_the_bundle_scores_pairs_as_the_networks_do(n_networks: int, tmp_path: Path) -> None:
    config = replace(SMALL, n_labels=4, n_segments=2, n_networks=n_networks)
    made, clips = TemporalTask(config, labels=("a", "b", "c", "d")), material("halves")
    network = trained(made, clips, epochs=1, learning_rate=0.01)
    assert isinstance(network, TemporalAggregation)
    exported = made.export(network, tmp_path, clips.clips[:2])
    assert exported.difference < 1e-4
    bundle = bundled(made, exported, tmp_path)
    assert bundle.manifest.clip is None
    assert (bundle.manifest.scheme.n_segments, bundle.manifest.scheme.audio_s) == (2, 0.25)
    inputs = batch(made, clips.clips[5:7], None)
    pairs = {"crop": inputs["crops"].flatten(0, 1), "waveform": inputs["waveforms"].flatten(0, 1)}
    face = OnnxEngine(bundle.stage("frame_encoder")).run({"crop": pairs["crop"].numpy()})
    voice = OnnxEngine(bundle.stage("audio_encoder")).run({"waveform": pairs["waveform"].numpy()})
    both = OnnxEngine(bundle.stage("head")).run({"face": face["features"], "voice": voice["features"]})
    members = [member for member in network.networks if isinstance(member, AudioVisualNetwork)]
    with torch.no_grad():
        expected = {
            "both": [member(pairs["crop"], pairs["waveform"]) for member in members],
            "face": [member.face_head(member.face(pairs["crop"])) for member in members],
            "voice": [member.voice_head(member.voice(pairs["waveform"])) for member in members],
        }
    for name, given in (("both", both), ("face", face), ("voice", voice)):
        mean = torch.stack(expected[name]).softmax(-1).mean(0)
        np.testing.assert_allclose(given["posterior"], mean.numpy(), atol=1e-4)


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_one_modality_streams_by_itself(modality: Modality, tmp_path: Path) -> None:
    made, clips = task(modality), material("spectrum")
    network = trained(made, clips, epochs=1, learning_rate=0.01)
    assert isinstance(network, SingleModality)
    exported = made.export(network, tmp_path, clips.clips[:2])
    assert exported.difference < 1e-4
    bundle = bundled(made, exported, tmp_path)
    assert set(bundle.manifest.posteriors) == {"both", modality}
    (segments,) = (value[0] for value in batch(made, clips.clips[5:6], None).values())
    with torch.no_grad():
        expected = network(segments[:1][None])[0]  # one segment is one window
    raw = {"crop": segments[:1].numpy()} if modality == "face" else {"waveform": segments[0].numpy()}
    np.testing.assert_allclose(posterior_of(bundle, modality, raw), expected.numpy(), atol=1e-4)
