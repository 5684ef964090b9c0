"""Which pictures count as taken now: arrivals in milliseconds, and which of them may have waited."""

from itertools import accumulate

import pytest

from stream.sources.cameras.backlog import Backlog


def waited(rate_hz: float | None, *steps_ms: int) -> str:
    """One letter for each picture, the first of which arrives at 0: `w` for one that may have waited."""
    backlog = Backlog(rate_hz)
    return "".join("w" if backlog.waited(at_ms * 1_000_000) else "." for at_ms in accumulate(steps_ms, initial=0))


@pytest.mark.parametrize(
    ("rate_hz", "steps_ms", "verdicts"),
    [
        (25, [40] * 4, "w...."),  # nothing had waited: one picture is the price
        (25, [3, 3, 28, 40, 40], "www..."),  # what was read ahead at the opening; then in step
        (25, [40] * 3 + [500, 2, 2, 2, 30, 40], "w...wwww.."),  # after a stall the older ones come at once
        (25, [40, 80, 40, 1, 80, 40], "w......"),  # jitter is no stall
        (30, [33] * 3 + [133] * 3, "w...w.."),  # it grows dark: slower from now on, and taken for that after one
        (30, [133] * 20, "w" + "." * 20),  # it was dark from the beginning
        (None, [17] * 10, "w" + "." * 10),  # 60 a second, unsaid
        (None, [40] * 5 + [1, 80, 40], "w" + "." * 8),  # jitter of 25 a second, unsaid
        (None, [200] * 10, "w" + "." * 10),
        (5, [40] * 30, "w" * 26 + "." * 5),  # says 5, gives 25: only for a second is it taken at its word
    ],
)
def test_what_may_have_waited(rate_hz: float | None, steps_ms: list[int], verdicts: str) -> None:
    assert waited(rate_hz, *steps_ms) == verdicts
