"""Times several ways of doing one thing, in turns: what else the machine does falls on all of them alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

Clock = Callable[[], float]  # seconds
ROUND_S = 0.03  # of one way in one round: long enough for the clock, short enough that all see the same machine
SLOW_S = 1.0  # a first call of this is slow for itself, and no second one need tell
MOST_CALLS = 1000  # of one way in one round
ENOUGH_CALLS = 100  # for a 99th percentile


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long calls took.

    Attributes:
        n_calls: Calls that were timed.
        p50_ms: Median of the calls.
        p99_ms: 99th percentile; with fewer than 100 calls it is near the longest of them.
        mean_ms: Median over the rounds of the mean call of a round.
        ratio: Median over the rounds of this way's time to the reference's; above 1 is slower. None without one.
    """

    n_calls: int
    p50_ms: float
    p99_ms: float
    mean_ms: float
    ratio: float | None


def took(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of one call."""
    began = clock()
    call()
    return clock() - began


def timed(
    calls: Mapping[str, Callable[[], object]],
    first_s: Mapping[str, float],
    *,
    reference: str | None,
    rounds: int,
    budget_s: float,
    clock: Clock,
) -> dict[str, Timing]:
    """Time each in rounds, the first of a round being another each time.

    Fast calls are repeated within a round, whose first call then is not counted: it finds the others' weights in the
    caches. Rounds go on beyond `rounds` until each has 100 calls, and end before that where the budget would be spent.

    Args:
        calls: What is timed, by name; each was called once already, which may have been slower than it is now.
        first_s: How long that call took.
        reference: Of them, what ratios are to.
        rounds: At least so many, within the budget.
        budget_s: Seconds that all rounds together may take; one round is always run.
        clock: Seconds, from anywhere.
    """
    began = clock()
    n_calls = {
        name: 1 if first_s[name] > SLOW_S else max(1, min(MOST_CALLS, int(ROUND_S / max(took(call, clock), 1e-9))))
        for name, call in calls.items()
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in calls}
    order = list(calls)
    done = 0
    while True:
        for name in order:
            taken[name].append(_round(calls[name], n_calls[name], clock))
        order.append(order.pop(0))
        done += 1
        enough = done >= rounds and all(done * n >= ENOUGH_CALLS for n in n_calls.values())
        spent = clock() - began
        if enough or spent + spent / done > budget_s:
            break
    means = {name: np.array([fmean(one) for one in found]) for name, found in taken.items()}
    base = means.get(reference or "")
    return {
        name: _timing(np.concatenate(found), means[name], None if base is None else means[name] / base)
        for name, found in taken.items()
    }


def once(first_s: Mapping[str, float], *, reference: str | None) -> dict[str, Timing]:
    """Timings of one call each, for what is too slow to be called again."""
    base = first_s.get(reference or "")
    return {
        name: _timing(np.array([one]), np.array([one]), None if base is None else np.array([one / base]))
        for name, one in first_s.items()
    }


def _round(call: Callable[[], object], n: int, clock: Clock) -> list[float]:
    if n > 1:
        call()
    return [took(call, clock) for _ in range(n)]


def _timing(calls_s: np.ndarray, means_s: np.ndarray, ratios: np.ndarray | None) -> Timing:
    p50, p99 = np.percentile(calls_s, [50, 99]) * 1e3
    return Timing(
        n_calls=len(calls_s),
        p50_ms=float(p50),
        p99_ms=float(p99),
        mean_ms=float(median(means_s)) * 1e3,
        ratio=None if ratios is None else float(median(ratios)),
    )
