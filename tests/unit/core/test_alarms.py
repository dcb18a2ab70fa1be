"""Alarms: each sleeper is woken when it is due."""

from __future__ import annotations

import gc
import weakref

from queuelet.core.alarms import Alarms
from queuelet.core.deadlines import NEVER
from support.queues import make_manager, make_queue
from support.timed_queue import SECOND, TimedQueue


class Sleeper:
    """Has one alarm, and records when it was woken."""

    def __init__(self, alarms: Alarms, at: int) -> None:
        self.next_event = at
        self.woken: list[int] = []
        alarms.set(self)

    def advance(self, now: int) -> None:
        """Record when it was woken."""
        self.next_event = NEVER
        self.woken.append(now)


def test_the_earliest_is_woken_first_and_one_at_a_time() -> None:
    alarms = Alarms()
    late, early = Sleeper(alarms, 20), Sleeper(alarms, 10)
    assert alarms.next_at == 10
    alarms.ring(25)
    assert (early.woken, late.woken) == ([25], [])
    alarms.ring(25)
    assert late.woken == [25]
    assert alarms.next_at == NEVER


def test_no_sleeper_is_woken_early() -> None:
    alarms = Alarms()
    sleeper = Sleeper(alarms, 10)
    alarms.ring(9)
    assert sleeper.woken == []


def test_an_alarm_that_was_moved_does_not_ring_at_its_old_time() -> None:
    alarms = Alarms()
    sleeper = Sleeper(alarms, 20)
    sleeper.next_event = 5
    alarms.set(sleeper)
    alarms.ring(5)
    alarms.ring(20)
    assert sleeper.woken == [5]


def test_the_timer_is_notified_of_earlier_alarms_only() -> None:
    alarms = Alarms()
    heard: list[int] = []
    alarms.on_earlier = heard.append
    for at in (20, 30, 10):
        Sleeper(alarms, at)
    assert heard == [20, 10]


def test_a_deleted_queue_is_released_even_if_its_alarm_is_far_away() -> None:
    """Otherwise a queue with a long time to live would stay in memory until then."""
    manager = make_manager()
    queues = []
    for _ in range(200):
        queue = make_queue()
        queue._alarms = manager.alarms  # noqa: SLF001  # all share one server's
        queue.next_event = 1_000_000 * SECOND
        manager.alarms.set(queue)
        queue.delete()
        queues.append(weakref.ref(queue))
        del queue
    gc.collect()
    assert sum(ref() is not None for ref in queues) < 100


def test_a_queue_sets_its_alarm_for_the_next_transition() -> None:
    queue = TimedQueue(lease=30, ttl=100)
    begin = queue.now
    at: list[int] = []
    queue.add(b"a")
    at.append(queue.queue.next_event)
    queue.receive()
    at.append(queue.queue.next_event)
    queue.add(b"b", delay=10)
    at.append(queue.queue.next_event)
    assert at == [begin + seconds * SECOND for seconds in (100, 30, 10)]
    queue.wait(10)
    queue.queue.advance(queue.now)
    assert queue.queue.next_event == begin + 30 * SECOND
