"""Sound read between its samples: sines come out as sines, what 16 kHz cannot hold does not come out."""

import numpy as np
import pytest

from stream.records import RATE_HZ
from stream.sources.interpolate import Interpolator

RATES = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000]


def read_sine(rate_hz: int, f_hz: float, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """A sine of amplitude 0.5 read at the grid's rate, and what should come."""
    reader = Interpolator(rate_hz)
    samples = (0.5 * np.sin(2 * np.pi * f_hz * np.arange(rate_hz) / rate_hz)).astype(np.float32)
    places = reader.half + 0.3 + np.arange(RATE_HZ // 2) * (rate_hz / RATE_HZ) * ratio
    return reader.read(samples, places), 0.5 * np.sin(2 * np.pi * f_hz * places / rate_hz)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("part", [0.01, 0.1, 0.44])
def test_a_sine_comes_out_75_db_clean(rate_hz: int, part: float) -> None:
    got, expected = read_sine(rate_hz, part * min(rate_hz, RATE_HZ), 1.0002)
    noise = np.sqrt(np.mean((got - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    assert 20 * np.log10(noise) < -75


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000, 96_000])
def test_what_would_fold_back_is_pressed_down(rate_hz: int) -> None:
    for f_hz in (8_100.0, 9_000.0, 0.45 * rate_hz):
        got, _ = read_sine(rate_hz, f_hz, 0.9998)
        assert 20 * np.log10(np.abs(got).max() / 0.5) < -75


def test_a_place_is_read_the_same_among_others() -> None:
    reader = Interpolator(48_000)
    samples = np.random.default_rng(3).uniform(-1, 1, 9000).astype(np.float32)
    places = reader.half + np.random.default_rng(4).uniform(0, 8000, 2500)
    whole = reader.read(samples, places)
    np.testing.assert_allclose(
        [reader.read(samples, places[k : k + 1])[0] for k in range(0, 2500, 50)], whole[::50], atol=2e-7
    )
    shifted = reader.read(samples[100:], places[places > 400] - 100)
    np.testing.assert_allclose(shifted, whole[places > 400], atol=2e-6)
    assert reader.read(samples, np.zeros(0)).shape == (0,)


def test_silence_and_a_constant_stay_what_they_are() -> None:
    reader = Interpolator(44_100)
    places = reader.half + np.arange(1000) * 2.75
    np.testing.assert_array_equal(reader.read(np.zeros(4000, np.float32), places), 0)
    np.testing.assert_allclose(reader.read(np.full(4000, 0.25, np.float32), places), 0.25, atol=1e-6)
