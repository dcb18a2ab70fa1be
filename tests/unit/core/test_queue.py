"""The rules of a queue."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from queuelet.core.budget import MESSAGE_OVERHEAD
from queuelet.core.consumers import Claim
from queuelet.core.waiting import Waiter
from queuelet.definition import Counts
from queuelet.errors import (
    QueueDraining,
    QueueEmpty,
    QueueFull,
    QueueNotFound,
    TooMany,
)
from support.drafts import draft, id_of, payload_of
from support.queues import add, budget_of, make_queue, pop_all

OWN_ID = b"6f9c0000-1111-4222-8333-444455556666"


def test_messages_are_popped_in_fifo_order() -> None:
    queue = make_queue()
    add(queue, b"a", b"b", b"c")
    assert [payload_of(queue.pop(now=2)) for _ in range(3)] == [b"a", b"b", b"c"]


def test_peek_is_the_next_pop_and_removes_nothing() -> None:
    queue = make_queue()
    add(queue, b"a", b"b")
    assert queue.peek(now=2) == queue.peek(now=2) == queue.pop(now=2)
    assert queue.depth == 1


def test_an_empty_queue_refuses_pop_and_peek_and_counts_it() -> None:
    queue = make_queue()
    with pytest.raises(QueueEmpty, match="orders"):
        queue.pop(now=1)
    with pytest.raises(QueueEmpty):
        queue.peek(now=2)
    assert queue.refused_empty == 2


def test_a_draining_queue_refuses_add_and_serves_the_rest() -> None:
    queue = make_queue()
    add(queue, b"a", b"b")
    queue.redefine(replace(queue.definition, draining=True), now=1)
    with pytest.raises(QueueDraining):
        add(queue, b"c")
    assert payload_of(queue.peek(now=2)) == b"a"
    assert pop_all(queue) == [b"a", b"b"]


def test_the_calls_that_wait_are_bounded() -> None:
    queue = make_queue(limit=1, waiting=2)
    add(queue, b"a")
    for _ in range(2):
        queue.wait_to_add([draft(b"b")], lambda: None, now=1)
    with pytest.raises(TooMany, match="--max-waiting"):
        queue.wait_to_add([draft(b"c")], lambda: None, now=1)
    with pytest.raises(TooMany):
        queue.wait_for_message(Waiter(lambda: None))
    assert queue.refused_waiting == 2


def test_the_calls_of_one_address_that_wait_are_bounded_in_every_way_of_waiting() -> None:
    queue = make_queue(limit=1, waiting=10, waiting_per_peer=3)
    add(queue, b"a")
    claims = [Claim(lambda: None, is_exclusive=True, peer="greedy") for _ in range(2)]
    for claim in claims:
        queue.claim(claim)  # the first of them holds the queue and does not wait
    adding = queue.wait_to_add([draft(b"b")], lambda: None, 1, "greedy")
    taker = Waiter(lambda: None, "greedy")
    queue.wait_for_message(taker)
    for wait in (
        lambda: queue.claim(Claim(lambda: None, is_exclusive=True, peer="greedy")),
        lambda: queue.wait_to_add([draft(b"c")], lambda: None, 1, "greedy"),
        lambda: queue.wait_for_message(Waiter(lambda: None, "greedy")),
    ):
        with pytest.raises(TooMany, match=r"greedy.*--max-waiting-per-peer"):
            wait()
    assert queue.waiting == queue.refused_waiting == 3
    for end_a_wait in (
        lambda: queue.stop_waiting(taker),
        lambda: queue.give_up_adding(adding, 1),
        lambda: queue.release_claim(claims[1]),
    ):
        end_a_wait()
        queue.wait_for_message(Waiter(lambda: None, "modest"))
        queue.wait_for_message(Waiter(lambda: None, "greedy"))
    assert queue.waiting == 6


def test_each_message_wakes_one_waiter() -> None:
    queue = make_queue()
    woken: list[int] = []
    for number in range(3):
        queue.wait_for_message(Waiter(partial(woken.append, number)))
    add(queue, b"a", b"b")
    assert woken == [0, 1]


def test_a_woken_waiter_that_gives_up_passes_its_turn_on() -> None:
    queue = make_queue()
    woken: list[str] = []

    first = Waiter(lambda: woken.append("first"))
    queue.wait_for_message(first)
    queue.wait_for_message(Waiter(lambda: woken.append("second")))
    add(queue, b"a")
    queue.give_up_waiting(first)
    assert woken == ["first", "second"]


def test_deleting_drops_the_messages_and_frees_their_memory() -> None:
    queue = make_queue()
    budget = budget_of(queue)
    before = budget.used
    add(queue, b"a" * 1_000, b"b")
    assert queue.delete() == Counts(ready=2)
    assert budget.used == before
    assert queue.deleted


def test_purge_removes_by_id_and_returns_how_many() -> None:
    queue = make_queue()
    add(queue, b"a", b"b", b"c")
    ids = [id_of(each.body) for each in queue.browse(0, 10, now=1).messages]
    assert queue.purge_ids([ids[1], OWN_ID, ids[1]], now=1) == 1
    assert pop_all(queue) == [b"a", b"c"]


def test_counters_count_what_happened() -> None:
    queue = make_queue(limit=2)
    add(queue, b"a", b"b")
    with pytest.raises(QueueFull):
        add(queue, b"c")
    queue.pop(now=1)
    queue.purge([2], now=1)
    assert (queue.tally.enqueued, queue.tally.consumed, queue.tally.purged, queue.refused_full) == (2, 1, 1, 1)
    assert queue.stored_bytes == 0


def test_the_budget_counts_bytes_and_overhead() -> None:
    queue = make_queue()
    budget = budget_of(queue)
    before = budget.used
    body = queue.add(draft(b"a" * 100), now=1)
    assert isinstance(body, bytes)
    assert budget.used - before == len(body) + MESSAGE_OVERHEAD


def test_an_error_of_a_deleted_queue_names_it() -> None:
    queue = make_queue(limit=1)
    add(queue, b"a")
    waiting = queue.wait_to_add([draft(b"b")], lambda: None, now=1)
    queue.delete()
    assert isinstance(waiting.results[0], QueueNotFound)
    assert "orders" in waiting.results[0].message
