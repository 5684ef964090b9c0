"""VGGish: its patches against loops, librosa and the released front end, size, shapes, export."""

import warnings
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from train.backbones.vggish import Vggish, VggishConfig
from train.frontends.vggish_patches import PATCH_SAMPLES, VggishPatches, mel_bands

SMALL = VggishConfig(groups=((4,), (5,), (6, 6), (7, 7)), hidden=(11, 12), n_features=9)


def chirp(n_samples: int) -> np.ndarray:
    t = np.arange(n_samples) / 16_000
    wave = 0.5 * np.sin(2 * np.pi * (120 * t + 900 * t**2)) + 0.02 * np.sin(2 * np.pi * 5000 * t)
    return np.asarray(wave, np.float32)


def patches(waveform: np.ndarray, **options: int) -> np.ndarray:
    return np.asarray(VggishPatches(**options)(torch.from_numpy(waveform)[None])[0])


def bands_by_loops() -> np.ndarray:
    """64 triangles between 66 points that lie evenly from 125 to 7500 Hz on HTK's scale, (64, 257)."""
    scale = librosa.hz_to_mel(np.arange(257) * 16_000 / 512, htk=True)
    edges = librosa.hz_to_mel(librosa.mel_frequencies(66, fmin=125, fmax=7500, htk=True), htk=True)
    bands = np.zeros((64, 257))
    for band in range(64):
        low, centre, high = edges[band : band + 3]
        for k in range(1, 257):
            if low < scale[k] <= centre:
                bands[band, k] = (scale[k] - low) / (centre - low)
            elif centre < scale[k] < high:
                bands[band, k] = (high - scale[k]) / (high - centre)
    return bands


def reference(waveform: np.ndarray) -> np.ndarray:
    """The spectrogram by librosa's transform, (n_frames, 64): log(bands x magnitude + 0.01)."""
    # librosa lays the 400-sample window in the middle of its 512 samples, so its frames begin 56 samples later.
    padded = np.pad(waveform.astype(np.float64), (56, 56))
    magnitude = np.abs(librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, center=False))
    return np.asarray(np.log(bands_by_loops() @ magnitude + 0.01).T)


def test_bands_are_triangles_in_mel_and_near_librosas_in_hertz() -> None:
    np.testing.assert_allclose(mel_bands(), bands_by_loops().T, atol=1e-9)
    in_hertz = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None).T
    apart = np.abs(mel_bands() - in_hertz).max()
    assert 1e-3 < apart < 0.03  # straight in mel bends in hertz: close, and not the same


def test_patches_are_the_released_front_ends() -> None:
    # Frozen: the released `mel_features.py` (as torchvggish 0.2 has it) on this chirp, every 24th frame and 16th band.
    expected = [
        [[3.77472, -4.361, -4.58517, -4.59199], [-3.70724, -2.45998, -4.5416, -4.59018],
         [-4.50463, -1.78403, -4.39305, -4.59489], [-4.58796, -4.14844, -3.59114, -4.59398]],
        [[-4.60299, -4.4865, 3.52099, -4.55816], [-4.5905, -4.5753, -2.74433, -4.5289],
         [-4.5968, -4.59459, -4.28532, -4.42965], [-4.60242, -4.59824, -4.50666, -4.06696]],
    ]  # fmt: skip
    np.testing.assert_allclose(patches(chirp(31_200))[:, ::24, ::16], expected, atol=1e-4)


def test_patches_of_noise_are_the_references() -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 31_500).astype(np.float32)
    spectrogram = reference(noise)
    np.testing.assert_allclose(patches(noise), spectrogram[:192].reshape(2, 96, 64), atol=1e-4)


def test_patches_of_speech_are_the_references(corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::300]
    assert len(files) == 4
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == 16_000
        got = patches(samples)
        assert len(got) == (len(samples) - 240) // 15_360 >= 2
        np.testing.assert_allclose(got.reshape(-1, 64), reference(samples)[: 96 * len(got)], atol=1e-3)


@pytest.mark.parametrize(
    ("n_samples", "hop_frames", "n_patches"), [(15_600, 96, 1), (30_959, 96, 1), (30_960, 96, 2), (30_960, 10, 10)]
)
def test_patches_begin_a_hop_apart(n_samples: int, hop_frames: int, n_patches: int) -> None:
    wave = chirp(n_samples)
    got = patches(wave, hop_frames=hop_frames)
    assert got.shape == (n_patches, 96, 64)
    for k, patch in enumerate(got):
        alone = patches(wave[k * hop_frames * 160 :][:PATCH_SAMPLES])
        np.testing.assert_allclose(patch, alone[0], atol=5e-4)  # float32 beside a loud tone


