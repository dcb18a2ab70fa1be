"""Those who wait for a message are called in their turn, each once."""

from __future__ import annotations

from queuelet.core.waiting import TakerLine, Waiter


def test_whoever_is_called_may_have_the_next_called() -> None:
    """A stream that is still sending passes its turn on: then fewer wait than there were when the calling began."""
    line, called = TakerLine(), list[str]()

    def busy() -> None:
        called.append("busy")
        line.wake(1)

    line.append(Waiter(busy))
    line.append(Waiter(lambda: called.append("second")))
    line.append(Waiter(lambda: called.append("third")))
    line.wake(2)
    assert sorted(called) == ["busy", "second", "third"]
    assert not line


def test_whoever_is_called_may_stand_in_line_again() -> None:
    line, called = TakerLine(), list[str]()

    def again() -> None:
        called.append("again")
        line.append(Waiter(again))

    line.append(Waiter(again))
    line.wake_all()
    assert called == ["again"]
    assert len(line) == 1


def test_no_more_are_called_than_wait() -> None:
    line, called = TakerLine(), list[str]()
    line.append(Waiter(lambda: called.append("only")))
    line.wake(5)
    assert called == ["only"]
