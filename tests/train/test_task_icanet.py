"""ICANet as a task: its items, what it learns and what it cannot, its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.bundle import ClipInput, FaceInput
from stream.windows import spread
from tests.train.clip_tasks import accuracy, batch, bundle, by_stages, fit, unreached
from train.backbones.vgg_attention import VggConfig
from train.models.icanet import MODALITIES, TABLE, IcanetConfig, fuse
from train.preparation.prepared import Prepared
from train.tasks.icanet import IcanetTask, heads, posteriors
from train.tasks.stretches import cut, pick
from train.tasks.task import Task

SIDE, N, T = 32, 8, 8000
VGG = VggConfig(picture_px=32, widths=(8, 12, 16, 24, 24), hidden=24, dropout=0.0)
SMALL = IcanetConfig(n_labels=2, crop_px=SIDE, n_frames=N, narrow=8, n_samples=T, vgg=VGG)
TWO = ("up", "down")


def small(weights: tuple[float, float, float] = (4, 2, 4), **changes: object) -> IcanetTask:
    """Windows of 8 pictures, half a second of sound."""
    config = replace(SMALL, weights=weights, **changes)  # type: ignore[arg-type]
    return IcanetTask(config, labels=TWO, span_s=N / 25)


def clip(
    seed: int, *, moves: int = 0, high: bool = False, bright: bool | None = None, n: int = N + 4, n_samples: int = T
) -> Prepared:
    """Noise that moves by whole pixels down (1) or up (-1) each picture, with its flow; pulses of a tone."""
    draw = np.random.default_rng(seed)
    texture = draw.integers(0, 256, (SIDE, SIDE, 3)).astype(np.float64)
    if bright is not None:
        texture = 0.25 * texture + (160 if bright else 32)
    crops = np.stack([np.roll(texture, moves * k, 0) for k in range(n)]).astype(np.uint8)
    flow = draw.normal(0, 2, (n, SIDE, SIDE, 2)).astype(np.float32)
    flow[..., 1] += 4 * moves
    t = np.arange(n_samples) / 16_000
    tone = np.sin(2 * np.pi * ((1500 if high else 400) * draw.uniform(0.9, 1.1) * t + draw.random()))
    pulses = np.sin(2 * np.pi * (draw.uniform(6, 9) * t + draw.random())) > 0
    samples = draw.uniform(0.1, 0.5) * tone * pulses + draw.normal(0, 0.002, n_samples)
    return Prepared(
        name=f"small/{seed}",
        times_s=np.arange(n) / 25,
        crops=crops,
        flow=flow,
        samples=samples.astype(np.float32),
    )


def material(n: int, first: int, *, motion: bool = False, sound: bool = False) -> tuple[list[Prepared], list[int]]:
    """Clips of two classes that differ by what is named alone."""
    labels = [k % 2 for k in range(n)]
    clips = [
        clip(first + k, moves=(1 if label else -1) if motion else 0, high=sound and bool(label))
        for k, label in enumerate(labels)
    ]
    return clips, labels


def agreement(n: int, first: int) -> tuple[list[Prepared], list[int]]:
    """The class is whether picture and sound agree: bright and high, or dark and low."""
    made = [(bool(k & 1), bool(k & 2)) for k in range(n)]
    clips = [clip(first + k, bright=bright, high=high) for k, (bright, high) in enumerate(made)]
    return clips, [int(bright == high) for bright, high in made]


def test_it_is_a_task_that_needs_what_its_branches_take() -> None:
    task: Task = IcanetTask()
    needs = task.needs()
    assert needs.face == FaceInput(size_px=224, align="frame")
    assert (needs.frame_hz, needs.flow, needs.pose, needs.audio) == (25.0, "lucas-kanade", False, True)
    rows = {row.name: IcanetTask(row.config).needs() for row in TABLE}
    assert (rows["Table II: I3D, RGB"].flow, rows["Table II: I3D, RGB"].audio) == ("none", False)
    assert rows["Table II: C3D, RGB"].face == FaceInput(size_px=112, align="frame")
    assert rows["Fig. 5: CA-VGG16-3"].face is None
    assert IcanetTask(flow="dis").needs().flow == "dis"


def test_a_clip_is_evaluated_by_pictures_of_all_of_it_and_the_middle_of_its_sound() -> None:
    task, made = small(), clip(0, n=40, n_samples=T + 1000)
    item = task.inputs(made, None)
    at = spread(40, N)
    np.testing.assert_array_equal(item["rgb"], made.crops[at])
    np.testing.assert_array_equal(item["flow"], made.flow[at])
    np.testing.assert_array_equal(item["waveform"], made.samples[500 : 500 + T])
    assert {name: (x.dtype.name, x.shape) for name, x in item.items()} == {
        "rgb": ("uint8", (N, SIDE, SIDE, 3)),
        "flow": ("float32", (N, SIDE, SIDE, 2)),
        "waveform": ("float32", (T,)),
    }


def test_a_clip_shorter_than_the_window_repeats_pictures_and_ends_in_silence() -> None:
    made = clip(1, n=5, n_samples=T - 1000)
    for generator in (None, np.random.default_rng(0)):
        item = replace(small(), mirror=False).inputs(made, generator)
        np.testing.assert_array_equal(item["rgb"], made.crops[spread(5, N)])
        first = int(np.flatnonzero(item["waveform"])[0])
        np.testing.assert_array_equal(item["waveform"][first : first + T - 1000], made.samples)
        assert np.count_nonzero(item["waveform"]) <= T - 1000


def test_views_follow_their_seed() -> None:
    task, made = small(), clip(2, moves=1, n=60, n_samples=3 * T)

    def views(seed: int) -> list[dict[str, np.ndarray]]:
        generator = np.random.default_rng(seed)
        return [task.inputs(made, generator) for _ in range(4)]

    for ours, again in zip(views(5), views(5), strict=True):
        assert all(np.array_equal(ours[name], again[name]) for name in ours)
    evaluated = [task.inputs(made, None) for _ in range(2)]
    assert all(np.array_equal(evaluated[0][name], evaluated[1][name]) for name in evaluated[0])
    for name in ("rgb", "flow", "waveform"):
        assert len({view[name].tobytes() for view in views(5)}) == 4


def test_a_mirrored_view_moves_to_the_other_side() -> None:
    task, made = small(), clip(3, n=N)
    before = made.flow.copy()
    plain = task.inputs(made, None)
    views = [task.inputs(made, np.random.default_rng(seed)) for seed in range(8)]
    mirrored = [view for view in views if not np.array_equal(view["rgb"], plain["rgb"])]
    assert 0 < len(mirrored) < 8
    for view in mirrored:
        np.testing.assert_array_equal(view["rgb"], plain["rgb"][:, :, ::-1])
        np.testing.assert_array_equal(view["flow"], plain["flow"][:, :, ::-1] * np.array([-1, 1], np.float32))
    np.testing.assert_array_equal(made.flow, before)


def test_stretches_lie_in_the_clip_and_are_no_shorter_than_the_window() -> None:
    lengths, firsts = set(), set()
    for seed in range(200):
        at = pick(50, 20, 20, np.random.default_rng(seed))
        assert 0 <= at[0] < at[-1] < 50
        assert (np.diff(at) > 0).all()
        lengths.add(int(at[-1] - at[0]))
        firsts.add(int(at[0]))
    assert (min(lengths), min(firsts)) == (19, 0)
    assert max(lengths) > 40
    assert max(firsts) > 20
    np.testing.assert_array_equal(cut(np.arange(1, 4, dtype=np.float32), 7, None), [0, 0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(cut(np.arange(7, dtype=np.float32), 3, None), [2, 3, 4])


def test_the_loss_trains_each_branch_by_itself_and_reaches_every_parameter() -> None:
    task = small()
    clips, labels = material(4, 100, motion=True, sound=True)
    torch.manual_seed(0)
    network = task.network()
    assert unreached(task, network, clips, labels) == []
    whole = {name: p.grad for name, p in network.branches["flow"].named_parameters()}
    alone = small((0, 1, 0))
    torch.manual_seed(0)
    other = alone.network()
    other.branches["flow"].load_state_dict(network.branches["flow"].state_dict())
    for module in (network, other):
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
    network.zero_grad()
    assert unreached(task, network, clips, labels) == unreached(alone, other, clips, labels) == []
    for name, parameter in other.branches["flow"].named_parameters():
        torch.testing.assert_close(parameter.grad, network.branches["flow"].get_parameter(name).grad)
        assert whole[name] is not None


def test_it_learns_32_clips_by_heart() -> None:
    task = small()
    clips, _ = material(32, 200)
    labels = [int(v) for v in np.random.default_rng(0).integers(0, 2, 32)]  # no rule: each clip must be remembered
    task.mirror = False
    network = fit(task, clips, labels, n_steps=80, rate=1e-2)
    assert accuracy(task, network, clips, labels) == 1.0


def test_flow_tells_clips_that_differ_in_motion_alone() -> None:
    task = small((0, 1, 0))
    network = fit(task, *material(24, 300, motion=True), n_steps=20, rate=1e-2)
    assert accuracy(task, network, *material(24, 400, motion=True)) >= 0.9


def test_the_audio_branch_tells_clips_that_differ_in_spectrum_alone() -> None:
    task = small((0, 0, 1))
    network = fit(task, *material(24, 500, sound=True), n_steps=40, rate=1e-2)
    assert accuracy(task, network, *material(24, 600, sound=True)) >= 0.9


def test_decision_fusion_cannot_tell_whether_two_modalities_agree() -> None:
    """Log odds are a sum of one term of the picture and one of the sound, and no such sum has the signs + - - +."""
    task = small((1, 0, 1))
    network = fit(task, *agreement(32, 700), n_steps=15, rate=1e-2)
    clips, labels = agreement(48, 800)
    assert accuracy(task, network, clips, labels) <= 0.7
    with torch.no_grad():
        given = batch(task, clips[:12])
        odds = [
            task.posterior(network, {"rgb": given["rgb"], "waveform": given["waveform"].roll(shift, 0)}).logit()[:, 1]
            for shift in range(12)
        ]
    table = torch.stack([torch.stack([odds[(p - s) % 12][p] for s in range(12)]) for p in range(12)])  # picture, sound
    torch.testing.assert_close(table + table[:1, :1], table[:, :1] + table[:1], atol=1e-3, rtol=1e-3)


def test_the_bundle_gives_torchs_posteriors(tmp_path: Path) -> None:
    # C3D exports in a tenth of I3D's time; I3D's own graph is compared in test_icanet.
    task = small(video="c3d", n_frames=16, narrow=16)
    clips, labels = material(4, 900, motion=True, sound=True)
    network = fit(task, clips, labels, n_steps=3, rate=1e-2)
    exported = task.export(network, tmp_path, clips[:2])
    assert exported.difference < 1e-4
    made = bundle(task, exported, tmp_path)
    assert list(made.manifest.stages) == ["rgb", "flow", "audio", "head", "face_head", "voice_head"]
    assert (made.manifest.flow, made.manifest.pose) == ("lucas-kanade", False)
    assert made.manifest.clip == ClipInput(frame_hz=25.0, n_frames=16, span_s=N / 25)
    item = task.inputs(clips[3], None)
    raw = {"crop": item["rgb"], "flow": item["flow"], "waveform": item["waveform"]}
    given = batch(task, clips[3:])
    weights = dict(zip(MODALITIES, task.config.weights, strict=True))
    with torch.no_grad():
        logits = network.logits(rgb=given["rgb"], flow=given["flow"], audio=given["waveform"])
        expected = {
            "both": task.posterior(network, given),
            "face": fuse({name: logits[name] for name in ("rgb", "flow")}, weights),
            "voice": logits["audio"].softmax(1),
        }
    assert made.manifest.posteriors == {
        "both": "head.posterior",
        "face": "face_head.posterior",
        "voice": "voice_head.posterior",
    }
    for kind, posterior in expected.items():
        got = by_stages(made, made.manifest.posteriors[kind], raw)
        np.testing.assert_allclose(got, posterior.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "expected", "scored_by"),
    [
        ((1, 0, 0), {"face_head": ("rgb",)}, {"both": "face_head.posterior", "face": "face_head.posterior"}),
        ((4, 2, 0), {"face_head": ("rgb", "flow")}, {"both": "face_head.posterior", "face": "face_head.posterior"}),
        ((0, 0, 1), {"voice_head": ("audio",)}, {"both": "voice_head.posterior", "voice": "voice_head.posterior"}),
        (
            (0, 2, 4),
            {"head": ("flow", "audio"), "face_head": ("flow",), "voice_head": ("audio",)},
            {"both": "head.posterior", "face": "face_head.posterior", "voice": "voice_head.posterior"},
        ),
    ],
)
def test_heads_are_those_of_the_modalities(
    weights: tuple[float, float, float], expected: dict[str, tuple[str, ...]], scored_by: dict[str, str]
) -> None:
    config = replace(SMALL, weights=weights)
    assert (heads(config), posteriors(config)) == (expected, scored_by)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 4 labels as the network has, got up, down"):
        IcanetTask(labels=TWO)
    with pytest.raises(ValueError, match=r"expected a window of whole pictures, got 3\.15 s at 25\.0 Hz"):
        IcanetTask(span_s=3.15)
    made = clip(4)
    with pytest.raises(ValueError, match="small/4: expected its pictures and flow to be prepared"):
        small().inputs(replace(made, flow=None), None)
    with pytest.raises(ValueError, match="small/4: expected its sound to be prepared"):
        small().inputs(replace(made, samples=None), None)
