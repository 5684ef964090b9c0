"""The temporal-offset scheme: against the paper's sentences as arithmetic, and against frozen draws."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.windows import NS_PER_S, Alignment, Draw, WindowScheme, divide, sample_index

CENTERED = WindowScheme()
CAUSAL = WindowScheme(alignment=Alignment.CAUSAL)
TIMES_25_HZ = [k * 40_000_000 for k in range(7)]  # 0 to 240 ms: those of the first segment
MANY = range(3000)


def draw(scheme: WindowScheme, segment: int, *, seed: int = 0, stream: str = "s", n_frames: int = 6) -> Draw:
    """A draw of a stream's segment that holds evenly spaced frames."""
    start, end = scheme.segment_bounds(segment)
    times = [start + (end - start) * k // n_frames for k in range(n_frames)] if n_frames else []
    return scheme.draw(seed, stream, segment, (start, end), times)


CHI_SQUARE_1_PERCENT = {3: 11.34, 5: 15.09, 9: 21.67}  # by degrees of freedom


def assert_uniform(counts: Iterable[int]) -> None:
    """Chi-square test of equally likely cells at the 1 % level."""
    seen = np.array(list(counts), dtype=np.float64)
    expected = seen.mean()
    assert ((seen - expected) ** 2 / expected).sum() < CHI_SQUARE_1_PERCENT[len(seen) - 1]


def test_defaults_are_the_papers_numbers_and_the_designs_segments() -> None:
    assert (CENTERED.audio_ns, CENTERED.jitter_ns, CENTERED.n_segments) == (1_280_000_000, 10_000_000, 10)
    assert CENTERED.segment_ns == 250_000_000
    assert CENTERED.alignment is Alignment.CENTERED
    assert CENTERED.n_samples(16_000) == 20_480


def test_each_frame_of_a_segment_is_chosen_equally_often() -> None:
    chosen = Counter(draw(CENTERED, segment, n_frames=6).frame_index for segment in MANY)
    assert sorted(chosen, key=str) == [0, 1, 2, 3, 4, 5]
    assert_uniform([chosen[k] for k in range(6)])


def test_offsets_are_uniform_within_b_and_reach_both_ends() -> None:
    offsets = np.array([draw(CENTERED, segment).offset_ns for segment in MANY])
    assert offsets.min() >= -10_000_000
    assert offsets.max() <= 10_000_000
    assert offsets.min() < -9_900_000
    assert offsets.max() > 9_900_000
    counts, _ = np.histogram(offsets, bins=10, range=(-10_000_000, 10_000_000))
    assert_uniform(counts)


def test_frame_and_offset_are_drawn_independently() -> None:
    pairs = [(d.frame_index, d.offset_ns >= 0) for d in (draw(CENTERED, s, n_frames=2) for s in MANY)]
    assert_uniform(list(Counter(pairs).values()))
    assert len(set(pairs)) == 4


def test_the_offset_reaches_exactly_b_and_zero_jitter_draws_none() -> None:
    narrow = WindowScheme(jitter_ns=1)
    assert {draw(narrow, segment).offset_ns for segment in range(60)} == {-1, 0, 1}
    assert {draw(WindowScheme(jitter_ns=0), segment).offset_ns for segment in range(60)} == {0}


def test_without_frames_a_virtual_one_is_uniform_within_the_segment() -> None:
    places = []
    for segment in MANY:
        d = draw(CENTERED, segment, n_frames=0)
        assert d.frame_index is None
        places.append(d.frame_ns - segment * 250_000_000)
    assert min(places) >= 0
    assert max(places) < 250_000_000
    assert_uniform(np.histogram(places, bins=10, range=(0, 250_000_000))[0])


@given(
    seed=st.integers(0, 2**63),
    stream=st.text(max_size=12),
    segment=st.integers(0, 10**7),
    gaps_ns=st.lists(st.integers(1, 90_000_000), min_size=1, max_size=12),
    alignment=st.sampled_from(Alignment),
    segment_ms=st.integers(1, 2000),
    audio_ms=st.integers(1, 4000),
    jitter_ns=st.integers(0, 50_000_000),
)
def test_the_audio_lies_where_the_paper_puts_it(
    seed: int,
    stream: str,
    segment: int,
    gaps_ns: list[int],
    alignment: Alignment,
    segment_ms: int,
    audio_ms: int,
    jitter_ns: int,
) -> None:
    scheme = WindowScheme(
        segment_ns=segment_ms * 1_000_000, audio_ns=audio_ms * 1_000_000, jitter_ns=jitter_ns, alignment=alignment
    )
    bounds = scheme.segment_bounds(segment)
    times = [bounds[0] + t for t in np.cumsum(gaps_ns).tolist()]
    d = scheme.draw(seed, stream, segment, bounds, times)

    assert d.frame_index is not None
    assert d.frame_ns == times[d.frame_index]
    # c in [t_j - b, t_j + b]; the audio is [c - d/2, c + d/2], or ends at c
    t_j, b, d_s = (Fraction(ns, NS_PER_S) for ns in (d.frame_ns, jitter_ns, scheme.audio_ns))
    c = t_j + Fraction(d.offset_ns, NS_PER_S)
    assert t_j - b <= c <= t_j + b
    start, end = (c - d_s / 2, c + d_s / 2) if alignment is Alignment.CENTERED else (c - d_s, c)
    assert Fraction(d.audio_start_ns, NS_PER_S) == start
    assert Fraction(d.audio_end_ns, NS_PER_S) == end
    assert d.audio_end_ns - d.frame_ns <= scheme.lookahead_ns
    # samples between floor(r_a (c - d/2)) and floor(r_a (c + d/2)): as many each time
    first, last = sample_index(d.audio_start_ns, 16_000), sample_index(d.audio_end_ns, 16_000)
    assert first == math.floor(16_000 * start)
    assert last - first == scheme.n_samples(16_000) == 16 * audio_ms


@given(segments=st.permutations(range(12)), seed=st.integers(0, 1000))
def test_draws_do_not_depend_on_what_was_drawn_before(segments: list[int], seed: int) -> None:
    in_order = {segment: draw(CENTERED, segment, seed=seed) for segment in range(12)}
    again = WindowScheme()
    assert {segment: draw(again, segment, seed=seed) for segment in segments} == in_order


def test_streams_seeds_and_segments_draw_apart() -> None:
    def offsets(seed: int, stream: str, first: int = 0) -> list[int]:
        return [draw(CENTERED, segment, seed=seed, stream=stream).offset_ns for segment in range(first, first + 20)]

    base = offsets(0, "a")
    others = [offsets(1, "a"), offsets(0, "b"), offsets(0, "a", 1), offsets(10, ""), offsets(1, "0/a")]
    for other in others:
        assert sum(x == y for x, y in zip(base, other, strict=True)) == 0
    assert base[1:] == offsets(0, "a", 1)[:-1]


def test_the_alignment_moves_the_audio_and_nothing_else() -> None:
    for segment in range(20):
        centered, causal = draw(CENTERED, segment), draw(CAUSAL, segment)
        assert (centered.frame_ns, centered.offset_ns) == (causal.frame_ns, causal.offset_ns)
        assert centered.audio_start_ns - causal.audio_start_ns == 640_000_000


# (seed, stream, segment) to (index of the frame, offset, start, end), frames at 25 Hz. A recording must give these
# windows for ever, also after an update of numpy.
FROZEN = {
    (0, "clip", 0): (5, 6_938_940, -433_061_060, 846_938_940),
    (0, "clip", 1): (1, -9_119_396, -359_119_396, 920_880_604),
    (7, "clip", 1): (4, -8_756_491, -238_756_491, 1_041_243_509),
    (0, "ravdess/03-01-01-01-01-01-01", 123): (3, 1_822_191, 30_231_822_191, 31_511_822_191),
    (2**63, "Straße", 10**6): (6, 8_525_558, 249_999_608_525_558, 250_000_888_525_558),
}


@pytest.mark.parametrize("key", FROZEN)
def test_frozen_draws(key: tuple[int, str, int]) -> None:
    seed, stream, segment = key
    bounds = CENTERED.segment_bounds(segment)
    d = CENTERED.draw(seed, stream, segment, bounds, [bounds[0] + t for t in TIMES_25_HZ])
    assert (d.frame_index, d.offset_ns, d.audio_start_ns, d.audio_end_ns) == FROZEN[key]
    assert d.segment == segment


@given(start=st.integers(-(10**12), 10**12), length=st.integers(1, 10**12), n=st.integers(1, 50))
def test_divide_cuts_into_touching_segments_of_equal_length(start: int, length: int, n: int) -> None:
    pieces = divide(start, start + length, n)
    assert len(pieces) == n
    assert pieces[0][0] == start
    assert pieces[-1][1] == start + length
    assert all(one[1] == two[0] for one, two in itertools.pairwise(pieces))
    lengths = {b - a for a, b in pieces}
    assert max(lengths) - min(lengths) <= 1


def test_divide_by_hand_and_its_errors() -> None:
    assert divide(0, 10, 3) == [(0, 3), (3, 6), (6, 10)]
    for start, end, n in ((0, 10, 0), (5, 5, 1), (6, 5, 2)):
        with pytest.raises(ValueError, match=rf"cannot cut \[{start}, {end}\) into {n} segments"):
            divide(start, end, n)


@given(t_ns=st.integers(-(10**13), 10**13), segment_ns=st.integers(1, 10**10))
def test_every_instant_lies_in_the_segment_that_is_named_for_it(t_ns: int, segment_ns: int) -> None:
    scheme = WindowScheme(segment_ns=segment_ns)
    start, end = scheme.segment_bounds(scheme.segment_of(t_ns))
    assert start <= t_ns < end


def test_sample_indices_are_floors_also_before_the_stream() -> None:
    assert [sample_index(t, 16_000) for t in (0, 62_499, 62_500, 1_000_000_000)] == [0, 0, 1, 16_000]
    assert [sample_index(t, 16_000) for t in (-1, -62_500, -62_501)] == [-1, -1, -2]


def test_lookahead_is_what_a_window_waits_for() -> None:
    assert CENTERED.lookahead_ns == 650_000_000
    assert CAUSAL.lookahead_ns == 10_000_000


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"segment_ns": 0}, "segment_ns must be positive, got 0"),
        ({"audio_ns": -5}, "audio_ns must be positive, got -5"),
        ({"n_segments": 0}, "n_segments must be positive, got 0"),
        ({"jitter_ns": -1}, "jitter_ns must not be negative, got -1"),
        ({"alignment": "early"}, "'early' is not a valid Alignment"),
    ],
)
def test_a_scheme_that_cannot_be_is_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        WindowScheme(**fields)  # type: ignore[arg-type]


def test_a_window_of_part_of_a_sample_is_refused_and_names_are_taken_for_alignments() -> None:
    with pytest.raises(ValueError, match="1280000001 ns at 16000 Hz is not a whole number of samples"):
        WindowScheme(audio_ns=1_280_000_001).n_samples(16_000)
    assert WindowScheme(alignment="causal") == CAUSAL  # type: ignore[arg-type]
