"""Delays: a message is not delivered before a time, and has its position in the order from then on."""

from __future__ import annotations

from queuelet.core.message import Terms
from queuelet.core.waiting import Taker
from support.drafts import draft, payload_of
from support.queues import make_queue
from support.timed_queue import BEGIN, SECOND, TimedQueue


def test_a_delayed_message_is_ready_when_its_delay_ends() -> None:
    queue = TimedQueue()
    queue.add(b"a", delay=10)
    assert queue.counts == (0, 1, 0, 0)
    assert queue.look().until == BEGIN + 10 * SECOND
    queue.wait(10)
    assert queue.ready() == [b"a"]
    assert queue.look().until == 0


def test_the_later_of_delay_and_not_before_applies() -> None:
    queue = TimedQueue()
    queue.queue.add(draft(b"a", terms=Terms(not_before=BEGIN + 20 * SECOND, delay=10 * SECOND)), queue.now)
    queue.queue.add(draft(b"b", terms=Terms(not_before=BEGIN + 5 * SECOND, delay=10 * SECOND)), queue.now)
    queue.wait(10)
    assert queue.ready() == [b"b"]
    queue.wait(10)
    assert queue.ready() == [b"b", b"a"]


def test_a_time_in_the_past_does_not_move_a_message_forward() -> None:
    """Such a message is due since its Add."""
    queue = TimedQueue()
    queue.add(b"a")
    queue.wait(1)
    queue.queue.add(draft(b"b", terms=Terms(not_before=1)), queue.now)
    assert queue.ready() == [b"a", b"b"]


def test_a_delayed_message_is_ordered_by_the_end_of_its_delay() -> None:
    queue = TimedQueue()
    queue.add(b"late", delay=10)
    queue.wait(5)
    queue.add(b"early")
    queue.wait(6)
    queue.add(b"last")
    assert queue.ready() == [b"early", b"late", b"last"]


def test_a_message_nacked_with_a_delay_returns_to_its_old_position() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b")
    queue.nack(*queue.receive(), delay=10)
    assert queue.counts == (1, 1, 0, 0)
    queue.wait(10)
    queue.add(b"c")
    assert queue.ready() == [b"a", b"b", b"c"]


def test_a_delayed_message_can_be_purged_and_acknowledged() -> None:
    queue = TimedQueue()
    queue.add(b"a", delay=10)
    queue.add(b"b")
    tokens = queue.receive()
    queue.nack(*tokens, delay=10)
    assert queue.queue.purge([1], queue.now) == 1
    assert queue.ack(*tokens) == [""]
    queue.wait(20)
    assert queue.counts == (0, 0, 0, 0)


def test_a_waiting_call_is_woken_when_a_delay_ends_and_not_before() -> None:
    queue = TimedQueue()
    woken: list[str] = []
    queue.queue.waiters.wait_for_message(Taker(lambda: woken.append("woken")))
    queue.add(b"a", delay=10)
    assert woken == []
    queue.wait(10)
    queue.queue._alarms.ring(queue.now)  # noqa: SLF001  # as the server's timer does
    assert woken == ["woken"]


def test_cancelled_delays_take_no_memory() -> None:
    queue = TimedQueue()
    for number in range(1, 1_000):
        queue.add(b"a", delay=3_600)
        queue.queue.purge([number], queue.now)
    assert len(queue.queue._states.delays._ends) < 200  # noqa: SLF001  # the test checks its size


def test_if_very_many_delays_end_together_the_first_in_order_is_delivered_first() -> None:
    queue = make_queue()
    for number in range(3_000):
        queue.add(draft(b"%d" % number, terms=Terms(delay=10)), now=1)
    queue.add(draft(b"urgent", terms=Terms(priority=-1, delay=10)), now=1)
    assert payload_of(queue.pop(now=11)) == b"urgent"
