"""Several recognisers on one stream, fused at decision level: the weighted mean of their calibrated posteriors."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engines.bundle import Bundle
from stream.aggregation import Aggregate

HASH_DIGITS = 16
UNSCORED = ("no_face", "silence", "stale")


class Ensemble:
    """What is common to the recognisers of a session; the first sets the hops and the order of the labels.

    Args:
        bundles: One or more.
        weights: One for each, only their ratio counts; none are equal ones.

    Attributes:
        labels: Of the published posterior.
        name: Of the recogniser, or of all with their weights.
        digits: First 16 hexadecimal digits of the bundle's SHA-256; of several, of the SHA-256 of theirs and the
            weights.

    Raises:
        ValueError: If there is no bundle, the labels of two differ, or the weights are not one for each.
    """

    def __init__(self, bundles: Sequence[Bundle], weights: Sequence[float] = ()) -> None:
        if not bundles:
            raise ValueError("expected a recogniser, got none")
        if weights and len(weights) != len(bundles):
            raise ValueError(
                f"weights: expected one for each of {len(bundles)} models, got {':'.join(f'{w:g}' for w in weights)}"
            )
        names = [bundle.manifest.name for bundle in bundles]
        self.labels = bundles[0].manifest.labels
        for bundle in bundles[1:]:
            if set(bundle.manifest.labels) != set(self.labels):
                raise ValueError(
                    f"model: expected recognisers of the same labels, {names[0]} has {', '.join(self.labels)}, "
                    f"{bundle.manifest.name} {', '.join(bundle.manifest.labels)}"
                )
        self.weights = tuple(weights) or (1.0,) * len(bundles)
        self._order = [[bundle.manifest.labels.index(label) for label in self.labels] for bundle in bundles]
        self._min_confidence = bundles[0].manifest.min_confidence
        self.name, self.digits = names[0], bundles[0].sha256[:HASH_DIGITS]
        if len(bundles) > 1:
            shares = ":".join(f"{weight:g}" for weight in self.weights)
            self.name = f"{'+'.join(names)} {shares}"
            joined = "".join(bundle.sha256 for bundle in bundles) + shares
            self.digits = hashlib.sha256(joined.encode()).hexdigest()[:HASH_DIGITS]

    def fuse(self, aggregates: Sequence[Aggregate | None]) -> Aggregate:
        """What all know of one person, each recogniser's in its place; the first is there.

        A recogniser that knows nothing of the person now takes no part, and the others' weights count for more.
        """
        first = aggregates[0]
        assert first is not None
        if len(aggregates) == 1:
            return first
        told = [
            (weight, aggregate, aggregate.posterior[order])
            for weight, aggregate, order in zip(self.weights, aggregates, self._order, strict=True)
            if aggregate is not None and aggregate.reason not in UNSCORED and weight > 0
        ]
        if not told:
            return first
        total = sum(weight for weight, _, _ in told)
        posterior = np.sum([weight * values for weight, _, values in told], axis=0) / total
        confidence = float(posterior.max())
        reason = "uncertain" if confidence < self._min_confidence else None
        return replace(
            first,
            posterior=posterior,
            label=None if reason else int(posterior.argmax()),
            confidence=confidence,
            reason=reason,
            modalities={
                name: sum(weight * aggregate.modalities[name] for weight, aggregate, _ in told) / total
                for name in first.modalities
            },
        )
