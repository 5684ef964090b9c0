"""States of an audio window."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.voice import VoiceState, peak_level_dbfs, voice_state

N = 20_480
RATE_HZ = 16_000


def sine(amplitude: float, n: int = N) -> np.ndarray:
    return np.asarray(amplitude * np.sin(2 * np.pi * 440 * np.arange(n) / RATE_HZ), dtype=np.float32)


def state(samples: np.ndarray, n_real: int = N) -> VoiceState:
    return voice_state(samples, n_real, RATE_HZ, silence_dbfs=-55.0, min_coverage=0.5)


def naive_level(samples: np.ndarray, rate_hz: int) -> float:
    block = round(0.05 * rate_hz)
    loudest = 0.0
    for at in range(0, len(samples) - block + 1, block):
        loudest = max(loudest, sum(float(x) ** 2 for x in samples[at : at + block]) / block)
    return 10 * math.log10(loudest) if loudest else -math.inf


def test_levels_of_known_signals() -> None:
    assert peak_level_dbfs(sine(1.0), RATE_HZ) == pytest.approx(-3.0103, abs=1e-3)  # 440 Hz fills 50 ms with periods
    assert peak_level_dbfs(sine(0.1), RATE_HZ) == pytest.approx(-23.0103, abs=1e-3)
    assert peak_level_dbfs(np.ones(800, np.float32), RATE_HZ) == 0.0
    assert peak_level_dbfs(np.zeros(N, np.float32), RATE_HZ) == -math.inf
    assert peak_level_dbfs(np.ones(799, np.float32), RATE_HZ) == -math.inf  # less than a block says nothing


@given(seed=st.integers(0, 2**32), n=st.integers(0, 2500), rate_hz=st.sampled_from([8000, 16_000, 11_025]))
def test_level_is_of_the_loudest_block(seed: int, n: int, rate_hz: int) -> None:
    generator = np.random.default_rng(seed)
    samples = (generator.standard_normal(n) * np.linspace(0, 0.3, n)).astype(np.float32)
    assert peak_level_dbfs(samples, rate_hz) == pytest.approx(naive_level(samples, rate_hz), abs=1e-6)


def test_one_loud_block_in_silence_is_a_voice() -> None:
    samples = np.zeros(N, np.float32)
    assert state(samples) is VoiceState.SILENCE
    samples[8000:8800] = sine(0.01, 800)
    assert state(samples) is VoiceState.PRESENT


def test_the_threshold_is_of_the_loudest_block() -> None:
    quiet, loud = 10 ** (-55.1 / 20), 10 ** (-54.9 / 20)
    assert state(np.full(N, quiet, np.float32)) is VoiceState.SILENCE
    assert state(np.full(N, loud, np.float32)) is VoiceState.PRESENT


def test_a_window_is_a_gap_below_its_coverage_whatever_it_holds() -> None:
    assert state(sine(0.5), N // 2) is VoiceState.PRESENT
    assert state(sine(0.5), N // 2 - 1) is VoiceState.GAP
    assert state(np.zeros(N, np.float32), 0) is VoiceState.GAP
    assert state(np.zeros(N, np.float32), N // 2) is VoiceState.SILENCE


def test_states_are_the_words_of_the_feed() -> None:
    assert [s.value for s in VoiceState] == ["present", "silence", "gap", "no_track", "shared"]
