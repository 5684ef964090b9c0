"""Metrics against loops."""

import numpy as np
import pytest

from stream.aggregation import calibrate
from train.metrics import fit_temperature, measure


def posteriors_of(n: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (n, 4))
    return np.asarray(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


def naive_ece(posteriors: np.ndarray, labels: np.ndarray, n_bins: int = 15) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for row, label in zip(posteriors, labels, strict=True):
        confidence = row.max()
        bins[min(int(confidence * n_bins), n_bins - 1)].append((confidence, row.argmax() == label))
    total = 0.0
    for held in bins:
        if held:
            accuracy = sum(right for _, right in held) / len(held)
            total += len(held) * abs(accuracy - sum(c for c, _ in held) / len(held))
    return total / len(labels)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("sharpness", [0.3, 2.0, 8.0])
def test_calibration_error_is_the_loops(seed: int, sharpness: float) -> None:
    posteriors = posteriors_of(700, seed, sharpness)
    labels = np.random.default_rng(seed + 100).integers(0, 4, 700)
    assert measure(posteriors, labels).ece == pytest.approx(naive_ece(posteriors, labels), abs=1e-5)


def test_calibration_error_of_known_cases() -> None:
    sure = np.tile([0.97, 0.03], (100, 1))
    assert measure(sure, np.zeros(100, np.int64)).ece == pytest.approx(0.03, abs=1e-6)
    assert measure(sure, np.ones(100, np.int64)).ece == pytest.approx(0.97, abs=1e-6)
    three_of_four = np.tile([0.75, 0.25], (4, 1))
    assert measure(three_of_four, np.array([0, 0, 0, 1])).ece == pytest.approx(0.0, abs=1e-6)


def test_confusion_has_true_labels_in_rows() -> None:
    posteriors = np.eye(3)[[1, 1, 2, 0]]
    metrics = measure(posteriors, np.array([0, 1, 2, 0]))
    np.testing.assert_array_equal(metrics.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert metrics.n == 4
    assert metrics.accuracy == 0.75
    assert metrics.uar == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_recall_is_of_the_labels_that_occur() -> None:
    posteriors = np.eye(4)[[0, 0, 0, 1, 3]]
    metrics = measure(posteriors, np.array([0, 0, 0, 1, 1]))  # nothing is labelled 2 or 3
    assert metrics.uar == pytest.approx((1 + 1 / 2) / 2)
    assert metrics.accuracy == pytest.approx(4 / 5)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    true = posteriors_of(6000, 3)
    generator = np.random.default_rng(0)
    labels = np.array([generator.choice(4, p=row) for row in true])
    distorted = calibrate(true, 1 / temperature)  # undone by calibrating with `temperature`
    assert fit_temperature(distorted, labels) == pytest.approx(temperature, rel=0.06)


def test_a_temperature_stays_within_its_range_and_takes_zeros() -> None:
    right = np.eye(3)[[0, 1, 2]] * 0.8 + 0.2 / 3
    assert fit_temperature(right, np.array([0, 1, 2])) == pytest.approx(0.2)
    assert fit_temperature(np.eye(3)[[0, 1, 2]], np.array([1, 2, 0])) == pytest.approx(5.0)
