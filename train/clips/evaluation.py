"""A fold's figures and those of a protocol: the mean and the deviation over its folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.metrics import fit_temperature, measure


def scores(posteriors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What a training watches: accuracy, UAR, ECE and `nll`, the mean negative log likelihood.

    Args:
        posteriors: (n, L), rows sum to 1.
        labels: (n,) int64.
    """
    found = measure(posteriors, labels)
    nll = -np.log(np.maximum(posteriors[np.arange(len(labels)), labels], 1e-12)).mean()
    return {"accuracy": found.accuracy, "uar": found.uar, "ece": found.ece, "nll": float(nll)}


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """A fold's test clips, once training was over.

    Attributes:
        fold: Its name.
        n: Test clips.
        accuracy: Share of clips whose most probable label is right.
        uar: Mean recall of the labels that occur.
        ece: Expected calibration error of the posteriors as the network gives them.
        temperature: That calibrates them, see `calibrated_on`.
        ece_calibrated: ECE with it.
        calibrated_on: `valid`, clips held out of the training part, or `test`, these clips themselves.
        confusion: Rows are true labels, columns predicted ones.
    """

    fold: str
    n: int
    accuracy: float
    uar: float
    ece: float
    temperature: float
    ece_calibrated: float
    calibrated_on: str
    confusion: tuple[tuple[int, ...], ...]


def fold_result(
    fold: str, test: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray] | None
) -> FoldResult:
    """Measure a fold.

    Args:
        fold: Its name.
        test: Posteriors (n, L) and labels (n,) of its test clips.
        valid: The same of the clips that were held out of training, where there are such: the temperature is theirs.
    """
    posteriors, labels = test
    found = measure(posteriors, labels)
    temperature = fit_temperature(*(valid or test))
    return FoldResult(
        fold=fold,
        n=found.n,
        accuracy=found.accuracy,
        uar=found.uar,
        ece=found.ece,
        temperature=temperature,
        ece_calibrated=measure(calibrate(posteriors, temperature), labels).ece,
        calibrated_on="test" if valid is None else "valid",
        confusion=tuple(tuple(int(count) for count in row) for row in found.confusion),
    )


def calibrate(posteriors: np.ndarray, temperature: float) -> np.ndarray:
    """Posteriors to the power of 1 / temperature, normalised; (n, L)."""
    logs = np.log(np.maximum(posteriors, 1e-12)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means over folds, and the deviation of a fold from them (of the sample: n - 1; 0 of one fold).

    Attributes:
        folds: Names of the folds.
        n: Test clips of all folds.
        mean: Of accuracy, uar, ece and ece_calibrated.
        deviation: Of the same.
        confusion: Sum of the folds'.
    """

    folds: tuple[str, ...]
    n: int
    mean: dict[str, float]
    deviation: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]


def summarise(results: Sequence[FoldResult]) -> Summary:
    """The figures of a protocol from those of its folds, one or more."""
    values = {
        name: np.array([getattr(result, name) for result in results])
        for name in ("accuracy", "uar", "ece", "ece_calibrated")
    }
    total = np.sum([result.confusion for result in results], axis=0)
    return Summary(
        folds=tuple(result.fold for result in results),
        n=sum(result.n for result in results),
        mean={name: float(value.mean()) for name, value in values.items()},
        deviation={name: float(value.std(ddof=1)) if len(value) > 1 else 0.0 for name, value in values.items()},
        confusion=tuple(tuple(int(count) for count in row) for row in total),
    )
