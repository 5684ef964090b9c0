"""Rolling sums against a loop that says what they are, and each reason to abstain."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.bundle import PerModality
from stream.aggregation import Aggregate, Aggregator, calibrate
from stream.records import Score
from tests.windows import score

FUSION = PerModality(face=1.0, voice=0.5, both=2.0)
HEAT = PerModality(face=0.5, voice=2.0, both=1.5)
ONE = PerModality(face=1.0, voice=1.0, both=1.0)
KINDS = ("face", "voice", "both")


def aggregator(
    n_segments: int = 4,
    fusion: PerModality = FUSION,
    temperature: PerModality = HEAT,
    min_confidence: float = 0.0,
    has_video: bool = True,
) -> Aggregator:
    return Aggregator(
        n_labels=3,
        n_segments=n_segments,
        fusion=fusion,
        temperature=temperature,
        min_confidence=min_confidence,
        has_video=has_video,
    )


def last(sums: Aggregator, *scores: Score) -> Aggregate:
    """What is known after these, each of a segment of its own."""
    return [aggregate for one in scores for aggregate in sums.add([one])][-1]


def naive(scores: Sequence[Score], newest: int, n_segments: int) -> tuple[list[float], float, float] | None:
    """Posterior and share of the face and the voice, from all scores that a person ever had."""
    total, weight, heat, share_face, share_voice = [0.0] * 3, 0.0, 0.0, 0.0, 0.0
    for one in scores:
        segment = one.window.draw.segment
        if newest - n_segments < segment <= newest and one.posterior is not None:
            has_face, has_voice = one.window.face is not None, one.window.waveform is not None
            kind = "both" if has_face and has_voice else "face" if has_face else "voice"
            w = {"face": 1.0, "voice": 0.5, "both": 2.0}[kind]
            for label in range(3):
                total[label] += w * float(one.posterior[label])
            weight += w
            heat += w * {"face": 0.5, "voice": 2.0, "both": 1.5}[kind]
            share_face += w * {"face": 1.0, "voice": 0.0, "both": 0.5}[kind]
            share_voice += w * {"face": 0.0, "voice": 1.0, "both": 0.5}[kind]
    if weight == 0:
        return None
    powers = [max(p / weight, 1e-12) ** (weight / heat) for p in total]
    return [p / sum(powers) for p in powers], share_face / weight, share_voice / weight


@st.composite
def lives(draw: st.DrawFn) -> list[Score]:
    """A person's scores: some segments without a window, some windows without anything to score."""
    segments = draw(st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True).map(sorted))
    scores = []
    for segment in segments:
        kind = draw(st.sampled_from(["none", *KINDS]))
        raw = np.array(draw(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))) + 1e-3
        scores.append(score(segment, kind, (raw / raw.sum()).tolist()))
    return scores


@given(lives(), st.integers(1, 12))
def test_the_rolling_sum_is_the_sum_of_a_loop(scores: list[Score], n_segments: int) -> None:
    sums = aggregator(n_segments)
    for k, one in enumerate(scores):
        got = last(sums, one)
        newest = one.window.draw.segment
        recent = [s for s in scores[: k + 1] if s.window.draw.segment > newest - n_segments]
        assert list(got.scores) == recent
        expected = naive(scores[: k + 1], newest, n_segments)
        if expected is None:
            assert got.reason == "no_face"
            assert got.posterior.tolist() == [1 / 3] * 3
            continue
        posterior, share_face, share_voice = expected
        np.testing.assert_allclose(got.posterior, posterior, rtol=1e-5, atol=1e-9)
        assert got.posterior.sum() == pytest.approx(1)
        assert got.confidence == got.posterior.max()
        assert got.modalities == {"face": pytest.approx(share_face), "voice": pytest.approx(share_voice)}


def test_persons_are_summed_apart_and_come_in_the_order_given() -> None:
    sums = aggregator(temperature=ONE)
    sums.add([score(0, "face", [0.8, 0.1, 0.1], person=1), score(0, "face", [0.1, 0.1, 0.8], person=2)])
    got = sums.add([score(1, "face", [0.6, 0.2, 0.2], person=1), score(1, "face", [0.2, 0.2, 0.6], person=2)])
    assert [aggregate.person for aggregate in got] == [1, 2]
    np.testing.assert_allclose(got[0].posterior, [0.7, 0.15, 0.15], rtol=1e-6)
    np.testing.assert_allclose(got[1].posterior, [0.15, 0.15, 0.7], rtol=1e-6)


