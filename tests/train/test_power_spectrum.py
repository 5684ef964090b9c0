"""The folded power spectrum against numpy's transform in float64, and its graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.onnx_runtime import OnnxEngine
from train.export import export_graph
from train.frontends.grey_and_mel import LogMel
from train.frontends.power_spectrum import PowerSpectrum, hann


def hamming(window: int) -> np.ndarray:
    return np.asarray(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(window) / window))


def flat(window: int) -> np.ndarray:
    return np.ones(window)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).normal(size=shape).astype(np.float32)


def assert_numpys(taper: np.ndarray, waveforms: np.ndarray, *, n_fft: int, hop: int, bins: np.ndarray) -> None:
    module = PowerSpectrum(taper, n_fft=n_fft, hop=hop, bins=bins)
    got = module(torch.from_numpy(waveforms)).numpy()
    n_frames = 1 + (waveforms.shape[1] - len(taper)) // hop
    assert (got.shape, got.dtype) == ((len(waveforms), n_frames, len(bins)), np.float32)
    for item, frames in zip(waveforms.astype(np.float64), got, strict=True):
        for n, frame in enumerate(frames):
            spectrum = np.fft.fft(item[n * hop : n * hop + len(taper)] * taper, n_fft)[bins]
            np.testing.assert_allclose(frame, np.abs(spectrum) ** 2, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("taper", [hann, hamming, flat])
@pytest.mark.parametrize(("window", "n_fft"), [(400, 512), (512, 512), (32, 64), (2, 2), (1, 4), (405, 512), (31, 31)])
def test_folded_windows_have_the_power_of_whole_ones(
    taper: Callable[[int], np.ndarray], window: int, n_fft: int
) -> None:
    assert_numpys(taper(window), noise(2, 3 * window), n_fft=n_fft, hop=window, bins=np.arange(n_fft // 2 + 1))


@pytest.mark.parametrize("hop", [1, 10, 33, 40, 63, 64, 100])
@pytest.mark.parametrize("n_samples", [64, 65, 200, 227, 300])
def test_windows_begin_a_hop_apart_and_all_that_fit_are_there(hop: int, n_samples: int) -> None:
    assert_numpys(hamming(64), noise(1, n_samples), n_fft=64, hop=hop, bins=np.arange(33))


def test_bins_are_those_asked_for() -> None:
    assert_numpys(hann(80), noise(3, 200), n_fft=128, hop=40, bins=np.array([3, 60, 17]))


def test_a_hann_window_is_folded_to_half_and_its_silent_sample_left_out() -> None:
    assert PowerSpectrum(hann(400), n_fft=512, hop=160, bins=np.arange(257)).sines.shape == (200, 257)
    assert PowerSpectrum(hamming(400), n_fft=512, hop=160, bins=np.arange(257)).sines.shape == (201, 257)
    assert PowerSpectrum(flat(401), n_fft=512, hop=160, bins=np.arange(257)).sines.shape == (201, 257)


def test_silence_has_no_power_and_a_constant_only_at_zero_hertz() -> None:
    module = PowerSpectrum(hann(400), n_fft=400, hop=160, bins=np.arange(201))
    silence, constant = module(torch.stack([torch.zeros(800), torch.ones(800)]))
    assert silence.abs().max() == 0
    np.testing.assert_allclose(constant[:, :2], [[200.0**2, 100.0**2]] * 3, rtol=1e-5)  # Hann has two more bins, +-1
    assert constant[:, 2:].max() < 1e-6


def test_constants_are_no_part_of_a_checkpoint() -> None:
    module = PowerSpectrum(hann(32), n_fft=32, hop=16, bins=np.arange(17))
    assert list(module.state_dict()) == []
    assert [name for name, _ in module.named_buffers()] == ["cosines", "sines"]


@pytest.mark.parametrize(
    ("taper", "n_fft"),
    [(np.hanning(32), 64), (np.linspace(0, 1, 32), 64), (hann(32), 31)],
    ids=["symmetric", "ramp", "long"],
)
def test_a_window_that_cannot_be_folded_is_refused(taper: np.ndarray, n_fft: int) -> None:
    text = f"expected a periodic window of at most {n_fft} samples, the same from both ends but for its first, got one"
    with pytest.raises(ValueError, match=text):
        PowerSpectrum(taper, n_fft=n_fft, hop=16, bins=np.arange(16))


def test_less_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 32 samples, one window, got 31"):
        PowerSpectrum(hann(32), n_fft=32, hop=16, bins=np.arange(17))(torch.zeros(1, 31))


@pytest.mark.parametrize("n_samples", [20_480, 15_600])
def test_the_exported_graph_has_neither_a_convolution_nor_a_gather(tmp_path: Path, n_samples: int) -> None:
    waveforms = noise(3, n_samples)
    module, path = LogMel(), tmp_path / "a.onnx"
    assert export_graph(module, path, {"waveform": torch.from_numpy(waveforms)}, ["levels"]) < 1e-4
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("MatMul") == 3
    assert not {"Conv", "Gather", "GatherND", "Loop", "Scan"} & set(kinds)
    assert kinds.count("Pad") == (20_480 - n_samples > 0)  # only where the last hop is not whole
    assert len(path.read_bytes()) < 4 * (2 * 200 * 254 + 254 * 64) + 10_000  # two bases of half a window, and bands
    one = OnnxEngine(path).run({"waveform": waveforms[:1]})["levels"]
    np.testing.assert_allclose(one, module(torch.from_numpy(waveforms[:1])), atol=1e-4)