def test_silence_is_the_offset_and_less_than_a_patch_is_refused() -> None:
    np.testing.assert_allclose(patches(np.zeros(15_600, np.float32)), np.log(0.01), rtol=1e-6)
    with pytest.raises(ValueError, match="expected 15600 samples or more, one patch, got 15599"):
        patches(np.zeros(15_599, np.float32))
    with pytest.raises(ValueError, match="expected a patch hop of 1 frame or more, got 0"):
        VggishPatches(hop_frames=0)


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        net = Vggish(VggishConfig())
    total, channels = 0, 1
    for width in (64, 128, 256, 256, 512, 512):
        total += 9 * channels * width + width
        channels = width
    flat = (96 // 16) * (64 // 16) * 512
    for n_in, n_out in ((flat, 4096), (4096, 4096), (4096, 128)):
        total += n_in * n_out + n_out
    assert total == sum(p.numel() for p in net.parameters()) == 72_141_184
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")}
    assert shapes["embeddings.0.weight"] == (4096, 12_288)
    assert [name for name in shapes if name.startswith("features")] == [f"features.{k}.weight" for k in PORT]


PORT = (0, 3, 6, 8, 11, 13)  # places of the convolutions in the port to torch whose file loads as it is


def test_shapes_along_the_released_network() -> None:
    with torch.device("meta"):
        net = Vggish(VggishConfig())
        x = torch.zeros(2, 1, 96, 64)
        seen = []
        for layer in net.features:
            x = layer(x)
            if isinstance(layer, torch.nn.MaxPool2d):
                seen.append(tuple(x.shape[1:]))
        assert seen == [(64, 48, 32), (128, 24, 16), (256, 12, 8), (512, 6, 4)]
        assert net.encode(torch.zeros(2, 3, 96, 64)).shape == (2, 3, 128)
    assert net.n_features == 128


def by_layers(net: Vggish, patch: Tensor) -> Tensor:
    """One patch, (96, 64), through the released layers written out; the map flattened in loops, channels last."""
    state, x = dict(net.named_parameters()), patch[None, None]
    for k in PORT:
        x = F.conv2d(x, state[f"features.{k}.weight"], state[f"features.{k}.bias"], padding=1).relu()
        if k not in (6, 11):  # the first convolutions of the two doubled groups
            x = F.max_pool2d(x, 2)
    flat = [x[0, c, t, f] for t in range(6) for f in range(4) for c in range(x.shape[1])]
    y = torch.stack(flat)
    for k in (0, 2, 4):
        y = state[f"embeddings.{k}.weight"] @ y + state[f"embeddings.{k}.bias"]
        y = y.relu() if k < 4 else y
    return y


def test_each_patch_is_encoded_by_itself() -> None:
    torch.manual_seed(0)
    net = Vggish(SMALL).eval()
    waves = torch.from_numpy(np.stack([chirp(31_200), chirp(31_200)[::-1]]))
    got = net(waves)
    assert got.shape == (2, 2, 9)
    for item, both in enumerate(net.frontend(waves)):
        for k, patch in enumerate(both):
            torch.testing.assert_close(got[item, k], by_layers(net, patch), atol=1e-5, rtol=1e-4)
    assert got.min() < 0  # no ReLU at the end


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = Vggish(SMALL).train()
    torch.autograd.backward(net(torch.from_numpy(chirp(31_200))[None]).square().sum())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_exported_graph_agrees_at_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Vggish(SMALL).eval()
    path = tmp_path / "vggish.onnx"
    waves = torch.from_numpy(np.stack([chirp(31_200), chirp(31_200)[::-1], 0.01 * chirp(31_200)]))
    with warnings.catch_warnings():
        # torch 2.13 warns of a class that its own exporter uses.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        torch.onnx.export(
            net, (waves[:2],), path, dynamo=True, opset_version=20, input_names=["waveform"],
            dynamic_shapes=({0: "batch"},), verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 3):
        (got,) = session.run(None, {"waveform": waves[:n].numpy()})
        expected = net(waves[:n]).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ()}, "expected groups of convolutions and positive sizes"),
        ({"hidden": (0,)}, "expected groups of convolutions and positive sizes"),
        ({"groups": ((4,),) * 6}, "expected at most 5 groups, which halve 96 frames to 3, got 6"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VggishConfig(**{**SMALL.__dict__, **change})
