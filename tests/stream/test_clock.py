"""The clocks: what a wait returns on."""

import threading

import pytest

from stream.clock import HeldClock, ManualClock, MonotonicClock

TIMEOUT_S = 20.0


def test_the_monotonic_clock_waits_until_the_time_has_come() -> None:
    clock = MonotonicClock()
    due_ns = clock.now_ns() + 2_000_000
    clock.wait_until(due_ns, threading.Event())
    assert clock.now_ns() >= due_ns


def test_a_set_stop_ends_the_monotonic_clocks_wait() -> None:
    clock, stop = MonotonicClock(), threading.Event()
    waiter = threading.Thread(target=clock.wait_until, args=(clock.now_ns() + 10**13, stop), daemon=True)
    waiter.start()
    stop.set()
    waiter.join(TIMEOUT_S)
    assert not waiter.is_alive()


def test_a_jumping_clock_goes_where_it_is_awaited_and_never_back() -> None:
    clock = ManualClock(5, jumps=True)
    clock.wait_until(9, threading.Event())
    clock.wait_until(7, threading.Event())
    assert clock.now_ns() == 9
    assert clock.waits_ns == [9, 7]


def test_a_manual_clock_holds_a_waiter_until_it_is_turned_far_enough() -> None:
    clock = ManualClock()
    passed = threading.Event()

    def wait() -> None:
        clock.wait_until(10, threading.Event())
        passed.set()

    threading.Thread(target=wait, daemon=True).start()
    assert clock.await_waits(1, TIMEOUT_S)
    clock.advance(9)
    assert not passed.is_set()
    clock.advance(1)
    assert passed.wait(TIMEOUT_S)
    assert clock.now_ns() == 10


def test_a_set_stop_ends_the_manual_clocks_wait() -> None:
    clock, stop = ManualClock(), threading.Event()
    waiter = threading.Thread(target=clock.wait_until, args=(10, stop), daemon=True)
    waiter.start()
    assert clock.await_waits(1, TIMEOUT_S)
    stop.set()
    waiter.join(TIMEOUT_S)
    assert not waiter.is_alive()


def test_a_clock_is_not_turned_back() -> None:
    with pytest.raises(ValueError, match="0 ns or more, got -1"):
        ManualClock().advance(-1)


def test_a_held_clock_stands_still_and_goes_on_from_where_it_stood() -> None:
    inner = ManualClock(100)
    clock = HeldClock(inner)
    inner.advance(10)
    assert clock.now_ns() == 110
    clock.hold(True)
    clock.hold(True)
    inner.advance(50)
    assert clock.now_ns() == 110
    clock.hold(False)
    clock.hold(False)
    assert clock.now_ns() == 110
    inner.advance(5)
    assert clock.now_ns() == 115
    for held in (True, False):
        clock.hold(held)
        inner.advance(7)
    assert clock.now_ns() == 122


def test_a_wait_on_a_held_clock_ends_only_after_it_has_gone_on_or_when_it_is_stopped() -> None:
    inner, stop = ManualClock(), threading.Event()
    clock = HeldClock(inner)
    clock.hold(True)
    inner.advance(1_000)
    passed = threading.Event()
    waiter = threading.Thread(target=lambda: (clock.wait_until(10, threading.Event()), passed.set()), daemon=True)
    waiter.start()
    clock.hold(False)
    assert not passed.is_set()  # it stood at 0
    inner.advance(10)
    assert passed.wait(TIMEOUT_S)
    clock.hold(True)
    stopped = threading.Thread(target=clock.wait_until, args=(10**13, stop), daemon=True)
    stopped.start()
    stop.set()
    stopped.join(TIMEOUT_S)
    assert not stopped.is_alive()
