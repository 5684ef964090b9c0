"""What an evaluation prints: accuracy, unweighted average recall, calibration error, confusion."""

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

N_BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """Of n items with one label each.

    Attributes:
        n: Items.
        accuracy: Share whose most probable label is right.
        uar: Mean recall of the labels that occur, each with equal weight.
        ece: Expected calibration error of the most probable label, 15 bins of equal width (Guo et al., 2017).
        confusion: (n_labels, n_labels) int64; rows are the true labels, columns the predicted.
    """

    n: int
    accuracy: float
    uar: float
    ece: float
    confusion: np.ndarray


def measure(posteriors: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of calibrated posteriors.

    Args:
        posteriors: (n, n_labels), rows sum to 1.
        labels: (n,) int64.
    """
    predicted, true = torch.from_numpy(posteriors).float(), torch.from_numpy(labels)
    n_labels = posteriors.shape[1]
    confusion = multiclass_confusion_matrix(predicted.argmax(1), true, n_labels).numpy()
    counts = confusion.sum(1)
    recalls = confusion.diagonal()[counts > 0] / counts[counts > 0]
    return Metrics(
        n=len(labels),
        accuracy=float(confusion.trace() / len(labels)),
        uar=float(recalls.mean()),
        ece=float(multiclass_calibration_error(predicted, true, n_labels, n_bins=N_BINS, norm="l1")),
        confusion=confusion,
    )


def fit_temperature(posteriors: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.2, 5] with the least negative log likelihood, to about 1 %.

    Args:
        posteriors: (n, n_labels), not yet calibrated.
        labels: (n,) int64.
    """
    logs = np.log(np.maximum(posteriors, 1e-12))

    def loss(temperature: float) -> float:
        scaled = logs / temperature
        scaled -= scaled.max(1, keepdims=True)
        log_posterior = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return float(-log_posterior[np.arange(len(labels)), labels].sum())

    grid = np.geomspace(0.2, 5.0, 321)
    return float(grid[np.argmin([loss(t) for t in grid])])
