"""Calls that wait for a message are woken in FIFO order, once each."""

from __future__ import annotations

from queuelet.core.waiting import Taker, TakerLine


def test_a_waiter_that_is_woken_may_wake_the_next() -> None:
    """A stream that is still sending wakes the next waiter instead, so the line gets shorter during the loop."""
    line, called = TakerLine(), list[str]()

    def busy() -> None:
        called.append("busy")
        line.wake(1)

    line.append(Taker(busy))
    line.append(Taker(lambda: called.append("second")))
    line.append(Taker(lambda: called.append("third")))
    line.wake(2)
    assert sorted(called) == ["busy", "second", "third"]
    assert not line


def test_a_waiter_that_is_woken_may_wait_again() -> None:
    line, called = TakerLine(), list[str]()

    def again() -> None:
        called.append("again")
        line.append(Taker(again))

    line.append(Taker(again))
    line.wake_all()
    assert called == ["again"]
    assert len(line) == 1


def test_waking_more_than_wait_is_allowed() -> None:
    line, called = TakerLine(), list[str]()
    line.append(Taker(lambda: called.append("only")))
    line.wake(5)
    assert called == ["only"]
