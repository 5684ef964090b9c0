"""The live grid: every sample within 5 ms of its true time, gaps as long as they were, and no clicks."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.records import RATE_HZ, AudioBlock
from stream.sources.device import Sound
from stream.sources.drift import LiveAudioGrid

BEGAN_NS = 5_000_000_000
SINE_HZ = 440.0
Signal = Callable[[np.ndarray], np.ndarray]


def rising(t_s: np.ndarray) -> np.ndarray:
    """A sound that tells its time: a triangle of 8 s, which moves 0.2 in a second."""
    return np.asarray(0.8 * np.abs(4 * ((t_s / 8) % 1) - 2) - 0.8)


def sine(t_s: np.ndarray) -> np.ndarray:
    """A sound in which a click shows."""
    return np.asarray(0.5 * np.sin(2 * np.pi * SINE_HZ * t_s))


def sounds(
    seconds: float,
    *,
    ppm: float = 0.0,
    late_s: float = 0.0,
    rate_hz: int = 8_000,
    block: int = 160,
    signal: Signal = rising,
    start_s: float = 0.3,
    seed: int = 0,
) -> Iterator[Sound]:
    """What a device that starts `start_s` into the session hands on; its blocks are told late by up to `late_s`."""
    random = np.random.default_rng(seed)
    for first in range(0, int(seconds * rate_hz), block):
        t_s = start_s + np.arange(first, first + block) / (rate_hz * (1 + ppm * 1e-6))
        adc_ns = BEGAN_NS + round((t_s[0] + random.uniform(0, late_s)) * 1e9)
        arrived_ns = adc_ns + block * 10**9 // rate_hz
        samples = signal(t_s).astype(np.float32)
        yield Sound(
            first=first, samples=samples, rate_hz=rate_hz, adc_ns=adc_ns, arrived_ns=arrived_ns, overflowed=False
        )


def run(grid: LiveAudioGrid, given: Iterator[Sound] | list[Sound]) -> list[AudioBlock]:
    """All that comes out, the tail too."""
    return [*itertools.chain.from_iterable(grid.push(sound) for sound in given), *grid.flush()]


def joined(blocks: list[AudioBlock]) -> tuple[np.ndarray, np.ndarray]:
    """Grid places and samples; the places must ascend."""
    places = np.concatenate([block.first + np.arange(len(block.samples)) for block in blocks])
    assert np.all(np.diff(places) > 0)
    return places, np.concatenate([block.samples for block in blocks])


def errors_s(blocks: list[AudioBlock]) -> np.ndarray:
    """By how much each sample of `rising` lies at a wrong time, away from its turns and from edges."""
    places, samples = joined(blocks)
    t_s = places / RATE_HZ
    edges = np.flatnonzero(np.diff(places, prepend=-1, append=places[-1] + 2) > 1)
    far = np.abs((t_s + 2) % 4 - 2) > 0.05  # turns come every 4 s
    for edge in edges:
        far[max(edge - 100, 0) : edge + 100] = False
    return np.asarray((samples - rising(t_s))[far] / 0.4)


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_drift_jitter_and_a_missing_block(ppm: float) -> None:
    # Four minutes; an hour of the clock alone is in test_sample_clock.
    given = [sound for sound in sounds(240, ppm=ppm, late_s=0.02, block=400) if sound.first != 8000 * 120]
    grid = LiveAudioGrid(BEGAN_NS)
    blocks = run(grid, given)
    assert np.abs(errors_s(blocks)).max() < 0.005
    places, _ = joined(blocks)
    gaps = np.diff(places)[np.diff(places) > 1] - 1
    assert len(gaps) == 1
    assert gaps[0] == pytest.approx(0.05 * RATE_HZ, abs=2)
    assert grid.n_gap == gaps[0]
    assert grid.drift_ppm == pytest.approx(ppm, abs=5)
    assert len(places) == pytest.approx((240 / (1 + ppm * 1e-6) - 0.05) * RATE_HZ, abs=80)


@pytest.mark.parametrize("wrong", [-150, 150])
def test_a_loss_whose_length_was_guessed_wrong_is_put_right(wrong: int) -> None:
    # 40 ms are lost; the device's count says 19 ms more or less.
    given = []
    for sound in sounds(30, ppm=100, late_s=0.01):
        if 15.0 <= sound.first / 8000 < 15.04:
            continue
        after = sound.first >= 15 * 8000
        first, overflowed = sound.first + wrong * after, after and not any(s.overflowed for s in given)
        given.append(
            Sound(
                first=first,
                samples=sound.samples,
                rate_hz=8000,
                adc_ns=sound.adc_ns,
                arrived_ns=0,
                overflowed=overflowed,
            )
        )
    blocks = run(LiveAudioGrid(BEGAN_NS), given)
    assert np.abs(errors_s(blocks)).max() < 0.005
    places, _ = joined(blocks)
    assert np.diff(places).max() == pytest.approx(0.04 * RATE_HZ, abs=60)


def test_a_new_opening_is_put_where_it_lies() -> None:
    grid = LiveAudioGrid(BEGAN_NS)
    blocks = run(grid, itertools.chain(sounds(5, ppm=100), sounds(5, ppm=100, start_s=7.0)))
    blocks += run(grid, sounds(5, rate_hz=16_000, block=320, start_s=13.0))
    assert np.abs(errors_s(blocks)).max() < 0.001
    places, _ = joined(blocks)
    (jumps,) = np.nonzero(np.diff(places) > 1)
    np.testing.assert_allclose(places[jumps + 1] / RATE_HZ, [7.0, 13.0], atol=1e-3)
    assert grid.n_gap == 0  # nothing was lost while it was open


@pytest.mark.parametrize("late_s", [0.0, 0.02])
def test_no_clicks(late_s: float) -> None:
    blocks = run(LiveAudioGrid(BEGAN_NS), sounds(60, ppm=-200, late_s=late_s, rate_hz=16_000, block=320, signal=sine))
    _, samples = joined(blocks)
    inner = samples[200:-200].astype(np.float64)
    # A sine obeys x[n-1] + x[n+1] = 2 cos(w) x[n]; the largest departure is the worst break in it.
    breaks = inner[:-2] + inner[2:] - 2 * np.cos(2 * np.pi * SINE_HZ / RATE_HZ) * inner[1:-1]
    assert np.abs(breaks).max() < 0.5 * 10 ** (-55 / 20)
    assert all(len(block.samples) == 512 for block in blocks[:-1])


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 15_999), max_size=25), rate_hz=st.sampled_from([8_000, 16_000, 44_100]))
def test_any_cut_of_the_input_gives_the_same_sound(cuts: list[int], rate_hz: int) -> None:
    n = 16_000
    samples = np.random.default_rng(5).uniform(-0.9, 0.9, n).astype(np.float32)
    edges = sorted({0, n, *cuts})

    def cut(edges: list[int]) -> list[Sound]:
        return [
            Sound(
                first=a,
                samples=samples[a:b],
                rate_hz=rate_hz,
                adc_ns=BEGAN_NS + round(a * 1e9 / rate_hz),
                arrived_ns=0,
                overflowed=False,
            )
            for a, b in itertools.pairwise(edges)
        ]

    whole = run(LiveAudioGrid(BEGAN_NS), cut([0, n]))
    pieces = run(LiveAudioGrid(BEGAN_NS), cut(edges))
    np.testing.assert_array_equal(joined(pieces)[0], joined(whole)[0])
    np.testing.assert_allclose(joined(pieces)[1], joined(whole)[1], atol=1e-3)  # stamps are whole nanoseconds
    assert {len(block.samples) for block in pieces[:-1]} <= {512}


def test_what_lies_before_the_session_is_left_out() -> None:
    grid = LiveAudioGrid(BEGAN_NS)
    blocks = run(grid, sounds(2, start_s=-0.5))
    assert blocks[0].first == 0
    assert grid.n_left_out == 0.5 * RATE_HZ
    assert np.abs(errors_s(blocks)).max() < 0.001


def test_an_opening_too_short_to_settle_comes_out_all_the_same() -> None:
    grid = LiveAudioGrid(BEGAN_NS)
    assert [grid.push(sound) for sound in sounds(0.06)] == [[], [], []]
    assert [(block.first, len(block.samples)) for block in grid.flush()] == [(4800, 512), (5312, 448)]
    assert grid.flush() == []


def test_full_scale_is_not_exceeded() -> None:
    def square(t_s: np.ndarray) -> np.ndarray:
        return np.sign(np.sin(2 * np.pi * 300 * t_s))

    _, samples = joined(run(LiveAudioGrid(BEGAN_NS), sounds(2, rate_hz=48_000, block=480, signal=square)))
    assert np.abs(samples).max() == 1.0
    assert samples.dtype == np.float32
