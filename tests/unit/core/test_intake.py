"""Adding messages: limit, memory, duplicates, and the Adds that wait for room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queuelet.core.budget import MESSAGE_OVERHEAD, OWN_ID_OVERHEAD
from queuelet.core.waiting import AddResult, Duplicate
from queuelet.errors import InvalidArgument, MemoryExhausted, QueueFull
from support.drafts import draft, id_of, payload_of
from support.queues import add, budget_of, make_queue, pop_all

OWN_ID = b"6f9c0000-1111-4222-8333-444455556666"


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


def test_an_id_still_queued_returns_the_first_message_and_adds_nothing_even_when_full() -> None:
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
