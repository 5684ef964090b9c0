"""The two spectrograms against librosa, deltas against a loop, on chirps and on speech."""

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from train.frontends.grey_and_mel import delta
from train.frontends.log_mel_deltas import LogMelDeltas, SpectrogramPicture, SpeechSpectrogram, standardise_channels

RATE_HZ = 16_000
N = 24_000


def chirp() -> np.ndarray:
    t = np.arange(N) / RATE_HZ
    return np.asarray(0.5 * np.sin(2 * np.pi * (80 * t + 1300 * t**2)), dtype=np.float32)


def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, N).astype(np.float32)


def on(module: torch.nn.Module, waveform: np.ndarray) -> np.ndarray:
    return np.asarray(module(torch.from_numpy(waveform)[None])[0])


def assert_speech_spectrogram_is_librosas(waveform: np.ndarray) -> None:
    # librosa lays the 640-sample window in the middle of its 800 samples, so its windows begin 80 samples later.
    padded = np.pad(waveform.astype(np.float64), 80)
    spectrum = librosa.stft(padded, n_fft=800, win_length=640, hop_length=160, window="hamming", center=False)
    expected = np.log(np.abs(spectrum[:200]) ** 2 + 1e-7)
    got = on(SpeechSpectrogram(), waveform)
    assert got.shape == expected.shape == (200, 1 + (N - 640) // 160)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def assert_log_mel_deltas_are_librosas(waveform: np.ndarray) -> None:
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform.astype(np.float64), 56), sr=RATE_HZ, n_fft=512, win_length=400, hop_length=160,
        center=False, n_mels=40, fmin=0, fmax=8000,
    )  # fmt: skip
    static = np.log(power + 1e-7)
    # Savitzky-Golay of the first order over five windows is the regression over two on each side.
    slope = librosa.feature.delta(static, width=5, order=1, mode="nearest")
    bend = librosa.feature.delta(slope, width=5, order=1, mode="nearest")
    got = on(LogMelDeltas(), waveform)
    assert got.shape == (3, 40, 1 + (N - 400) // 160)
    np.testing.assert_allclose(got, np.stack([static, slope, bend]), atol=2e-3)


def assert_both_are_librosas(waveform: np.ndarray) -> None:
    assert_speech_spectrogram_is_librosas(waveform)
    assert_log_mel_deltas_are_librosas(waveform)


def test_spectrograms_of_a_chirp_and_of_noise_are_librosas() -> None:
    assert_both_are_librosas(chirp())
    assert_both_are_librosas(noise())


def test_spectrograms_of_speech_are_librosas(corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("ravdess").glob("Actor_*/*.opus"))[7::400]
    assert len(files) == 3
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == RATE_HZ
        assert_both_are_librosas(samples[len(samples) // 2 - N // 2 :][:N])


def test_a_tone_lies_in_the_bin_of_its_20_hz() -> None:
    t = np.arange(N) / RATE_HZ
    for bin_number in (5, 60, 199):
        tone = np.sin(2 * np.pi * 20 * bin_number * t).astype(np.float32)
        assert set(on(SpeechSpectrogram(), tone).argmax(0)) == {bin_number}


@pytest.mark.parametrize("reach", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_deltas_are_a_regression_over_the_neighbours(reach: int, n: int) -> None:
    c = np.random.default_rng(0).normal(size=(2, 3, n))
    got = delta(torch.from_numpy(c), reach).numpy()
    for item in range(2):
        for band in range(3):
            for t in range(n):
                window = [c[item, band, min(max(t + k, 0), n - 1)] for k in range(-reach, reach + 1)]
                assert got[item, band, t] == pytest.approx(np.polyfit(range(-reach, reach + 1), window, 1)[0])


def test_channels_are_standardised_each_for_itself() -> None:
    x = np.random.default_rng(0).normal(3, [[[[2.0]], [[0.5]]]], (2, 2, 5, 7))
    x[1, 1] = 4.0  # a silent window: its channel stays at zero
    got = standardise_channels(torch.from_numpy(x)).numpy()
    for item in range(2):
        for channel in range(2):
            values = x[item, channel]
            np.testing.assert_allclose(got[item, channel], (values - values.mean()) / (values.std() + 1e-3), atol=1e-9)
    assert np.all(got[1, 1] == 0)


def test_a_picture_of_the_speech_spectrogram_has_it_on_all_channels() -> None:
    picture = on(SpectrogramPicture("speech"), chirp())
    spectrogram = on(SpeechSpectrogram(), chirp())
    assert picture.shape == (3, 200, 147)
    expected = (spectrogram - spectrogram.mean()) / (spectrogram.std() + 1e-3)
    for channel in picture:
        np.testing.assert_allclose(channel, expected, atol=1e-4)


def test_a_picture_of_the_log_mel_has_each_band_on_five_rows() -> None:
    picture = on(SpectrogramPicture("log-mel"), chirp())
    channels = on(LogMelDeltas(), chirp())
    assert picture.shape == (3, 200, 148)
    for channel in range(3):
        expected = (channels[channel] - channels[channel].mean()) / (channels[channel].std() + 1e-3)
        for row in range(200):
            np.testing.assert_allclose(picture[channel, row], expected[row // 5], atol=1e-4)


def test_an_unknown_spectrogram_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a spectrogram of speech, log-mel, got 'cqt'"):
        SpectrogramPicture("cqt")
