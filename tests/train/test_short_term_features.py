"""The 68 features against the package that they come from, and its quirks against loops."""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from train.frontends.short_term_features import NAMES, ShortTermFeatures, cepstral_filters, chroma_matrix

RATE_HZ = 16_000
N = 32_000


@pytest.fixture(scope="module")
def package() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports names from where SciPy has deprecated them
        pytest.importorskip("pyAudioAnalysis", reason="pip install pyAudioAnalysis to compare with it")
        return importlib.import_module("pyAudioAnalysis.ShortTermFeatures")


def theirs(package: ModuleType, waveform: np.ndarray, window: int = 800, hop: int = 400) -> np.ndarray:
    """(68, n_frames) float64; the package expects samples of the range of int16."""
    features, names = package.feature_extraction(waveform.astype(np.float64) * 2**15, RATE_HZ, window, hop)
    assert tuple(names[:34]) == NAMES
    assert names[34:] == [f"delta {name}" for name in NAMES]
    return np.asarray(features)


def ours(waveform: np.ndarray, window: int = 800, hop: int = 400) -> tuple[np.ndarray, np.ndarray]:
    module = ShortTermFeatures(window=window, hop=hop)
    batch = torch.from_numpy(waveform.astype(np.float32))[None]
    return module.frames(batch)[0].numpy(), module(batch)[0].numpy()


