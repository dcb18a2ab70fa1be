"""The rules of a queue."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from queuelet.core.budget import MESSAGE_OVERHEAD
from queuelet.core.consumers import Claim
from queuelet.core.queue import Queue
from queuelet.core.waiting import AddResult, Duplicate, Waiter
from queuelet.definition import Counts
from queuelet.errors import (
    InvalidArgument,
    MemoryExhausted,
    QueueDraining,
    QueueEmpty,
    QueueFull,
    QueueNotFound,
    TooMany,
)
from queuelet.stores.memory import OWN_ID_OVERHEAD
from support.drafts import draft, id_of, payload_of
from support.queues import budget_of, make_queue

OWN_ID = b"6f9c0000-1111-4222-8333-444455556666"


def add(queue: Queue, *payloads: bytes) -> None:
    """Add messages."""
    for payload in payloads:
        queue.add(draft(payload), now=1)


def pop_all(queue: Queue) -> list[bytes]:
    """Pop all messages and return their payloads."""
    return [payload_of(body) for body in queue.pop_batch(1_000, 1 << 30, now=1)]


def payloads(results: list[AddResult]) -> list[bytes | str]:
    """Return the payload of each message that was added, or the reason of its error."""
    return [
        payload_of(result)
        if isinstance(result, bytes)
        else "DUPLICATE"
        if isinstance(result, Duplicate)
        else result.reason
        for result in results
    ]


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


def test_the_limit_is_exact_and_the_error_has_the_counts() -> None:
    queue = make_queue(limit=2)
    add(queue, b"a", b"b")
    with pytest.raises(QueueFull, match="2 ready, 0 delayed, 0 leased, 0 dead of at most 2") as refused:
        add(queue, b"c")
    assert refused.value.facts["limit"] == 2
    queue.pop(now=1)
    add(queue, b"c")
    assert pop_all(queue) == [b"b", b"c"]


def test_a_limit_set_below_the_depth_drops_nothing_and_refuses_until_there_is_room() -> None:
    queue = make_queue()
    add(queue, b"a", b"b", b"c")
    queue.redefine(replace(queue.definition, limit=2), now=1)
    queue.pop(now=1)
    with pytest.raises(QueueFull):
        add(queue, b"d")
    queue.pop(now=1)
    add(queue, b"d")
    assert pop_all(queue) == [b"c", b"d"]


def test_a_batch_fills_in_order_and_each_message_has_its_result() -> None:
    queue = make_queue(limit=2)
    results = queue.add_batch([draft(b"a"), draft(b"b"), draft(b"c")], now=1)
    assert payloads(results) == [b"a", b"b", "QUEUE_FULL"]


def test_an_id_still_queued_answers_the_first_message_and_adds_nothing_even_when_full() -> None:
    queue = make_queue(limit=1)
    first = queue.add(draft(b"a", OWN_ID), now=1)
    assert queue.add(draft(b"b", OWN_ID), now=2) == Duplicate(first)  # type: ignore[arg-type]
    assert queue.depth == 1


def test_an_id_may_be_used_again_once_its_message_is_gone() -> None:
    queue = make_queue()
    queue.add(draft(b"a", OWN_ID), now=1)
    queue.pop(now=1)
    assert isinstance(queue.add(draft(b"b", OWN_ID), now=1), bytes)
    queue.purge_ids([OWN_ID], now=1)
    assert isinstance(queue.add(draft(b"c", OWN_ID), now=1), bytes)


def test_an_id_made_by_the_server_counts_as_queued_too() -> None:
    queue = make_queue()
    first = queue.add(draft(b"a"), now=1)
    assert isinstance(first, bytes)
    assert queue.add(draft(b"a", id_of(first)), now=1) == Duplicate(first)
    queue.pop(now=1)
    assert isinstance(queue.add(draft(b"a", id_of(first)), now=1), bytes)


def test_a_producer_cannot_take_an_id_that_the_server_will_make() -> None:
    queue = make_queue()
    first = queue.add(draft(b"a"), now=1)
    assert isinstance(first, bytes)
    with pytest.raises(InvalidArgument, match="id: "):
        queue.add(draft(b"mine", id_of(first)[:-1] + b"2"), now=1)


def test_a_draining_queue_refuses_add_and_serves_the_rest() -> None:
    queue = make_queue()
    add(queue, b"a", b"b")
    queue.redefine(replace(queue.definition, draining=True), now=1)
    with pytest.raises(QueueDraining):
        add(queue, b"c")
    assert payload_of(queue.peek(now=2)) == b"a"
    assert pop_all(queue) == [b"a", b"b"]


def test_the_memory_watermark_refuses_add_while_pop_goes_on() -> None:
    queue = make_queue(watermark=10_000)
    with pytest.raises(MemoryExhausted, match="10,000"):
        add(queue, *[b"x" * 1_000] * 10)
    held = queue.depth
    assert 0 < held < 10
    queue.pop(now=1)
    add(queue, b"y" * 1_000)
    assert queue.depth == held


def test_waiting_adds_get_room_in_fifo_order() -> None:
    queue = make_queue(limit=1)
    add(queue, b"a")
    done: list[str] = []
    first = queue.wait_to_add([draft(b"b"), draft(b"c")], lambda: done.append("first"), now=1)
    queue.wait_to_add([draft(b"d")], lambda: done.append("second"), now=1)
    with pytest.raises(QueueFull):
        add(queue, b"overtaker")
    popped = []
    for expected in ([], ["first"], ["first", "second"], ["first", "second"]):
        popped.append(payload_of(queue.pop(now=2)))
        assert done == expected
        assert queue.depth <= 1
    assert popped == [b"a", b"b", b"c", b"d"]
    assert payloads(first.results) == [b"b", b"c"]


def test_a_waiting_add_with_room_is_done_immediately() -> None:
    queue = make_queue(limit=5)
    done: list[str] = []
    waiting = queue.wait_to_add([draft(b"a")], lambda: done.append("done"), now=1)
    assert done == ["done"]
    assert payloads(waiting.results) == [b"a"]


def test_a_waiting_add_that_gives_up_keeps_its_results_and_the_next_proceeds() -> None:
    queue = make_queue(limit=2)
    add(queue, b"a")
    done: list[str] = []
    first = queue.wait_to_add([draft(b"b"), draft(b"c")], lambda: done.append("first"), now=1)
    queue.wait_to_add([draft(b"d")], lambda: done.append("second"), now=1)
    queue.give_up_adding(first, now=2)
    assert payloads(first.results) == [b"b", "QUEUE_FULL"]
    queue.pop(now=2)
    assert done == ["second"]
    assert pop_all(queue) == [b"b", b"d"]


def test_raising_the_limit_admits_waiting_adds() -> None:
    queue = make_queue(limit=1)
    add(queue, b"a")
    waiting = queue.wait_to_add([draft(b"b")], lambda: None, now=1)
    queue.redefine(replace(queue.definition, limit=2), now=2)
    assert payloads(waiting.results) == [b"b"]


@pytest.mark.parametrize("end", ["draining", "deleted"])
def test_waiting_adds_end_with_the_reason(end: str) -> None:
    queue = make_queue(limit=1)
    add(queue, b"a")
    done: list[str] = []
    waiting = queue.wait_to_add([draft(b"b")], lambda: done.append("done"), now=1)
    if end == "draining":
        queue.redefine(replace(queue.definition, draining=True), now=2)
        assert payloads(waiting.results) == ["QUEUE_DRAINING"]
    else:
        queue.delete()
        assert payloads(waiting.results) == ["QUEUE_NOT_FOUND"]
    assert done == ["done"]


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


def test_waiting_messages_count_in_the_memory_budget() -> None:
    queue = make_queue(limit=1, watermark=20_000)
    add(queue, b"a")
    queue.wait_to_add([draft(b"x" * 10_000)], lambda: None, now=1)
    with pytest.raises(MemoryExhausted):
        queue.wait_to_add([draft(b"x" * 10_000)], lambda: None, now=1)


def test_a_waiting_message_is_not_counted_twice_when_it_gets_room() -> None:
    queue = make_queue(limit=1)
    budget = budget_of(queue)
    empty = budget.used
    add(queue, b"a")
    budget.watermark = budget.used + 2_000
    waiting = queue.wait_to_add([draft(b"x" * 1_500)], lambda: None, now=1)
    queue.pop(now=1)
    assert payloads(waiting.results) == [b"x" * 1_500]
    queue.pop(now=1)
    assert budget.used == empty


def test_ids_of_producers_count_in_the_memory_budget_until_they_are_removed() -> None:
    queue = make_queue()
    budget = budget_of(queue)
    before = budget.used
    for remove in (
        lambda: queue.pop(now=1),
        lambda: queue.pop_batch(5, 1_000, now=1),
        lambda: queue.purge_ids([OWN_ID], now=1),
        queue.delete,
    ):
        body = queue.add(draft(b"a", OWN_ID), now=1)
        assert isinstance(body, bytes)
        assert budget.used == before + len(body) + MESSAGE_OVERHEAD + OWN_ID_OVERHEAD
        remove()
        assert budget.used == before


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
