"""Time to live: a message that waits longer dies, but is not dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queuelet.core.message import Terms
from queuelet.definition import DeathReason
from support.drafts import draft, payload_of
from support.queues import make_queue
from support.timed_queue import BEGIN, SECOND, TimedQueue


def test_a_message_that_waits_longer_than_the_queue_allows_dies() -> None:
    queue = TimedQueue(ttl=10)
    queue.add(b"a")
    queue.wait(1)
    queue.add(b"b")
    queue.wait(9)
    assert queue.ready() == [b"b"]
    assert queue.counts == (1, 0, 0, 1)
    assert queue.delivery().reason == DeathReason.EXPIRED
    assert queue.delivery().since == BEGIN + 10 * SECOND


def test_the_shorter_of_its_own_and_the_queues_time_applies() -> None:
    queue = TimedQueue(ttl=10)
    queue.add(b"short", ttl=5)
    queue.add(b"long", ttl=20)
    queue.wait(5)
    assert queue.ready() == [b"long"]
    queue.wait(5)
    assert queue.ready() == []


def test_it_counts_from_the_add_and_a_delay_does_not_stop_it() -> None:
    queue = TimedQueue()
    queue.add(b"a", delay=20, ttl=10)
    queue.wait(10)
    assert queue.counts == (0, 0, 0, 1)


def test_a_leased_message_dies_only_when_its_lease_has_ended() -> None:
    queue = TimedQueue(ttl=10)
    queue.add(b"a", b"b")
    done, failed = queue.receive(2)
    queue.wait(15)
    assert queue.counts == (0, 0, 2, 0)
    assert queue.ack(done) == [""]
    queue.nack(failed)
    assert queue.counts == (0, 0, 0, 1)
    assert queue.delivery(2).reason == DeathReason.EXPIRED


@pytest.mark.parametrize("delay", [0, 60], ids=["at once", "after a delay"])
def test_a_nacked_message_expires_like_any_other(delay: int) -> None:
    queue = TimedQueue(ttl=10)
    queue.add(b"a", b"b")
    queue.nack(*queue.receive(), delay=delay)
    queue.wait(10)
    assert queue.counts == (0, 0, 0, 2)
    assert queue.popped() == queue.received() == []


@pytest.mark.parametrize("state", ["in line", "ranked", "delayed", "given back with a delay"])
def test_a_time_to_live_set_later_applies_to_all_queued_messages(state: str) -> None:
    queue = TimedQueue()
    queue.add(b"a", priority=1 if state == "ranked" else 0, delay=60 if state == "delayed" else 0)
    if state == "given back with a delay":
        queue.nack(*queue.receive(), delay=60)
    definition = queue.queue.definition
    with_ttl = replace(definition, delivery=replace(definition.delivery, message_ttl_seconds=10))
    queue.queue.redefine(with_ttl, queue.now)
    assert queue.queue.next_event <= BEGIN + 10 * SECOND
    queue.wait(10)
    assert queue.counts == (0, 0, 0, 1)


def test_an_expired_message_is_not_popped_even_if_no_alarm_rang() -> None:
    queue = TimedQueue(ttl=10)
    queue.add(b"a")
    queue.wait(10)
    assert queue.popped() == []


def test_messages_that_are_removed_before_they_expire_take_no_memory() -> None:
    queue = TimedQueue()
    for _ in range(1_000):
        queue.add(b"a", ttl=3_600)
        queue.popped()
    assert len(queue.queue._states.expiries._heap) < 200  # noqa: SLF001  # the test checks its size


def test_messages_that_are_redelivered_often_are_tracked_once() -> None:
    queue = TimedQueue(ttl=3_600, max_deliveries=10_000)
    queue.add(b"a", priority=1)
    for _ in range(1_000):
        queue.nack(*queue.receive())
    assert len(queue.queue._states.expiries._heap) < 200  # noqa: SLF001  # the test checks its size


def test_if_very_many_messages_expire_together_none_is_delivered() -> None:
    queue = make_queue()
    for _ in range(5_000):
        queue.add(draft(b"old", terms=Terms(ttl=10)), now=1)
    queue.add(draft(b"young"), now=2)
    assert [payload_of(body) for body in queue.pop_batch(10, 1 << 20, now=100)] == [b"young"]
    assert queue.counts.dead == 5_000
