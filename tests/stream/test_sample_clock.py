"""The sample clock: on the true line within milliseconds, whatever callbacks do, and never a jump without a loss."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sources.sample_clock import SampleClock
from stream.sources.sample_map import SampleMap

RATE_HZ, BLOCK = 48_000, 960
START_NS = 7_000_000_123


def told(
    seconds: float, ppm: float, late_s: float, *, wrong: float = 0.0, seed: int = 0, block: int = BLOCK
) -> Iterator[tuple[int, float, int]]:
    """Index, true time since START_NS and time told of every block: late by up to `late_s`, some of them wrong."""
    random = np.random.default_rng(seed)
    for index in range(0, int(seconds * RATE_HZ), block):
        true_s = index / (RATE_HZ * (1 + ppm * 1e-6))
        lateness = random.uniform(0, late_s)
        if random.random() < wrong:
            lateness += random.choice([-0.1, 0.3])
        yield index, true_s, START_NS + round((true_s + lateness) * 1e9)


def error_s(clock: SampleClock, index: int, true_s: float) -> float:
    """How far the clock places a sample from where it truly lies."""
    return (clock.time_ns(index) - START_NS) / 1e9 - true_s


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_an_hour_of_drift_stays_within_5_ms(ppm: float) -> None:
    clock, errors = SampleClock(RATE_HZ), []
    for index, true_s, t_ns in told(3600, ppm, 0.02, wrong=0.01):
        clock.observe(index, t_ns)
        if clock.settled:
            errors.append(error_s(clock, index, true_s))
    assert len(errors) > 3599 * RATE_HZ / BLOCK
    assert np.abs(errors).max() < 0.005
    assert np.abs(errors[-BLOCK:]).max() < 0.002
    assert clock.drift_ppm == pytest.approx(ppm, abs=5)
    assert clock.residual_ms is not None
    assert clock.residual_ms < 1
    assert clock.n_steps == 0


@settings(max_examples=40, deadline=None)
@given(
    ppm=st.floats(-250, 250),
    late_s=st.floats(0, 0.02),
    seed=st.integers(0, 2**32 - 1),
    block=st.sampled_from([96, 480, 960, 1024]),
)
def test_it_converges_in_seconds_and_its_time_only_rises(ppm: float, late_s: float, seed: int, block: int) -> None:
    clock, last_ns = SampleClock(RATE_HZ), 0
    for index, true_s, t_ns in told(14, ppm, late_s, seed=seed, block=block):
        clock.observe(index, t_ns)
        if clock.settled:
            times = [clock.time_ns(index + k) for k in (0, 1, block - 1)]
            assert last_ns < times[0] < times[1] < times[2]
            last_ns = times[2]
        if true_s > 0.6:
            assert clock.settled
        if true_s > 4:
            assert abs(error_s(clock, index, true_s)) < 0.004
    assert clock.drift_ppm == pytest.approx(ppm, abs=200)


def test_what_was_said_of_a_sample_stays_said() -> None:
    clock, said = SampleClock(RATE_HZ), {}
    for index, _, t_ns in told(30, 150, 0.02):
        before = clock.map
        clock.observe(index, t_ns)
        if clock.settled and before is not None:
            assert clock.time_ns(index - 1) == said.get(index - 1, clock.time_ns(index - 1))
        if clock.settled:
            said[index + BLOCK - 1] = clock.time_ns(index + BLOCK - 1)


@pytest.mark.parametrize("error", [-700, 0, 700])
def test_after_lost_samples_the_level_is_learned_anew(error: int) -> None:
    # A tenth of a second is lost; the index says so but for an error of 15 ms, as an estimate may have.
    clock, shift = SampleClock(RATE_HZ), 0
    for index, true_s, t_ns in told(60, 200, 0.02):
        if 30.0 <= index / RATE_HZ < 30.1:
            continue
        if index == round(30.1 * RATE_HZ):
            end_ns = clock.time_ns(30 * RATE_HZ)
            clock.lost_before(30 * RATE_HZ)
            assert not clock.settled
            shift = error
        clock.observe(index + shift, t_ns)
        if clock.settled and true_s > 30.1:
            assert clock.time_ns(index + shift) > end_ns
            assert abs(error_s(clock, index + shift, true_s)) < 0.005
    assert clock.n_steps == 0
    assert clock.drift_ppm == pytest.approx(200, abs=15)  # what was learned before was kept


def test_samples_lost_without_a_word_are_noticed() -> None:
    clock, errors = SampleClock(RATE_HZ), []
    for index, true_s, t_ns in told(40, -100, 0.02):
        if 20.0 <= index / RATE_HZ < 20.06:
            continue
        at = index if index < 20 * RATE_HZ else index - round(0.06 * RATE_HZ)
        clock.observe(at, t_ns)
        if true_s > 25:
            errors.append(error_s(clock, at, true_s))
    assert clock.n_steps == 1
    assert np.abs(errors).max() < 0.005


def test_a_line_that_began_too_late_is_met_without_a_jump() -> None:
    # The machine was so busy at first that every callback came 30 ms late, or more.
    clock, times = SampleClock(RATE_HZ), []
    for index, true_s, t_ns in told(30, 0, 0.005):
        clock.observe(index, t_ns + (30_000_000 if true_s < 1 else 0))
        if clock.settled:
            times.append(clock.time_ns(index))
    steps_ns = np.diff(times)
    assert steps_ns.min() > 0.979 * BLOCK / RATE_HZ * 1e9
    assert steps_ns.max() < 1.021 * BLOCK / RATE_HZ * 1e9
    assert abs(error_s(clock, index, true_s)) < 0.001


def test_a_regular_device_is_believed_after_ten_callbacks() -> None:
    clock = SampleClock(RATE_HZ)
    for n, (index, _, t_ns) in enumerate(told(1, 0, 0.0005), start=1):
        clock.observe(index, t_ns)
        assert clock.settled == (n >= 10)


def test_nothing_told_gives_no_time() -> None:
    clock = SampleClock(RATE_HZ)
    assert (clock.drift_ppm, clock.residual_ms, clock.settled) == (None, None, False)
    clock.settle()
    with pytest.raises(ValueError, match=r"expected times told before one is asked for; call observe, then settle"):
        clock.time_ns(0)
    clock.observe(0, START_NS)
    clock.settle()
    assert clock.time_ns(RATE_HZ) == START_NS + 10**9


@settings(max_examples=60, deadline=None)
@given(
    slopes=st.lists(st.floats(0.98, 1.02), min_size=1, max_size=30),
    days=st.integers(0, 30),
    index=st.integers(0, 40_000),
)
def test_a_map_and_back_is_where_one_was(slopes: list[float], days: int, index: int) -> None:
    origin = (days * 24 * 3600 * RATE_HZ, days * 24 * 3600 * 10**9 + 5)
    line = SampleMap(RATE_HZ, origin=origin, x=0.0, y=0.0, slope=slopes[0])
    for k, slope in enumerate(slopes[1:], start=1):
        line.turn(k * 0.02, slope)
    t_ns = np.array([line.time_ns(origin[0] + index)])
    assert line.indices(t_ns, less=origin[0])[0] == pytest.approx(index, abs=1e-4)  # two nanoseconds
    knots = [line.y(x) for x in np.arange(0, 1, 0.005)]
    assert all(0.97 * 0.005 < b - a < 1.03 * 0.005 for a, b in itertools.pairwise(knots))
    line.forget(origin[0] + index)
    assert line.time_ns(origin[0] + index) == t_ns[0]
