"""The order of delivery: by priority, then by due time, then by sequence number."""

from __future__ import annotations

from support.timed_queue import TimedQueue


def test_the_smaller_priority_comes_first_and_none_is_zero() -> None:
    queue = TimedQueue()
    queue.add(b"late", priority=1)
    queue.add(b"plain")
    queue.add(b"urgent", priority=-1)
    assert queue.ready() == queue.popped() == [b"urgent", b"plain", b"late"]


def test_messages_of_one_priority_are_delivered_in_fifo_order() -> None:
    queue = TimedQueue()
    for payload in (b"a", b"b", b"c"):
        queue.wait(1)
        queue.add(payload, priority=3)
    assert queue.popped(2) == [b"a", b"b"]


def test_a_message_whose_lease_ended_keeps_its_priority_and_position() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b", priority=-1)
    queue.add(b"c")
    queue.nack(*queue.receive(2))
    assert queue.ready() == [b"a", b"b", b"c"]


def test_a_batch_stops_at_its_bytes_across_both_kinds() -> None:
    queue = TimedQueue()
    queue.add(b"a")
    size = len(queue.queue.peek(queue.now))
    queue.add(b"b", priority=-1)
    first = len(queue.queue.peek(queue.now))
    queue.add(b"c")
    assert len(queue.queue.peek_batch(5, first + size, queue.now)) == 2
    assert len(queue.queue.pop_batch(5, first + size - 1, queue.now)) == 1
    assert queue.ready() == [b"a", b"c"]


def test_one_message_is_taken_even_if_it_is_too_large() -> None:
    queue = TimedQueue()
    queue.add(b"a" * 100, priority=-1)
    queue.add(b"b" * 100)
    assert len(queue.queue.pop_batch(5, 1, queue.now)) == 1
    assert len(queue.queue.receive(5, 1, queue.now).bodies) == 1


def test_a_purged_message_with_a_priority_leaves_the_order() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b", priority=-1)
    queue.queue.purge([1], queue.now)
    assert queue.popped() == [b"b"]
