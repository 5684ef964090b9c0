"""Front ends against librosa and against loops."""

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from train.frontends.grey_and_mel import GreyFace, LogMel, mel_filters, normalise_log_mel, standardise

RATE_HZ = 16_000
N = 20_480


def librosa_log_mel(waveform: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64), sr=RATE_HZ, n_fft=512, win_length=400, hop_length=160, center=False,
        n_mels=64, fmin=50, fmax=8000,
    )  # fmt: skip
    return np.asarray(np.log(power + 1e-7))


def chirp(low_hz: float, high_hz: float, amplitude: float) -> np.ndarray:
    t = np.arange(N) / RATE_HZ
    sweep = low_hz * t + (high_hz - low_hz) * t**2 / (2 * t[-1])
    return np.asarray(amplitude * np.sin(2 * np.pi * sweep), dtype=np.float32)


def ours(waveform: np.ndarray) -> np.ndarray:
    return np.asarray(LogMel()(torch.from_numpy(waveform)[None])[0])


def assert_same_spectrogram(waveform: np.ndarray) -> None:
    # librosa lays the 400-sample window in the middle of its 512 samples, so its frames begin 56 samples later.
    expected = librosa_log_mel(np.pad(waveform, (56, 56)))
    got = ours(waveform)
    assert got.shape == expected.shape == (64, 126)
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize(("low_hz", "high_hz", "amplitude"), [(80, 400, 0.5), (50, 7900, 0.9), (3000, 200, 0.001)])
def test_log_mel_of_chirps_is_librosas(low_hz: float, high_hz: float, amplitude: float) -> None:
    assert_same_spectrogram(chirp(low_hz, high_hz, amplitude))


def test_log_mel_of_noise_and_of_silence_is_librosas() -> None:
    assert_same_spectrogram(np.random.default_rng(0).uniform(-1, 1, N).astype(np.float32))
    np.testing.assert_allclose(ours(np.zeros(N, np.float32)), np.log(1e-7), rtol=1e-6)


def test_log_mel_of_speech_is_librosas(corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[::300]
    assert len(files) == 4
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == RATE_HZ
        assert_same_spectrogram(samples[len(samples) // 2 - N // 2 :][:N])


@pytest.mark.parametrize("n_samples", [400, 559, 560, 16_000])
def test_frames_are_whole_windows(n_samples: int) -> None:
    assert ours(np.zeros(n_samples, np.float32)).shape == (64, 1 + (n_samples - 400) // 160)


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "n_mels", "low_hz", "high_hz"),
    [(16_000, 512, 64, 50.0, 8000.0), (22_050, 1024, 128, 0.0, 11_025.0), (8000, 256, 40, 1200.0, 3900.0)],
)
def test_mel_filters_are_librosas(rate_hz: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float) -> None:
    expected = librosa.filters.mel(
        sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=low_hz, fmax=high_hz, htk=False, norm="slaney", dtype=np.float64
    )
    got = mel_filters(rate_hz=rate_hz, n_fft=n_fft, n_mels=n_mels, low_hz=low_hz, high_hz=high_hz)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_grey_face_is_luma_standardised_by_itself() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    crops[1] //= 8  # dark: its floor of 4 grey levels counts
    got = GreyFace()(torch.from_numpy(crops)).numpy()
    assert got.shape == (3, 1, 12, 12)
    assert got.dtype == np.float32
    for crop, picture in zip(crops, got, strict=True):
        grey = np.zeros((12, 12))
        for y in range(12):
            for x in range(12):
                red, green, blue = (float(c) for c in crop[y, x])
                grey[y, x] = 0.299 * red + 0.587 * green + 0.114 * blue
        expected = (grey - grey.mean()) / (grey.std() + 4)
        np.testing.assert_allclose(picture[0], expected, atol=1e-5)


def test_a_flat_crop_is_zero_and_brightness_does_not_matter() -> None:
    flat = torch.full((1, 48, 48, 3), 200, dtype=torch.uint8)
    assert GreyFace()(flat).abs().max() < 1e-4
    grey = torch.rand(1, 1, 8, 8) * 100
    torch.testing.assert_close(standardise(grey + 90), standardise(grey), atol=1e-5, rtol=0)


def test_normalised_views_are_level_and_band_means_removed() -> None:
    generator = np.random.default_rng(0)
    spectrogram = generator.normal(-8, 9, (2, 5, 7))
    got = normalise_log_mel(torch.from_numpy(spectrogram)).numpy()
    assert got.shape == (2, 2, 5, 7)
    n_floored = 0
    for item, views in zip(spectrogram, got, strict=True):
        bounded = np.zeros((5, 7))
        for band in range(5):
            for frame in range(7):
                bounded[band, frame] = max(item[band, frame], item.max() - 18.0)
                n_floored += bounded[band, frame] != item[band, frame]
        for band in range(5):
            for frame in range(7):
                level = (bounded[band, frame] - bounded.mean()) / 3
                tilt = (bounded[band, frame] - bounded[band].mean()) / 3
                assert views[0, band, frame] == pytest.approx(level, abs=1e-12)
                assert views[1, band, frame] == pytest.approx(tilt, abs=1e-12)
    assert n_floored > 5


def test_gain_and_a_microphones_tilt_do_not_matter_where_they_should_not() -> None:
    spectrogram = torch.from_numpy(np.random.default_rng(1).normal(-8, 2, (1, 6, 9)))
    level, bands = normalise_log_mel(spectrogram)[0]
    louder = normalise_log_mel(spectrogram + 4.0)[0]
    torch.testing.assert_close(louder, torch.stack([level, bands]))
    tilted = normalise_log_mel(spectrogram + torch.arange(6.0).reshape(1, 6, 1) * 0.1)[0]
    torch.testing.assert_close(tilted[1], bands)
    assert (tilted[0] - level).abs().max() > 0.05
