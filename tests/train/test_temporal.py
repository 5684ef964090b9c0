"""The temporal aggregation network: shapes, gradients, shared and independent networks."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from train.models.temporal import LABELS, AudioVisualNetwork, ResidualBlock, TemporalAggregation, TemporalConfig

SMALL = TemporalConfig(
    face_widths=(4, 6), face_blocks=(1, 1), voice_widths=(4, 5), voice_blocks=(1, 1), n_samples=4000, crop_px=16
)


def material(n: int, *, config: TemporalConfig = SMALL, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (n, config.crop_px, config.crop_px, 3), generator=generator, dtype=torch.uint8)
    return crops, torch.rand(n, config.n_samples, generator=generator) - 0.5


def network(config: TemporalConfig = SMALL) -> AudioVisualNetwork:
    torch.manual_seed(0)
    return AudioVisualNetwork(config).eval()


def test_labels_are_the_seven_in_the_order_of_ferplus() -> None:
    assert LABELS == ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")


def test_shapes_along_the_default_network() -> None:
    config = TemporalConfig()
    net = network(config)
    crops, waves = material(2, config=config)
    grey = net.face.frontend(crops)
    mels = net.voice.frontend(waves)
    assert grey.shape == (2, 1, 48, 48)
    assert net.face.stages(grey).shape == (2, 256, 6, 6)
    assert net.face(crops).shape == (2, 256)
    assert mels.shape == (2, 64, 126)
    assert net.voice(waves).shape == (2, 384)
    assert net.face_head(net.face(crops)).shape == (2, 7)
    assert net.voice_head(net.voice(waves)).shape == (2, 7)
    assert net(crops, waves).shape == (2, 7)
    assert (net.face.n_features, net.voice.n_features) == (256, 384)


def test_the_default_networks_size_is_frozen() -> None:
    net = network(TemporalConfig())
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert parts == PARAMETERS
    assert sum(p.numel() for p in net.parameters()) == sum(PARAMETERS.values())


PARAMETERS = {
    "face": 1_595_232,
    "voice": 885_760,
    "dropout": 0,
    "face_head": 1799,
    "voice_head": 2695,
    "both_head": 4487,
}


def test_gradients_reach_every_parameter() -> None:
    net = network().train()
    crops, waves = material(4)
    face, voice = net.face(crops), net.voice(waves)
    targets = torch.arange(4)
    losses = (net.joint(face, voice), net.face_head(face), net.voice_head(voice))
    torch.autograd.backward([F.cross_entropy(logits, targets) for logits in losses])
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_joint_head_alone_reaches_both_branches_and_no_other_head() -> None:
    net = network()
    torch.autograd.backward(net(*material(2)).square().sum())
    silent = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is None}
    assert silent == {"face_head", "voice_head"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.face.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.voice.parameters())


def test_voice_features_are_mean_and_deviation_over_time() -> None:
    net = network()
    views = torch.randn(1, 2, 64, 23)
    bands = net.voice.stages(views).mean(2)[0].double()
    expected = [band.mean() for band in bands] + [(((band - band.mean()) ** 2).mean() + 1e-5).sqrt() for band in bands]
    torch.testing.assert_close(net.voice.encode(views)[0].double(), torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stride", "c_out"), [(1, 4), (1, 6), (2, 6)])
def test_a_residual_block_is_its_formula(stride: int, c_out: int) -> None:
    torch.manual_seed(1)
    block = ResidualBlock(4, c_out, stride).eval()
    x = torch.randn(2, 4, 8, 8)
    y = F.conv2d(x, block.conv1.weight, stride=stride, padding=1) / (1 + 1e-5) ** 0.5
    y = F.conv2d(y.relu(), block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
    short = x
    if stride == 2 or c_out != 4:
        short = F.conv2d(x, block.shortcut.get_parameter("0.weight"), stride=stride) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), (y + short).relu(), atol=1e-5, rtol=1e-5)


def test_batch_normalisation_follows_each_convolution() -> None:
    net = network()
    n_convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert n_convolutions == len(norms) == 12  # a stem, then two blocks of which the second has a shortcut; twice


@pytest.mark.parametrize("n_networks", [1, 3])
def test_segments_are_the_sum_of_their_networks_posteriors(n_networks: int) -> None:
    torch.manual_seed(0)
    config = TemporalConfig(**{**SMALL.__dict__, "n_networks": n_networks})
    model = TemporalAggregation(config).eval()
    crops, waves = material(6)
    crops, waves = crops.reshape(2, 3, 16, 16, 3), waves.reshape(2, 3, 4000)
    got = model(crops, waves)
    assert got.shape == (2, 7)
    for item in range(2):
        total = torch.zeros(7)
        for segment in range(3):
            net = model.networks[segment if n_networks == 3 else 0]
            logits = net(crops[item : item + 1, segment], waves[item : item + 1, segment])[0]
            total += torch.exp(logits) / torch.exp(logits).sum()
        torch.testing.assert_close(got[item], total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.sum(1), torch.full((2,), 3.0))


def test_independent_networks_share_nothing() -> None:
    model = TemporalAggregation(TemporalConfig(**{**SMALL.__dict__, "n_networks": 3}))
    one = sum(p.numel() for p in AudioVisualNetwork(SMALL).parameters())
    assert sum(p.numel() for p in model.parameters()) == 3 * one
    with pytest.raises(ValueError, match="expected one shared network, this model has 3"):
        _ = model.shared


def test_a_shared_network_takes_any_number_of_segments_and_independent_ones_theirs() -> None:
    shared = TemporalAggregation(SMALL).eval()
    assert shared.shared is shared.networks[0]
    crops, waves = material(4)
    assert shared(crops[None], waves[None]).sum().item() == pytest.approx(4, abs=1e-4)
    independent = TemporalAggregation(TemporalConfig(**{**SMALL.__dict__, "n_networks": 3})).eval()
    with pytest.raises(ValueError, match="expected 3 segments, one for each network, got 4"):
        independent(crops[None], waves[None])
