"""The 16 kHz grid: cutting the input elsewhere changes nothing, and no place is handed out twice."""

import itertools

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.records import RATE_HZ, AudioBlock
from stream.sources.resample import AudioGrid

RATES = st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000])


def joined(blocks: list[AudioBlock]) -> np.ndarray:
    """The samples of blocks that follow on one another."""
    return np.concatenate([block.samples for block in blocks]) if blocks else np.zeros(0, np.float32)


@settings(max_examples=60, deadline=None)
@given(rate_hz=RATES, cuts=st.lists(st.integers(0, 6000), max_size=20), start_ns=st.integers(0, 10**9))
def test_any_split_gives_the_blocks_of_the_whole(rate_hz: int, cuts: list[int], start_ns: int) -> None:
    sound = np.random.default_rng(1).uniform(-0.9, 0.9, 6000).astype(np.float32)
    edges = sorted({0, *cuts, 6000})
    grid, blocks = AudioGrid(), []
    for first, last in itertools.pairwise(edges):
        blocks += grid.push(sound[first:last], rate_hz, start_ns + first * 10**9 // rate_hz)
    blocks += grid.flush()
    expected = sound if rate_hz == RATE_HZ else np.clip(soxr.resample(sound, rate_hz, RATE_HZ), -1, 1)
    assert blocks[0].first == round(start_ns * RATE_HZ / 1e9)
    assert [b.first for b in blocks] == [blocks[0].first + 512 * k for k in range(len(blocks))]
    assert {len(b.samples) for b in blocks[:-1]} <= {512}
    np.testing.assert_array_equal(joined(blocks), expected)


@settings(max_examples=100, deadline=None)
@given(
    pushes=st.lists(
        st.tuples(RATES, st.integers(0, 3000), st.one_of(st.none(), st.integers(-(10**8), 10**9))), max_size=12
    )
)
def test_whatever_the_timestamps_no_place_is_handed_out_twice(pushes: list[tuple[int, int, int | None]]) -> None:
    grid, blocks = AudioGrid(), []
    n_given_s = 0.0
    for rate_hz, n, t_ns in pushes:
        blocks += grid.push(np.full(n, 0.5, np.float32), rate_hz, t_ns)
        n_given_s += n / rate_hz
    blocks += grid.flush()
    end = 0
    for block in blocks:
        assert block.first >= end
        assert 0 < len(block.samples) <= 512
        end = block.first + len(block.samples)
    assert len(joined(blocks)) <= n_given_s * RATE_HZ + len(pushes)  # nothing is made up but the rounding of a run


def test_a_change_of_rate_goes_on_without_a_gap() -> None:
    grid = AudioGrid()
    blocks = grid.push(np.full(4800, 0.5, np.float32), 48_000, 0)
    blocks += grid.push(np.full(1600, 0.5, np.float32), 16_000, 101_000_000)
    blocks += grid.push(np.full(800, 0.5, np.float32), 8_000, None)
    blocks += grid.flush()
    assert len(joined(blocks)) == 4800
    assert [b.first for b in blocks] == list(np.cumsum([0, *(len(b.samples) for b in blocks[:-1])]))
    assert grid.n_left_out == 0


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_after_a_gap_the_resampler_starts_afresh(rate_hz: int) -> None:
    sound = np.random.default_rng(2).uniform(-0.5, 0.5, rate_hz).astype(np.float32)
    alone = AudioGrid()
    expected = joined(alone.push(sound, rate_hz, 0) + alone.flush())
    grid = AudioGrid()
    before = grid.push(np.ones(rate_hz // 10, np.float32), rate_hz, 0)
    after = grid.push(sound, rate_hz, 500_000_000) + grid.flush()
    assert len(joined([block for block in [*before, *after] if block.first < 8000])) == 1600  # the tail is flushed
    got = [block for block in after if block.first >= 8000]
    assert got[0].first == 8000
    np.testing.assert_array_equal(joined(got), expected)
