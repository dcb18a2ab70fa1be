"""The operator's cache of the server's queues, fed by a watch with counts apart, or by a server without them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from queuelet.definition import Counts, DeliverySettings, StoreKind
from queuelet.values import Queue, QueueChanges, QueueCounts, RemovedQueue
from queuelet_operator.plan.observed import observed_queue
from queuelet_operator.queue_cache import QueueCache

ORDERS = Queue(
    id="1",
    name="orders",
    store=StoreKind.MEMORY,
    limit=5,
    tags=(),
    owner=None,
    delivery=DeliverySettings(),
    draining=False,
    messages=Counts(),
    created=datetime.now(UTC),
    revision=2,
    epoch="e",
)


def counts(queue_id: str, ready: int, enqueued: int = 0) -> QueueChanges:
    """Return a batch with the counts of one queue."""
    numbers = QueueCounts(id=queue_id, messages=Counts(ready=ready), enqueued=enqueued, consumed=0, acked=0)
    return QueueChanges(counts=[numbers])


def cache_with(queue: Queue) -> QueueCache:
    """Return a cache with one queue."""
    cache = QueueCache()
    assert list(cache.apply(QueueChanges(queues=[queue]))) == [queue.name]
    return cache


def test_counts_apart_change_the_counts_of_their_queue_and_keep_its_definition() -> None:
    cache = cache_with(ORDERS)
    before = cache.by_name["orders"]
    assert list(cache.apply(counts("1", ready=3))) == ["orders"]
    assert cache.by_name["orders"] == replace(before, counts=Counts(ready=3))
    assert cache.by_name["orders"].definition is before.definition


def test_an_older_revision_is_ignored_unless_the_store_was_lost() -> None:
    cache = cache_with(ORDERS)
    cache.observe(observed_queue(replace(ORDERS, revision=1, limit=4)))
    assert cache.by_name["orders"].definition.limit == 5
    cache.observe(observed_queue(replace(ORDERS, revision=1, limit=4, epoch="f")))
    assert cache.by_name["orders"].definition.limit == 4


def test_totals_alone_change_nothing() -> None:
    cache = cache_with(ORDERS)
    assert not list(cache.apply(counts("1", ready=0, enqueued=7)))


def test_counts_of_unknown_queues_are_ignored() -> None:
    cache = cache_with(ORDERS)
    assert not list(cache.apply(counts("2", ready=3)))
    assert cache.by_name.keys() == {"orders"}


def test_a_queue_without_a_name_is_not_stored() -> None:
    cache = QueueCache()
    assert not list(cache.apply(QueueChanges(queues=[replace(ORDERS, name="")], counts=counts("1", ready=3).counts)))
    assert not cache.by_name


def test_counts_of_a_queue_that_was_replaced_under_its_name_are_ignored() -> None:
    cache = cache_with(ORDERS)
    list(cache.apply(QueueChanges(queues=[replace(ORDERS, id="2", revision=1)])))
    assert not list(cache.apply(counts("1", ready=3)))
    assert list(cache.apply(counts("2", ready=4))) == ["orders"]
    assert cache.by_name["orders"].counts.ready == 4


def test_counts_of_a_removed_queue_are_ignored() -> None:
    cache = cache_with(ORDERS)
    assert list(cache.apply(QueueChanges(removed=[RemovedQueue(id="1", name="orders")]))) == ["orders"]
    assert not list(cache.apply(counts("1", ready=3)))
    cache.forget("orders")
    assert not cache.by_name


def test_a_removal_of_another_queue_with_the_name_changes_nothing() -> None:
    cache = cache_with(ORDERS)
    assert not list(cache.apply(QueueChanges(removed=[RemovedQueue(id="2", name="orders")])))
    assert cache.by_name.keys() == {"orders"}


def test_an_older_revision_does_not_replace_a_newer_one() -> None:
    cache = cache_with(ORDERS)
    cache.observe(observed_queue(replace(ORDERS, revision=1, limit=9)))
    assert cache.by_name["orders"].definition.limit == 5


def test_whole_queues_from_a_server_that_does_not_know_counts_apart_bring_their_counts() -> None:
    cache = cache_with(ORDERS)
    assert list(cache.apply(QueueChanges(queues=[replace(ORDERS, messages=Counts(ready=3))]))) == ["orders"]
    assert cache.by_name["orders"].counts.ready == 3