def assert_same(package: ModuleType, waveform: np.ndarray, *, window: int = 800, hop: int = 400) -> None:
    expected = theirs(package, waveform.astype(np.float32), window, hop)
    frames, averages = ours(waveform, window, hop)
    assert frames.shape == (34, 1 + (len(waveform) - window) // hop)
    # One bin of the roll-off is 1 / 400: a running sum that just meets nine tenths may end on either side.
    tolerance = np.where(np.array(NAMES) == "spectral_rolloff", 2.01 / window, 1e-4)
    assert (np.abs(frames - expected[:34]) <= tolerance[:, None]).all()
    np.testing.assert_allclose(averages, expected.mean(1), atol=1e-4, rtol=0)


def speech_like(seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding pitch over noise, with an offset; no digital silence."""
    t = np.arange(N) / RATE_HZ
    phase = 2 * np.pi * (140 * t + 40 * t**2)
    tone = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.sin(np.pi * t / t[-1])
    noise = np.random.default_rng(seed).normal(0, 0.02, N)
    return np.asarray(0.3 * tone + noise + 0.01, dtype=np.float32)


def test_names_are_the_34_of_the_package(package: ModuleType) -> None:
    assert len(NAMES) == 34
    theirs(package, speech_like())


def test_features_of_a_voice_like_sound_are_the_packages(package: ModuleType) -> None:
    assert_same(package, speech_like())


def test_features_of_noise_are_the_packages(package: ModuleType) -> None:
    assert_same(package, np.random.default_rng(1).uniform(-1, 1, 5000))


@pytest.mark.parametrize(("window", "hop"), [(800, 800), (640, 160), (805, 333), (1203, 400)])
def test_frames_of_any_size_are_the_packages(package: ModuleType, window: int, hop: int) -> None:
    assert_same(package, speech_like()[:7001], window=window, hop=hop)


def test_features_of_speech_are_the_packages(package: ModuleType, corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::150]
    assert len(files) == 8
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == RATE_HZ
        assert_same(package, samples[len(samples) // 2 - N // 2 :][:N])


def test_silence_is_what_the_package_says_of_it(package: ModuleType) -> None:
    assert_same(package, np.zeros(4000))
    assert ours(np.zeros(4000))[1][8] == pytest.approx(np.log10(np.finfo(float).eps) * 40**0.5, rel=1e-6)


def test_silence_within_a_window_shows_no_rounding(package: ModuleType) -> None:
    waveform = speech_like()
    waveform[8000:16_000] = 0.0
    assert_same(package, waveform)


def test_loudness_and_offset_do_not_matter() -> None:
    waveform = speech_like()
    np.testing.assert_allclose(ours(0.01 * waveform + 0.2)[1], ours(waveform)[1], atol=2e-3)


def test_each_item_of_a_batch_is_by_itself() -> None:
    module = ShortTermFeatures()
    batch = torch.from_numpy(np.stack([speech_like(), 0.1 * speech_like(3), np.zeros(N, np.float32)]))
    got = module(batch)
    assert got.shape == (3, 68)
    assert got.dtype == torch.float32
    for item, features in zip(batch, got, strict=True):
        torch.testing.assert_close(module(item[None])[0], features, atol=1e-5, rtol=1e-5)


def test_deltas_average_the_differences_of_neighbours() -> None:
    frames, averages = ours(speech_like())
    for feature in range(34):
        total = 0.0
        for n in range(1, frames.shape[1]):
            total += float(frames[feature, n]) - float(frames[feature, n - 1])
        assert averages[34 + feature] == pytest.approx(total / frames.shape[1], abs=1e-5)
        assert averages[feature] == pytest.approx(frames[feature].astype(float).mean(), abs=1e-4)


@pytest.mark.parametrize(("rate_hz", "n_bins"), [(16_000, 400), (22_050, 551), (8000, 200)])
def test_filters_and_chroma_are_the_packages(package: ModuleType, rate_hz: int, n_bins: int) -> None:
    expected, _ = package.mfcc_filter_banks(rate_hz, n_bins)
    np.testing.assert_allclose(cepstral_filters(rate_hz=rate_hz, n_bins=n_bins), expected, atol=1e-15)
    matrix = chroma_matrix(rate_hz=rate_hz, n_bins=n_bins)
    for seed in range(3):
        spectrum = np.random.default_rng(seed).uniform(0, 1, n_bins)
        _, chroma = package.chroma_features(spectrum, rate_hz, n_bins)
        np.testing.assert_allclose(matrix @ spectrum**2 / (spectrum**2).sum(), chroma[:, 0], atol=1e-12)


def test_a_filter_lies_at_half_the_frequency_it_names() -> None:
    peaks = cepstral_filters(rate_hz=RATE_HZ, n_bins=400).argmax(1) * RATE_HZ / 800
    assert peaks[0] == pytest.approx(200 / 2, abs=20)  # edges 133.33, 200, 266.67 Hz
    assert peaks[12] == pytest.approx(999.8 / 2, abs=20)


def test_features_of_a_tone_by_hand() -> None:
    # 1 kHz: 50 whole periods a frame, one bin; its phase keeps samples off zero, 2 crossings a period.
    t = np.arange(8000) / RATE_HZ
    frames, averages = ours(0.5 * np.sin(2 * np.pi * 1000 * t + 0.1))
    of = dict(zip(NAMES, averages, strict=False))
    assert of["zcr"] == pytest.approx(100 / 799, abs=1.1 / 799)
    assert of["energy"] == pytest.approx(0.5, abs=0.01)
    assert of["energy_entropy"] == pytest.approx(np.log2(10), abs=1e-5)
    assert of["spectral_centroid"] == pytest.approx(51 / 400, abs=1e-4)  # the package counts bins from 1
    assert of["spectral_rolloff"] == pytest.approx(50 / 400)
    assert np.abs(frames[NAMES.index("spectral_flux")]).max() < 1e-6
    assert np.abs(averages[34:]).max() < 1e-3


def test_too_short_a_waveform_and_frames_it_has_no_tables_for_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 800 samples, one frame, got 799"):
        ShortTermFeatures()(torch.zeros(1, 799))
    with pytest.raises(ValueError, match="expected more than 98 bins, one a semitone, got 80: take longer frames"):
        ShortTermFeatures(window=160)
    with pytest.raises(ValueError, match="expected a rate above 6854 Hz, that of the highest filter, got 6000"):
        ShortTermFeatures(rate_hz=6000)
    with pytest.raises(ValueError, match="expected a hop of at least one sample, got 0"):
        ShortTermFeatures(hop=0)
