"""The cheaper front ends give what the exported ones give, on the shipped graphs and on real inputs."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.bundle import load
from engines.onnx_runtime import OnnxEngine
from engines.samples import Samples
from train.default.lean_frontends import _folded_basis, fold_spectrum, grey_by_product
from train.frontends.grey_and_mel import fourier_basis, hann, power_spectrum

AUDIO, FRAME = (load("default").stage(stage) for stage in ("audio_encoder", "frame_encoder"))  # type: ignore[arg-type]


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(
    ("stage", "change"), [("audio_encoder", fold_spectrum), ("frame_encoder", grey_by_product)], ids=["audio", "frame"]
)
def test_the_encoder_computes_what_it_did(stage: str, change: object, tmp_path: Path) -> None:
    bundle = load("default")
    path = bundle.stage(stage)  # type: ignore[arg-type]
    before = path.read_bytes()
    onnx.save(change(onnx.load(path)), tmp_path / "a.onnx")  # type: ignore[operator]
    one, two = OnnxEngine(path), OnnxEngine(tmp_path / "a.onnx")
    assert (one.inputs, one.outputs) == (two.inputs, two.outputs)
    with Samples(bundle) as samples:
        for n in (1, 5):
            feeds = samples.feeds(stage, n)
            expected, got = one.run(feeds), two.run(feeds)
            for name in expected:
                np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
    assert path.read_bytes() == before


def test_silence_and_full_scale_are_as_they_were(tmp_path: Path) -> None:
    onnx.save(fold_spectrum(onnx.load(AUDIO)), tmp_path / "a.onnx")
    extremes = np.stack([np.zeros(20_480), np.ones(20_480), np.tile([1.0, -1.0], 10_240)]).astype(np.float32)
    expected, got = (OnnxEngine(path).run({"waveform": extremes}) for path in (AUDIO, tmp_path / "a.onnx"))
    # Of a constant only rounding is left in most bands, and its logarithm is what the network sees.
    np.testing.assert_allclose(got["posterior"], expected["posterior"], atol=1e-3)


def test_the_convolution_and_its_basis_are_gone() -> None:
    given = onnx.load(AUDIO)
    kept, changed = given.SerializeToString(), fold_spectrum(given)
    assert given.SerializeToString() == kept
    assert kinds(changed)["Conv"] == kinds(given)["Conv"] - 1
    assert "branch.frontend.basis" not in {tensor.name for tensor in changed.graph.initializer}
    saved = 2 * 257 * 400 * 4 - 2 * 257 * 200 * 4
    assert len(kept) - changed.ByteSize() == pytest.approx(saved, abs=5_000)


def test_colours_are_weighed_by_one_product() -> None:
    changed = kinds(grey_by_product(onnx.load(FRAME))) - kinds(onnx.load(FRAME))
    assert changed == {"MatMul": 1, "Reshape": 1}


@pytest.mark.parametrize(("window", "n_fft"), [(400, 512), (512, 512), (32, 64)])
def test_folded_windows_have_the_power_of_whole_ones(window: int, n_fft: int) -> None:
    basis = fourier_basis(hann(window), n_fft, n_fft // 2 + 1)
    cosines, sines = _folded_basis(basis[:, 0].numpy())
    assert cosines.shape == sines.shape == (window // 2, n_fft // 2 + 1)
    samples = np.random.default_rng(window).normal(size=window).astype(np.float32)
    right, left = samples[window // 2 :], samples[window // 2 : 0 : -1]
    power = ((right + left) @ cosines) ** 2 + ((right - left) @ sines) ** 2
    expected = power_spectrum(torch.from_numpy(samples)[None], basis, window)[0, :, 0]
    np.testing.assert_allclose(power, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("taper", [np.hanning(32), np.ones(32), np.linspace(0, 1, 32)])
def test_a_window_that_is_not_even_about_its_middle_is_refused(taper: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected the Fourier transform of an even window of 64 points or fewer"):
        _folded_basis(fourier_basis(taper, 64, 33)[:, 0].numpy())


def test_a_graph_without_such_a_front_end_is_refused() -> None:
    with pytest.raises(ValueError, match="expected Unsqueeze -> Conv -> Split -> Pow -> Add in the graph, found none"):
        fold_spectrum(onnx.load(FRAME))
    with pytest.raises(ValueError, match="expected Mul -> ReduceSum -> Unsqueeze in the graph, found none"):
        grey_by_product(onnx.load(AUDIO))