def test_modalities_weigh_as_the_bundle_says() -> None:
    got = last(aggregator(temperature=ONE), score(0, "voice", [0.0, 0.0, 1.0]), score(1, "both", [1.0, 0.0, 0.0]))
    np.testing.assert_allclose(got.posterior, [0.8, 0.0, 0.2], atol=1e-6)
    assert got.modalities == {"face": 0.4, "voice": pytest.approx(0.6)}


def test_a_segment_in_which_nobody_was_seen_counts_as_one() -> None:
    sums = aggregator(n_segments=3, temperature=ONE)
    got = last(sums, score(0, "face", [1.0, 0.0, 0.0]), score(2, "face", [0.0, 1.0, 0.0]))
    np.testing.assert_allclose(got.posterior, [0.5, 0.5, 0.0], atol=1e-6)
    got = last(sums, score(3, "face", [0.0, 1.0, 0.0]))
    np.testing.assert_allclose(got.posterior, [0.0, 1.0, 0.0], atol=1e-6)
    assert [one.window.draw.segment for one in got.scores] == [2, 3]


def test_who_was_forgotten_begins_anew() -> None:
    sums = aggregator(temperature=ONE)
    last(sums, score(0, "face", [1.0, 0.0, 0.0]))
    sums.forget(1)
    sums.forget(9)
    assert last(sums, score(1, "face", [0.0, 1.0, 0.0])).posterior.argmax() == 1
    assert len(last(sums, score(2, "face", [0.0, 1.0, 0.0])).scores) == 2


# when it abstains


@pytest.mark.parametrize(("has_video", "reason"), [(True, "no_face"), (False, "silence")])
def test_nothing_ever_scored_is_named_after_what_is_missing(has_video: bool, reason: str) -> None:
    got = last(aggregator(has_video=has_video), score(0, "none"), score(1, "none"))
    assert (got.label, got.reason) == (None, reason)
    assert got.confidence == pytest.approx(1 / 3)
    assert got.modalities == {"face": 0.0, "voice": 0.0}


def test_what_was_scored_more_than_a_second_ago_is_stale() -> None:
    sums = aggregator(n_segments=10)
    sums.add([score(0, "face", [0.9, 0.05, 0.05])])
    reasons = [last(sums, score(segment, "none")).reason for segment in range(1, 11)]
    # segments of 0.25 s: 1 s later is the fourth; the tenth no longer sums the first
    assert reasons == [None] * 4 + ["stale"] * 5 + ["no_face"]


def test_below_the_least_confidence_it_is_uncertain() -> None:
    for posterior, label in (([0.39, 0.31, 0.3], None), ([0.3, 0.41, 0.29], 1)):
        got = last(aggregator(temperature=ONE, min_confidence=0.4), score(0, "face", posterior))
        assert (got.label, got.reason) == (label, None if label is not None else "uncertain")
        assert got.confidence == pytest.approx(max(posterior))


# calibration


@given(
    st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=7),
    st.floats(0.2, 5.0),
)
def test_calibration_is_a_power_that_keeps_the_order(raw: list[float], temperature: float) -> None:
    posterior = np.array(raw) / sum(raw)
    got = calibrate(posterior, temperature)
    powers = posterior ** (1 / temperature)
    np.testing.assert_allclose(got, powers / powers.sum(), rtol=1e-9)
    assert got[posterior.argmax()] == got.max()


def test_calibration_takes_certainty_and_a_batch() -> None:
    np.testing.assert_allclose(calibrate(np.array([[1.0, 0.0], [0.5, 0.5]]), 0.1), [[1.0, 0.0], [0.5, 0.5]], atol=1e-9)


def test_one_sharpens_below_1_and_flattens_above() -> None:
    posterior = np.array([0.7, 0.2, 0.1])
    assert calibrate(posterior, 0.5).max() > 0.7 > calibrate(posterior, 2.0).max()
    np.testing.assert_allclose(calibrate(posterior, 1.0), posterior)
