"""Which hops are scored, decided alone: paused, less often, overtaken, or as it was decided before."""

import threading

import pytest

from stream.delivery import Delivery
from stream.hop_choice import HopChoice, LeftOut

QUARTER_NS = 250_000_000


def choice(delivery: Delivery = Delivery.DROP_OLDEST, plan: frozenset[int] | None = None) -> HopChoice:
    return HopChoice(QUARTER_NS, delivery=delivery, plan=plan)


def never(segment: int) -> bool:
    return False


@pytest.mark.parametrize(("hop_s", "every"), [(0.25, 1), (0.5, 2), (10.0, 40), (0.75 + 1e-9, 3)])
def test_a_hop_of_whole_segments_scores_one_of_so_many(hop_s: float, every: int) -> None:
    for delivery in Delivery:
        chosen = choice(delivery)
        chosen.set_hop(hop_s)
        scored = [segment for segment in range(100) if chosen.why_not(segment, never) is None]
        assert scored == list(range(0, 100, every))
        assert chosen.why_not(1, never) is (LeftOut.ASKED if every > 1 else None)
        assert chosen.hop_s == round(hop_s, 6)


@pytest.mark.parametrize(
    ("hop_s", "nearest"),
    [(0.3, "0.25"), (0.4, "0.5"), (1e-300, "0.25"), (10.25, "10"), (1e308, "10"), (float("inf"), "10")],
)
def test_any_other_hop_is_refused_and_the_nearest_is_named(hop_s: float, nearest: str) -> None:
    chosen = choice()
    chosen.set_hop(0.5)
    text = rf"expected a hop of 1 to 40 times the recogniser's 0\.25 s, got .* s; the nearest is {nearest}$"
    with pytest.raises(ValueError, match=text):
        chosen.set_hop(hop_s)
    assert chosen.every == 2


def test_what_is_overtaken_is_told_from_what_nobody_asked_for() -> None:
    chosen = choice()
    chosen.set_hop(0.5)
    why = [chosen.why_not(segment, lambda later: later <= 6) for segment in range(9)]
    left, asked = LeftOut.OVERTAKEN, LeftOut.ASKED
    assert why == [left, asked, left, asked, left, asked, None, asked, None]  # 6 is due when 4 is asked for
    chosen.pause(True)
    assert chosen.why_not(8, lambda later: True) is LeftOut.ASKED
    chosen.pause(False)
    assert chosen.why_not(8, lambda later: True) is LeftOut.OVERTAKEN


def test_a_replay_is_overtaken_by_nothing_and_a_plan_is_followed_whatever_is_asked() -> None:
    assert choice(Delivery.WAIT).why_not(3, lambda later: True) is None
    planned = choice(Delivery.WAIT, frozenset({2}))
    planned.set_hop(1.0)
    planned.pause(True)
    assert [planned.why_not(segment, lambda later: True) for segment in range(4)] == [
        None,
        None,
        LeftOut.OVERTAKEN,
        None,
    ]
    assert not planned.holds(0.0)


def test_a_replay_stands_still_until_it_goes_on_and_a_live_session_never_does() -> None:
    chosen = choice(Delivery.WAIT)
    assert not chosen.holds(30.0)
    chosen.pause(True)
    assert chosen.holds(0.0)
    resumed = threading.Thread(target=lambda: chosen.pause(False))
    resumed.start()
    assert not chosen.holds(30.0)
    resumed.join()
    chosen.pause(True)
    chosen.release()
    assert not chosen.holds(30.0)
    live = choice()
    live.pause(True)
    assert not live.holds(30.0)
