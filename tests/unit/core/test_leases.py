"""Leases: one consumer has a message for a while, and its token is larger than those of earlier leases."""

from __future__ import annotations

import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.core.leases import Leases
from queuelet.core.message import DeliveryRecord
from queuelet.core.states import States
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import TakerLine
from queuelet.definition import DeliverySettings, MessageState, TryOutcome
from support.drafts import draft, tries_of
from support.queues import make_queue
from support.timed_queue import BEGIN, SECOND, TimedQueue


def test_a_received_message_is_not_delivered_again_until_its_lease_ends() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    assert queue.received() == [b"a"]
    queue.wait(29)
    assert queue.received() == []
    queue.wait(1)
    assert queue.received() == [b"a"]


def test_a_lease_lasts_as_long_as_the_consumer_asks() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    queue.receive(lease=5)
    assert queue.look().until == BEGIN + 5 * SECOND
    queue.wait(5)
    assert queue.counts == (1, 0, 0, 0)


def test_a_batch_is_leased_in_order_with_consecutive_tokens() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b", b"c")
    leased = queue.queue.receive(2, 1 << 20, queue.now)
    assert leased.counts == [1, 1]
    assert queue.delivery(2).token == leased.first_token + 1
    assert queue.counts == (1, 0, 2, 0)


def test_a_leased_message_counts_to_the_limit_and_acking_makes_room() -> None:
    queue = TimedQueue(limit=1)
    queue.add(b"a")
    (token,) = queue.receive()
    waiting = queue.queue.wait_to_add([], lambda: None, queue.now)
    assert not waiting.results
    with pytest.raises(Exception, match="0 ready, 0 delayed, 1 leased, 0 dead of at most 1"):
        queue.add(b"b")
    assert queue.ack(token) == [""]
    queue.add(b"b")


def test_an_acked_message_is_gone_and_a_second_ack_finds_nothing() -> None:
    queue = TimedQueue()
    queue.add(b"a")
    (token,) = queue.receive()
    assert queue.ack(token, token) == ["", "MESSAGE_NOT_FOUND"]
    assert queue.queue.depth == 0


def test_a_message_whose_lease_ended_takes_its_old_position() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b", b"c")
    first, _ = queue.receive(2)
    queue.nack(first)
    assert queue.ready() == [b"a", b"c"]


def test_the_newest_token_acks_even_after_its_lease_has_ended() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    (token,) = queue.receive()
    queue.wait(31)
    assert queue.counts == (1, 0, 0, 0)
    assert queue.ack(token) == [""]
    assert queue.queue.depth == 0


def test_an_older_token_is_refused_once_the_message_was_redelivered() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    (older,) = queue.receive()
    queue.wait(30)
    (newer,) = queue.receive()
    assert newer > older
    assert queue.ack(older) == queue.nack(older) == queue.extend(older) == ["LEASE_LOST"]
    assert queue.ack(newer) == [""]


def test_a_nack_after_the_end_of_the_lease_is_refused() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    tokens = queue.receive()
    queue.wait(30)
    assert queue.nack(*tokens) == queue.extend(*tokens) == ["LEASE_LOST"]


def test_extend_moves_the_end_of_the_lease_both_ways() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a", b"b")
    longer, shorter = queue.receive(2)
    queue.extend(longer, lease=60)
    queue.extend(shorter, lease=10)
    queue.wait(10)
    assert queue.ready() == [b"b"]
    queue.wait(49)
    assert queue.ready() == [b"b"]
    queue.wait(1)
    assert queue.ready() == [b"a", b"b"]


def test_purging_a_leased_message_makes_its_token_invalid() -> None:
    queue = TimedQueue()
    queue.add(b"a")
    tokens = queue.receive()
    assert queue.queue.purge([1], queue.now, [MessageState.LEASED]) == 1
    assert queue.ack(*tokens) == ["MESSAGE_NOT_FOUND"]
    assert queue.counts == (0, 0, 0, 0)


def test_each_failed_try_is_recorded_with_its_end_and_reason() -> None:
    queue = TimedQueue(lease=30)
    queue.add(b"a")
    (first,) = queue.receive()
    queue.wait(1)
    queue.nack(first, reason="busy")
    (second,) = queue.receive()
    queue.wait(30)
    queue.queue.advance(queue.now)
    assert tries_of(queue.delivery()) == [
        (TryOutcome.NACKED, first, BEGIN + SECOND, "busy"),
        (TryOutcome.LEASE_EXPIRED, second, BEGIN + 31 * SECOND, ""),
    ]


