"""The three-stream recogniser as a task: its steps, what it learns, its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.bundle import ClipInput, FaceInput
from stream.windows import spread
from tests.train.clip_tasks import accuracy, batch, bundle, by_stages, fit, unreached
from train.backbones.swin import Swin, SwinConfig
from train.backbones.vggish import VggishConfig
from train.models.skeleton import TABLE, SkeletonConfig, Stream
from train.preparation.prepared import Prepared
from train.tasks.skeleton import SkeletonTask
from train.tasks.skeleton_steps import CHUNK_SAMPLES, PoseValues, chunked, mirrored
from train.tasks.task import Task

SIDE, T, HZ = 32, 5, 4.0
SWIN = SwinConfig(crop_px=SIDE, patch_px=16, width=768, depths=(1,), heads=(4,), window=2)  # features have their width
VGGISH = VggishConfig(groups=((4,), (6,)), hidden=(24,))
TWO = ("calm", "wild")
BODY = np.random.default_rng(0).normal(0, 0.4, (33, 3)).astype(np.float32)


def small(*streams: Stream, train_backbones: bool = False, **changes: object) -> SkeletonTask:
    """Windows of five steps in 1.25 s."""
    config = SkeletonConfig(n_labels=2, n_fused=64, dropout=0.0, head_dropout=0.0)
    return SkeletonTask(
        replace(config, streams=streams or config.streams),
        labels=TWO,
        swin=SWIN,
        vggish=VGGISH,
        n_steps=T,
        frame_hz=HZ,
        train_backbones=train_backbones,
        **changes,  # type: ignore[arg-type]
    )


def clip(
    seed: int, *, waves: bool = False, high: bool = False, upright: bool = False, n: int = 8, seconds: float = 2.0
) -> Prepared:
    """A body of its own that lifts its left arm or its right one; a tone; stripes; noise in all of them."""
    draw = np.random.default_rng(seed)
    stripes = (np.arange(SIDE) // 4 % 2 * 120 + 40)[:, None].repeat(SIDE, 1)
    crops = (stripes.T if upright else stripes)[None, :, :, None] + draw.integers(0, 30, (n, SIDE, SIDE, 3))
    lift = np.sin(np.linspace(0, np.pi, n)) * draw.uniform(0.8, 1.2)
    pose = BODY + draw.normal(0, 0.1, (33, 3)) + draw.normal(0, 0.02, (n, 33, 3)) + draw.normal(0, 0.5, 3)
    pose[:, 15:22:2][..., 1] -= (lift if waves else 0 * lift)[:, None]
    pose[:, 16:23:2][..., 1] -= (0 * lift if waves else lift)[:, None]
    t = np.arange(round(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * ((2400 if high else 500) * draw.uniform(0.95, 1.05) * t + draw.random()))
    return Prepared(
        name=f"small/{seed}",
        times_s=np.arange(n) / HZ,
        crops=crops.astype(np.uint8),
        pose=pose.astype(np.float32),
        body=np.ones(n, bool),
        samples=(draw.uniform(0.1, 0.5) * tone + draw.normal(0, 0.01, len(t))).astype(np.float32),
    )


def material(n: int, first: int, **differs: bool) -> tuple[list[Prepared], list[int]]:
    """Clips of two classes that differ by what is named alone."""
    labels = [k % 2 for k in range(n)]
    clips = [clip(first + k, **{name: bool(label) for name in differs}) for k, label in enumerate(labels)]
    return clips, labels


def agreement(n: int, first: int) -> tuple[list[Prepared], list[int]]:
    """The class is whether picture and sound agree: upright stripes and a high tone, or neither."""
    made = [(bool(k & 1), bool(k & 2)) for k in range(n)]
    clips = [clip(first + k, upright=upright, high=high) for k, (upright, high) in enumerate(made)]
    return clips, [int(upright == high) for upright, high in made]


def test_it_is_a_task_that_needs_what_its_streams_take() -> None:
    task: Task = SkeletonTask()
    needs = task.needs()
    assert needs.face == FaceInput(size_px=224, align="frame")
    assert (needs.frame_hz, needs.flow, needs.pose, needs.audio) == (12.5, "none", True, True)
    rows = {row.name: SkeletonTask(row.config).needs() for row in TABLE if row.config is not None}
    assert [(rows[f"w/o {name} branch"].pose, rows[f"w/o {name} branch"].audio) for name in ("audio", "skeleton")] == [
        (True, False),
        (False, True),
    ]


def test_an_item_holds_each_steps_features_and_landmarks() -> None:
    task, made = small(), clip(0, n=10, seconds=2.5)
    item = task.inputs(made, None)
    assert {name: (x.dtype.name, x.shape) for name, x in item.items()} == {
        "visual": ("float32", (T, 768)),
        "audio": ("float32", (T, 128)),
        "pose": ("float32", (T, 33, 3)),
    }
    at = spread(10, T)
    np.testing.assert_array_equal(item["pose"], made.pose[at])
    with torch.no_grad():
        visual = task.backbones["visual"](torch.from_numpy(made.crops[at]))
        sound = torch.from_numpy(made.samples[: 2 * CHUNK_SAMPLES].reshape(2, CHUNK_SAMPLES))
        audio = task.backbones["audio"](sound)
    np.testing.assert_allclose(item["visual"], visual, atol=1e-5)
    held = [min(int(made.times_s[k] // 0.96), 1) for k in at]  # 2.5 s hold two whole chunks
    assert set(held) == {0, 1}
    np.testing.assert_allclose(item["audio"], audio[held], atol=1e-5)


def test_raw_items_give_what_items_of_features_give() -> None:
    frozen, whole = small(), small(train_backbones=True)
    clips = [clip(k, n=12, seconds=3.1) for k in range(3)]
    torch.manual_seed(0)
    network, fresh = whole.network().eval(), frozen.network().eval()
    fresh.load_state_dict(network.state_dict(), strict=False)
    given = batch(whole, clips)
    assert (given["crop"].dtype, given["waveform"].shape) == (torch.uint8, (3, T, CHUNK_SAMPLES))
    with torch.no_grad():
        torch.testing.assert_close(whole.posterior(network, given), frozen.posterior(fresh, batch(frozen, clips)))


def test_a_chunk_that_has_not_ended_is_not_there() -> None:
    sound = np.arange(3 * CHUNK_SAMPLES - 1, dtype=np.float32)
    chunks, index = chunked(sound, np.array([0.0, 0.9599, 0.96, 1.919, 1.92, 2.8]))
    np.testing.assert_array_equal(chunks, sound[: 2 * CHUNK_SAMPLES].reshape(2, -1))
    assert index.tolist() == [0, 0, 1, 1, 1, 1]
    chunks, index = chunked(np.ones(100, np.float32), np.array([0.0, 3.0]))  # shorter than a chunk: filled up
    assert (chunks.shape, float(chunks.sum()), index.tolist()) == ((1, CHUNK_SAMPLES), 100.0, [0, 0])


def test_views_follow_their_seed_and_the_evaluated_one_has_none() -> None:
    made = clip(1, n=40, seconds=10)
    for task in (small(), small(train_backbones=True)):

        def views(seed: int | None, task: SkeletonTask = task) -> list[dict[str, np.ndarray]]:
            return [task.inputs(made, None if seed is None else np.random.default_rng([seed, k])) for k in range(4)]

        for seed in (5, None):
            for ours, again in zip(views(seed), views(seed), strict=True):
                assert all(np.array_equal(ours[name], again[name]) for name in ours)
        assert len({view["pose"].tobytes() for view in views(5)}) == 4
        assert len({view["pose"].tobytes() for view in views(None)}) == 1


def test_a_frozen_backbone_sees_a_clip_once() -> None:
    task, seen = small("visual", "skeleton"), []
    task.backbones["visual"].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    made = clip(2, n=9)
    for seed in range(3):
        task.inputs(made, np.random.default_rng(seed))
    assert seen == [9]
    other = task.inputs(replace(clip(3, n=9), name=made.name), None)  # another one of that name
    assert seen == [9, 9]
    assert not np.array_equal(other["visual"], task.inputs(made, None)["visual"])


def test_pose_values_are_the_attitude_alone_and_no_body_is_zeros() -> None:
    pose = torch.from_numpy(np.random.default_rng(1).normal(0, 0.4, (1, 3, 33, 3)).astype(np.float32))
    pose[:, 1] = 0
    values = PoseValues()(pose)
    assert values.shape == (1, 3, 99)
    assert not values[0, 1].any()
    for moved in (pose[:, ::2] + torch.tensor([3.0, -1, 2]), pose[:, ::2] * 7):
        torch.testing.assert_close(PoseValues()(moved), values[:, ::2], atol=1e-5, rtol=1e-4)
    points = values[0, ::2].reshape(2, 33, 3)
    torch.testing.assert_close(points[:, 11], -points[:, 12])
    torch.testing.assert_close(points.square().sum(2).mean(1), torch.ones(2))


def test_a_mirrored_pose_lifts_the_other_arm() -> None:
    pose = clip(4).pose
    again = mirrored(mirrored(pose))
    np.testing.assert_array_equal(again, pose)
    np.testing.assert_array_equal(mirrored(pose)[:, 16], pose[:, 15] * np.array([-1, 1, 1], np.float32))
    np.testing.assert_array_equal(mirrored(pose)[:, 0], pose[:, 0] * np.array([-1, 1, 1], np.float32))


@pytest.mark.parametrize("train_backbones", [False, True])
def test_the_loss_reaches_every_parameter(train_backbones: bool) -> None:
    task = small(train_backbones=train_backbones)
    torch.manual_seed(0)
    network = task.network()
    assert unreached(task, network, *material(4, 100, waves=True, high=True, upright=True)) == []
    assert any(name.startswith("backbones.visual") for name, _ in network.named_parameters()) == train_backbones


def test_it_learns_32_clips_by_heart() -> None:
    task = small()
    clips, _ = material(32, 200)
    labels = [int(v) for v in np.random.default_rng(0).integers(0, 2, 32)]  # no rule: each clip must be remembered
    network = fit(task, clips, labels, n_steps=150, rate=2e-3)
    assert accuracy(task, network, clips, labels) == 1.0


def test_the_skeleton_stream_tells_clips_that_differ_in_the_body_alone() -> None:
    task = small("skeleton")
    network = fit(task, *material(24, 300, waves=True), n_steps=20, rate=3e-3)
    assert accuracy(task, network, *material(24, 400, waves=True)) >= 0.9


def test_the_audio_stream_tells_clips_that_differ_in_spectrum_alone() -> None:
    task = small("audio")
    network = fit(task, *material(24, 500, high=True), n_steps=20, rate=3e-3)
    assert accuracy(task, network, *material(24, 600, high=True)) >= 0.9


def test_both_streams_tell_what_neither_tells_alone() -> None:
    streams: list[tuple[Stream, ...]] = [("visual", "audio"), ("visual",), ("audio",)]
    found = []
    for chosen in streams:
        task = small(*chosen)
        task.config = replace(task.config, n_layers=0)  # the encoders of 768 values cost most and are not asked here
        network = fit(task, *agreement(40, 700), n_steps=20, rate=2e-3)
        found.append(accuracy(task, network, *agreement(32, 800)))
    assert found[0] >= 0.9
    assert max(found[1:]) <= 0.7


def test_the_bundle_gives_torchs_posteriors(tmp_path: Path) -> None:
    task = small()
    clips, labels = material(4, 900, waves=True, high=True)
    clips[3].pose[2:5] = 0  # no body
    network = fit(task, clips, labels, n_steps=3, rate=1e-3)
    exported = task.export(network, tmp_path, clips[:3])
    assert exported.difference < 1e-4
    made = bundle(task, exported, tmp_path)
    assert {name: stage.per for name, stage in made.manifest.stages.items()} == {
        "visual": "frame",
        "audio": "chunk",
        "head": "window",
    }
    assert made.manifest.posteriors == {"both": "head.posterior"}
    assert (made.manifest.pose, made.manifest.flow) == (True, "none")
    assert made.manifest.clip == ClipInput(frame_hz=HZ, n_frames=T, span_s=T / HZ, chunk_s=0.96)
    for one in clips:
        at = spread(len(one.times_s), T)
        samples, index = chunked(one.samples, one.times_s[at])
        got = by_stages(made, "head.posterior", {"crop": one.crops[at], "pose": one.pose[at]}, samples[index])
        with torch.no_grad():
            expected = task.posterior(network, batch(task, [one]))
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


def test_a_branch_that_is_removed_is_not_in_the_bundle(tmp_path: Path) -> None:
    task = small("skeleton")
    clips, _ = material(2, 1000)
    made = bundle(task, task.export(task.network(), tmp_path, clips), tmp_path)
    assert made.manifest.stages["head"].takes == {"pose": "pose"}
    assert list(made.manifest.stages) == ["head"]
    assert made.manifest.posteriors == {"both": "head.posterior", "face": "head.posterior"}
    assert made.manifest.clip is not None
    assert made.manifest.clip.chunk_s is None


def test_named_files_are_the_backbones_first_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    swin, path = Swin(SWIN), tmp_path / "swin.pth"
    torch.save({"model": swin.state_dict() | {"head.weight": torch.zeros(5, 768)}}, path)
    task = small("visual", weights={"visual": path})
    taken = task.backbones["visual"].state_dict()
    assert all(torch.equal(taken[name], tensor) for name, tensor in swin.state_dict().items())
    assert task.matched["visual"].left_over == ("head.weight",)
    state = swin.state_dict()
    del state["norm.bias"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"missing in the file: norm\.bias; expected all of them for the features"):
        _ = small("visual", weights={"visual": path}).backbones


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 8 labels as the network has, got calm, wild"):
        SkeletonTask(labels=TWO)
    with pytest.raises(ValueError, match="visual: expected a network of 768 features, got 384"):
        SkeletonTask(swin=SwinConfig(width=48))
    with pytest.raises(ValueError, match="audio: got a file of weights, and the streams are visual"):
        small("visual", weights={"audio": tmp_path})
    with pytest.raises(ValueError, match="small/5: expected its landmarks, which it was prepared without"):
        small("skeleton").inputs(replace(clip(5), pose=None), None)
    with pytest.raises(ValueError, match="small/5: expected its sound, which it was prepared without"):
        small("audio").inputs(replace(clip(5), samples=None), None)
