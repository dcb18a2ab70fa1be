"""Dead letters: a message that was delivered too often stays dead until it is redriven or purged."""

from __future__ import annotations

from queuelet.core.order import RANK_OVERHEAD
from queuelet.definition import DeathReason, MessageState
from support.drafts import tries_of
from support.queues import budget_of
from support.timed_queue import BEGIN, SECOND, TimedQueue


def with_a_dead_message(*others: bytes) -> TimedQueue:
    """Return a queue whose first message is dead."""
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"dead", *others)
    queue.nack(*queue.receive())
    return queue


def test_a_message_dies_after_the_maximum_number_of_deliveries() -> None:
    queue = TimedQueue(max_deliveries=2)
    queue.add(b"a", b"b")
    queue.nack(*queue.receive())
    assert queue.counts == (2, 0, 0, 0)
    queue.nack(*queue.receive())
    assert queue.counts == (1, 0, 0, 1)
    assert queue.delivery().reason == DeathReason.MAX_DELIVERIES
    assert queue.ready() == [b"b"]


def test_it_dies_too_when_its_last_lease_expires() -> None:
    queue = TimedQueue(lease=30, max_deliveries=1)
    queue.add(b"a")
    queue.receive()
    queue.wait(30)
    assert queue.counts == (0, 0, 0, 1)
    assert queue.delivery().since == BEGIN + 30 * SECOND


def test_it_dies_even_if_the_last_nack_has_a_delay() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"a")
    queue.nack(*queue.receive(), delay=60)
    assert queue.counts == (0, 0, 0, 1)


def test_a_message_that_is_nacked_as_dead_dies_immediately() -> None:
    queue = TimedQueue(max_deliveries=5)
    queue.add(b"a", b"b")
    queue.nack(*queue.receive(), dead=True)
    assert queue.counts == (1, 0, 0, 1)
    assert queue.delivery().reason == DeathReason.REJECTED
    assert queue.ready() == [b"b"]
    queue.wait(1)
    queue.redrive(1)
    assert queue.ready() == [b"b", b"a"]


def test_an_unused_delivery_is_not_counted() -> None:
    queue = TimedQueue(max_deliveries=2)
    queue.add(b"a")
    for _ in range(5):
        queue.nack(*queue.receive(), unused=True)
    assert queue.counts == (1, 0, 0, 0)
    assert queue.delivery().count == 0
    assert queue.delivery().history == b""
    for _ in range(2):
        queue.nack(*queue.receive())
    assert queue.counts == (0, 0, 0, 1)


def test_a_dead_message_counts_to_the_limit() -> None:
    queue = with_a_dead_message()
    assert queue.queue.depth == 1


def test_its_newest_token_still_acks_it() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"a")
    tokens = queue.receive()
    queue.nack(*tokens)
    assert queue.ack(*tokens) == [""]
    assert queue.counts == (0, 0, 0, 0)


def test_only_dead_messages_are_browsed_when_asked_for() -> None:
    queue = with_a_dead_message(b"b", b"c")
    page = queue.queue.browse(0, 10, [MessageState.DEAD], now=queue.now)
    assert [each.seq for each in page.messages] == [1]
    assert queue.queue.browse(page.last, 10, [MessageState.DEAD], now=queue.now).is_end


def test_a_redriven_message_is_as_new_except_for_its_history() -> None:
    queue = with_a_dead_message(b"b")
    queue.wait(1)
    assert queue.redrive(1, 1, 2, 99) == 1
    assert queue.ready() == [b"b", b"dead"]
    delivery = queue.delivery()
    assert (delivery.count, delivery.reason, len(tries_of(delivery))) == (0, 0, 1)


def test_a_redriven_message_keeps_its_priority() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"urgent", priority=-1)
    queue.nack(*queue.receive())
    queue.add(b"b")
    queue.redrive(1)
    assert queue.ready() == [b"urgent", b"b"]


def test_tokens_from_before_a_redrive_are_refused() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"a")
    tokens = queue.receive()
    queue.nack(*tokens)
    queue.redrive(1)
    assert queue.ack(*tokens) == ["LEASE_LOST"]


def test_the_time_to_live_of_a_redriven_message_restarts() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"a", ttl=10)
    queue.nack(*queue.receive())
    queue.wait(6)
    queue.redrive(1)
    queue.wait(9)
    assert queue.counts == (1, 0, 0, 0)
    queue.wait(1)
    assert queue.counts == (0, 0, 0, 1)


def test_the_history_holds_the_last_twenty_tries_through_redrives() -> None:
    queue = TimedQueue(max_deliveries=1)
    queue.add(b"a")
    for round_ in range(30):
        queue.nack(*queue.receive(), reason=f"{round_}")
        queue.redrive(1)
    assert [reason for *_, reason in tries_of(queue.delivery())] == [f"{round_}" for round_ in range(10, 30)]


def test_lowering_the_maximum_does_not_kill_messages_immediately() -> None:
    queue = TimedQueue(max_deliveries=5)
    queue.add(b"a")
    queue.nack(*queue.receive())
    definition = queue.queue.definition
    settings = TimedQueue(max_deliveries=1).queue.definition.delivery
    queue.queue.redefine(type(definition)(name=definition.name, delivery=settings), queue.now)
    assert queue.counts == (1, 0, 0, 0)
    queue.nack(*queue.receive())
    assert queue.counts == (0, 0, 0, 1)


def test_a_redrive_costs_a_rank_that_is_freed_later() -> None:
    queue = with_a_dead_message()
    budget = budget_of(queue.queue)
    before = budget.used
    queue.redrive(1)
    assert budget.used == before + RANK_OVERHEAD
    queue.nack(*queue.receive())
    queue.redrive(1)
    assert budget.used == before + RANK_OVERHEAD
    queue.queue.delete()
    assert budget.used < before
