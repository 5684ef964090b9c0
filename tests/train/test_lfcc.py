"""LFCC against scipy on speech, chirps and silence; deltas and the picture against loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import torch

from train.frontends.grey_and_mel import delta
from train.frontends.lfcc import Lfcc, LfccPicture, dct_matrix, linear_filters

RATE_HZ = 16_000


def scipy_lfcc(
    waveform: np.ndarray, *, window: int = 400, hop: int = 160, n_fft: int = 512, n_filters: int = 64, n_kept: int = 40,
    low_hz: float = 0.0, high_hz: float = 8000.0, floor: float = 1e-6,
) -> np.ndarray:  # fmt: skip
    taper = scipy.signal.get_window("hann", window)
    n_windows = 1 + (len(waveform) - window) // hop
    bins_hz = scipy.fft.rfftfreq(n_fft, 1 / RATE_HZ)
    corners = [low_hz + (high_hz - low_hz) * i / (n_filters + 1) for i in range(n_filters + 2)]
    columns = []
    for k in range(n_windows):
        block = waveform[k * hop : k * hop + window].astype(np.float64)
        power = np.abs(scipy.fft.rfft(block * taper, n_fft)) ** 2
        energies = [
            (np.interp(bins_hz, corners[f : f + 3], [0, 1, 0], left=0, right=0) * power).sum() for f in range(n_filters)
        ]
        columns.append(scipy.fft.dct(np.log(np.array(energies) + floor), type=2, norm="ortho")[:n_kept])
    return np.stack(columns, 1)


def ours(waveform: np.ndarray, **sizes: int) -> np.ndarray:
    return np.asarray(Lfcc(**sizes)(torch.from_numpy(waveform)[None])[0])  # type: ignore[arg-type]


def assert_same(waveform: np.ndarray) -> None:
    got, expected = ours(waveform), scipy_lfcc(waveform)
    assert got.shape == expected.shape == (40, 1 + (len(waveform) - 400) // 160)
    np.testing.assert_allclose(got, expected, atol=5e-3)


def chirp(low_hz: float, high_hz: float, amplitude: float) -> np.ndarray:
    t = np.arange(16_000) / RATE_HZ
    return np.asarray(amplitude * scipy.signal.chirp(t, low_hz, 1.0, high_hz), np.float32)


@pytest.mark.parametrize(("low_hz", "high_hz", "amplitude"), [(80, 400, 0.5), (50, 7900, 0.9), (3000, 200, 0.001)])
def test_lfcc_of_chirps_is_scipys(low_hz: float, high_hz: float, amplitude: float) -> None:
    assert_same(chirp(low_hz, high_hz, amplitude))


def test_lfcc_of_noise_and_of_silence_is_scipys() -> None:
    assert_same(np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32))
    assert_same(np.zeros(4000, np.float32))


def test_lfcc_of_speech_is_scipys(corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::300]
    assert len(files) == 4
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == RATE_HZ
        assert_same(samples[len(samples) // 2 - 10_240 :][:20_480])


def test_other_sizes_are_scipys_too() -> None:
    wave = chirp(100, 6000, 0.3)
    got = ours(wave, window=320, hop=100, n_fft=1024, n_filters=30, n_coefficients=13, low_hz=200, high_hz=5000)
    expected = scipy_lfcc(wave, window=320, hop=100, n_fft=1024, n_filters=30, n_kept=13, low_hz=200, high_hz=5000)
    np.testing.assert_allclose(got, expected, atol=5e-3)


def test_the_dct_is_scipys_and_orthonormal() -> None:
    x = np.random.default_rng(0).normal(size=31)
    np.testing.assert_allclose(dct_matrix(20, 31) @ x, scipy.fft.dct(x, type=2, norm="ortho")[:20], atol=1e-12)
    np.testing.assert_allclose(dct_matrix(31, 31) @ dct_matrix(31, 31).T, np.eye(31), atol=1e-12)


def test_linear_filters_sum_to_one_between_the_outer_centres() -> None:
    filters = linear_filters(rate_hz=RATE_HZ, n_fft=512, n_filters=64, low_hz=0.0, high_hz=8000.0)
    assert filters.shape == (64, 257)
    inside = (np.arange(257) * 31.25 >= 8000 / 65) & (np.arange(257) * 31.25 <= 8000 * 64 / 65)
    np.testing.assert_allclose(filters.sum(0)[inside], 1.0, atol=1e-12)
    assert (filters.sum(1) > 0).all()


def test_deltas_are_the_regression_over_five_windows() -> None:
    cepstra = np.random.default_rng(0).normal(size=(2, 3, 7))
    got = delta(torch.from_numpy(cepstra)).numpy()
    for b in range(2):
        for q in range(3):
            for t in range(7):
                top = sum(n * (cepstra[b, q, min(t + n, 6)] - cepstra[b, q, max(t - n, 0)]) for n in (1, 2))
                assert got[b, q, t] == pytest.approx(top / 10, abs=1e-12)
    ramp = torch.arange(9.0).reshape(1, 1, 9) * 0.7
    torch.testing.assert_close(delta(ramp)[0, 0, 2:-2], torch.full((5,), 0.7))
    assert delta(torch.ones(1, 2, 1)).abs().max() == 0  # a single window


def bilinear(source: np.ndarray, size: int) -> np.ndarray:
    picture = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = min(max((i + 0.5) * source.shape[0] / size - 0.5, 0), source.shape[0] - 1)
            x = min(max((j + 0.5) * source.shape[1] / size - 0.5, 0), source.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, source.shape[0] - 1), min(left + 1, source.shape[1] - 1)
            upper = source[top, left] * (1 - x + left) + source[top, right] * (x - left)
            lower = source[bottom, left] * (1 - x + left) + source[bottom, right] * (x - left)
            picture[i, j] = upper * (1 - y + top) + lower * (y - top)
    return picture


def test_the_picture_is_standardised_cepstra_and_their_slopes_resized() -> None:
    wave = chirp(100, 6000, 0.3)
    got = LfccPicture(64)(torch.from_numpy(wave)[None])[0].numpy()
    assert got.shape == (3, 64, 64)
    cepstra = scipy_lfcc(wave)
    scaled = np.stack([(row - row.mean()) / (row.std() + 0.5) for row in cepstra])
    layers = [scaled]
    for _ in range(2):
        layers.append(delta(torch.from_numpy(layers[-1])[None])[0].numpy())
    for layer, picture in zip(layers, got, strict=True):
        np.testing.assert_allclose(picture, bilinear(layer, 64), atol=5e-3)


def test_silence_gives_an_empty_picture_and_gain_changes_little() -> None:
    assert LfccPicture(32)(torch.zeros(1, 4000)).abs().max() < 1e-4
    wave = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32))
    torch.testing.assert_close(LfccPicture(32)(wave), LfccPicture(32)(wave / 8), atol=1e-2, rtol=0)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError, match="expected window <= n_fft and n_coefficients <= n_filters, got 600, 512, 40, 64"
    ):
        Lfcc(window=600)
    with pytest.raises(ValueError, match=r"300 filters are 26.6 Hz apart, bins of 512 samples are 31.2 Hz"):
        Lfcc(n_filters=300)
    with pytest.raises(ValueError, match=r"expected 0 <= low < high <= 8000.0 Hz, got 0.0 to 9000.0 Hz"):
        Lfcc(high_hz=9000.0)
