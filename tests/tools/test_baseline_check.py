"""The check of personal baselines, on made speakers whose bias is known."""

import numpy as np
import pytest

from tools.measure.baseline_check import Gain, Scored, gain

LABELS = ("neutral", "anger", "joy")
READ = {0: (0.8, 0.1, 0.1), 1: (0.05, 0.9, 0.05), 2: (0.05, 0.05, 0.9)}


def speaker(bias: tuple[float, float, float], n: int = 6) -> list[Scored]:
    """n utterances of each label, ten windows each, seen through a standing factor of each label's probability."""
    spoken = []
    for label, read in READ.items():
        raw = np.array(read) * bias
        spoken += [Scored(windows=np.tile(raw / raw.sum(), (10, 1)).astype(np.float32), label=label)] * n
    return spoken


def test_a_standing_bias_is_removed_and_clear_expressions_stay() -> None:
    # neutral 0.8 : 0.1 becomes 0.8 : 1.2, read as anger; anger itself is clear
    assert gain(speaker((1.0, 12.0, 1.0)), LABELS) == Gain(
        accuracy=(pytest.approx(12 / 15), 1.0), uar=(pytest.approx(2 / 3), 1.0), neutral=(0.0, 1.0), n=15
    )


def test_a_speaker_without_one_is_left_alone() -> None:
    assert gain(speaker((1.0, 1.0, 1.0)), LABELS) == Gain(accuracy=(1.0, 1.0), uar=(1.0, 1.0), neutral=(1.0, 1.0), n=15)


def test_a_bias_beyond_the_bound_is_not_removed() -> None:
    got = gain(speaker((1.0, 60.0, 1.0)), LABELS)
    assert got is not None
    assert got.neutral == (0.0, 0.0)


def test_without_neutral_utterances_nothing_is_said() -> None:
    assert gain(speaker((1.0, 1.0, 1.0), n=1), LABELS) is None
