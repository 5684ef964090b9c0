"""Counters and latencies, on a clock that the test turns."""

import threading

import numpy as np
import pytest

from stream.meters import LOOK_BACK, Meters


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_are_over_the_time_since_they_were_last_read() -> None:
    clock = Hand()
    meters = Meters(clock)
    meters.count("frames", 50)
    clock.now_s += 2.0
    assert meters.rates() == {"frames": 25.0}
    meters.count("frames", 3)
    meters.count("hops")
    clock.now_s += 0.5
    assert meters.rates() == {"frames": 6.0, "hops": 2.0}
    clock.now_s += 1.0
    assert meters.rates() == {"frames": 0.0, "hops": 0.0}
    assert (meters.total("frames"), meters.total("hops"), meters.total("estimates")) == (53, 1, 0)


def test_reading_twice_at_one_instant_divides_by_no_zero() -> None:
    meters = Meters(Hand())
    assert meters.rates() == {}
    meters.count("frames")
    assert np.isfinite(meters.rates()["frames"])


def test_a_report_is_due_each_second() -> None:
    clock = Hand()
    meters = Meters(clock)
    assert not meters.due(1.0)
    clock.now_s += 1.0
    assert meters.due(1.0)
    meters.rates()
    assert not meters.due(1.0)


def test_percentiles_are_those_of_the_newest_values() -> None:
    meters = Meters(Hand())
    assert meters.percentiles("age") is None
    meters.time("age", 7.0)
    assert meters.percentiles("age") == (7.0, 7.0)
    values = np.random.default_rng(0).uniform(0, 100, 2 * LOOK_BACK)
    for value in values:
        meters.time("age", float(value))
    expected = np.percentile(values[-LOOK_BACK:], [50, 99])
    assert meters.percentiles("age") == pytest.approx(tuple(expected), abs=1e-3)
    assert meters.percentiles("engine") is None


def test_threads_may_count_together() -> None:
    meters = Meters()

    def count() -> None:
        for _ in range(2_000):
            meters.count("frames")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meters.total("frames") == 8_000