def test_settled_leases_before_it_do_not_keep_a_lease_from_ending() -> None:
    """The deadline of an acked lease comes first, and needs no work."""
    queue = TimedQueue(lease=30)
    queue.add(b"a", b"b")
    queue.ack(*queue.receive(lease=10))
    queue.receive(lease=20)
    queue.wait(20)
    assert queue.ready() == [b"b"]


def test_more_leases_than_one_slice_ends_all_end() -> None:
    queue = TimedQueue(lease=30)
    queue.add(*[b"a"] * 2_500)
    for _ in range(2_500):
        queue.receive()
    queue.wait(30)
    alarms = queue.queue._alarms  # noqa: SLF001  # the test checks the alarm
    rings = 0
    while alarms.next_at <= queue.now:
        alarms.ring(queue.now)
        rings += 1
    assert queue.queue.counts.ready == 2_500
    assert 2 <= rings <= 10


def test_extending_often_takes_no_memory() -> None:
    """Each extension sets another deadline, and only the last one is live."""
    leases = Leases(Tokens(1))
    token = leases.grant([7], 100)
    for deadline in range(101, 10_000):
        leases.extend(token, deadline)
    assert len(leases._deadlines) < 200  # noqa: SLF001  # the test checks its size
    assert leases.due(9_998) == []
    while leases.next_deadline < 9_999:
        assert leases.due(9_998) == []
    assert leases.due(9_999) == [(token, 7)]


def test_an_extended_lease_is_removed_with_its_message() -> None:
    queue = TimedQueue()
    queue.add(b"a", b"b", b"c")
    acked, nacked, purged = queue.receive(3)
    queue.extend(acked, nacked, purged)
    queue.ack(acked)
    queue.nack(nacked)
    queue.queue.purge([3], queue.now)
    queue.ack(*queue.receive())
    assert queue.queue._states.leases.extended == {}  # noqa: SLF001  # the test checks its size


def test_a_long_run_of_leases_ends_in_pieces_and_all_of_them_end() -> None:
    queue = make_queue()
    for _ in range(5_000):
        queue.add(draft(b"x"), now=1)
    queue.receive(5_000, 1 << 30, 1, lease=10)
    queue.advance(now=11)
    assert 0 < queue.counts.ready < 5_000
    assert queue.next_event <= 11
    while queue.next_event <= 11:
        queue.advance(now=11)
    assert queue.counts.ready == 5_000


def loaded(*deliveries: DeliveryRecord) -> States:
    """Return the states of a queue whose store has loaded these deliveries."""
    queue = make_queue()
    messages, budget = queue._messages, MemoryBudget(1 << 50)  # noqa: SLF001  # a store would load it
    messages.deliveries.update(enumerate(deliveries, 1))
    states = States(messages, settings=DeliverySettings(), budget=budget, tokens=Tokens(1_000), takers=TakerLine())
    states.restore(BEGIN)
    return states


def leased(token: int, until: int, *, since: int = 0) -> DeliveryRecord:
    """Return the delivery of a leased message."""
    return DeliveryRecord(MessageState.LEASED, 1, token, until, since)


def test_the_leases_of_a_batch_have_one_deadline_again_after_a_restart() -> None:
    """With one for each of many thousands, other calls would wait while they are restored."""
    batches = [leased(token, BEGIN + token // 100) for token in range(1_000, 3_000)]
    states = loaded(*reversed(batches))
    assert states.leased == len(states.leases.seqs) == 2_000
    assert len(states.leases._deadlines) == 20  # noqa: SLF001  # the test checks its size
    assert states.leases.next_deadline == BEGIN + 10
    assert states.leases.due(BEGIN + 10) == [(token, 3_000 - token) for token in range(1_000, 1_100)]


def test_the_oldest_lease_after_a_restart_is_that_with_the_smallest_token() -> None:
    """The first message was delivered again, so its lease is newer than that of the second one."""
    assert loaded(leased(9, BEGIN + 5, since=3), leased(7, BEGIN + 5, since=2)).oldest_lease == 2
