"""Aggregation: the posteriors of a person's last N segments, summed, calibrated, and withheld where they say little.

Source: the sum over segments is Fig. 1 of `Temporal aggregation of audio-visual modalities` (Birhala et al., 2020);
calibration by temperature is Guo et al. (2017), applied to the sum.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engines.bundle import PerModality
from stream.baseline import Baseline, Subject
from stream.records import Score, Window
from stream.scoring import modality


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate:
    """What is known of one person after a hop.

    Attributes:
        person: The person.
        scores: The segments summed, oldest first.
        posterior: (n_labels,) float64, calibrated, sums to 1; uniform where nothing could be scored.
        label: Index of the most probable label, or None when it abstains.
        confidence: Calibrated probability of the most probable label.
        reason: Why it abstains: `no_face`, `silence`, `stale`, `uncertain`; or None.
        modalities: Share of the sum that each modality had.
        baseline: Name of the person whose baseline corrected the segments, or None.
    """

    person: int
    scores: tuple[Score, ...]
    posterior: np.ndarray
    label: int | None
    confidence: float
    reason: str | None
    modalities: dict[str, float]
    baseline: str | None = None


def calibrate(posterior: np.ndarray, temperature: float) -> np.ndarray:
    """Sharpen (below 1) or flatten (above 1) a posterior: p^(1/T), normalised; (..., n_labels) float64."""
    logs = np.log(np.maximum(posterior, 1e-12)) / temperature
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


class Aggregator:
    """Rolling sums, one for each person.

    Args:
        n_labels: L.
        n_segments: N, how many segments are summed.
        fusion: Weight of a segment in the sum, by what it was scored from.
        temperature: Of the sum; where segments differ in modality, the mean of theirs by weight.
        min_confidence: Below it an estimate abstains as `uncertain`.
        stale_ns: An estimate whose newest scored segment is older than this abstains as `stale`.
        has_video: Whether the stream has a picture; decides how a person of whom nothing is scored is named.
        baseline: Corrects each segment of the person that it is for before it is summed; None leaves all as they are.
    """

    def __init__(
        self,
        *,
        n_labels: int,
        n_segments: int,
        fusion: PerModality,
        temperature: PerModality,
        min_confidence: float,
        stale_ns: int = 1_000_000_000,
        has_video: bool = True,
        baseline: Baseline | None = None,
    ) -> None:
        self._n_labels, self._n_segments = n_labels, n_segments
        self._fusion, self._temperature = fusion, temperature
        self._min_confidence, self._stale_ns, self._has_video = min_confidence, stale_ns, has_video
        self._baseline, self._subject = baseline, Subject()
        self._recent: dict[int, deque[Score]] = {}

    def add(
        self, scores: Sequence[Score], again: Callable[[Sequence[Window]], list[Score]] | None = None
    ) -> list[Aggregate]:
        """Take the scores of one segment, one a person, and return what is known of each of those persons.

        Args:
            scores: Of the segment.
            again: Scores every window of the sum anew at each hop, for those who want to compare.
        """
        subject = self._subject.follow(score.window.person for score in scores) if scores else None
        return [
            self._aggregate(score, again, self._baseline if score.window.person == subject else None)
            for score in scores
        ]

    def forget(self, person: int) -> None:
        """Drop a person who has left, so that a long session does not grow."""
        self._recent.pop(person, None)
        self._subject.forget(person)

    def _aggregate(
        self, newest: Score, again: Callable[[Sequence[Window]], list[Score]] | None, baseline: Baseline | None
    ) -> Aggregate:
        person, segment = newest.window.person, newest.window.draw.segment
        recent = self._recent.setdefault(person, deque(maxlen=self._n_segments))
        recent.append(newest)
        # A person unseen for a while has no window in between: only the last N segments count, not the last N windows.
        while recent[0].window.draw.segment <= segment - self._n_segments:
            recent.popleft()
        if again is not None:
            scores = again([score.window for score in recent])
            recent.clear()
            recent.extend(scores)
        posterior, modalities, newest_ns = self._sum(recent, baseline)
        confidence = float(posterior.max())
        reason = self._reason(newest, newest_ns, confidence)
        return Aggregate(
            person=person,
            scores=tuple(recent),
            posterior=posterior,
            label=None if reason else int(posterior.argmax()),
            confidence=confidence,
            reason=reason,
            modalities=modalities,
            baseline=None if baseline is None or newest_ns is None else baseline.person,
        )

    def _sum(
        self, recent: Sequence[Score], baseline: Baseline | None
    ) -> tuple[np.ndarray, dict[str, float], int | None]:
        total = np.zeros(self._n_labels)
        weight = heat = 0.0
        shares = {"face": 0.0, "voice": 0.0}
        newest_ns: int | None = None
        for score in recent:
            kind = modality(score.window)
            if score.posterior is None or kind is None:
                continue
            w = getattr(self._fusion, kind)
            total += w * (score.posterior if baseline is None else baseline.apply(score.posterior, kind))
            weight += w
            heat += w * getattr(self._temperature, kind)
            for name in shares:
                shares[name] += w * score.weights[name]
            newest_ns = score.window.end_ns
        if newest_ns is None:
            return np.full(self._n_labels, 1.0 / self._n_labels), shares, None
        return calibrate(total / weight, heat / weight), {k: v / weight for k, v in shares.items()}, newest_ns

    def _reason(self, newest: Score, newest_ns: int | None, confidence: float) -> str | None:
        if newest_ns is None:
            return "no_face" if self._has_video else "silence"
        if newest.window.end_ns - newest_ns > self._stale_ns:
            return "stale"
        return "uncertain" if confidence < self._min_confidence else None
