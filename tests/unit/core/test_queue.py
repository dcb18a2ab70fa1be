"""The rules of a queue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queuelet.core.budget import MESSAGE_OVERHEAD
from queuelet.definition import Counts
from queuelet.errors import (
    QueueDraining,
    QueueEmpty,
    QueueFull,
    QueueletError,
    QueueNotFound,
    StoreFailed,
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


@pytest.mark.parametrize(
    "error",
    [QueueNotFound("queue orders was deleted"), StoreFailed("store Disk failed")],
    ids=["deleted", "store failed"],
)
def test_a_closed_queue_refuses_a_whole_batch_and_adds_nothing(error: QueueletError) -> None:
    queue = make_queue()
    add(queue, b"a")
    queue.close(error)
    with pytest.raises(type(error), match=error.message):
        queue.add_batch([draft(b"b"), draft(b"c")], now=1)
    assert (queue.depth, queue.tally.enqueued) == (1, 1)
