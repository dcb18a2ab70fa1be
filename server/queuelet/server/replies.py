"""Builds parts of responses: protobuf messages from queues and stores."""

from __future__ import annotations

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.storage import NotLoaded
from queuelet.core.stored_form import created_of
from queuelet.errors import StoreFailed
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import counts_to_pb, delivery_to_pb, durability_to_pb, owner_to_pb, store_to_pb, tags_to_pb


def queue_to_pb(queue: Queue) -> pb.Queue:
    """Return a queue as protobuf."""
    definition = queue.definition
    message = pb.Queue(
        meta=pb.Metadata(id=queue.id, tags=tags_to_pb(definition.tags)),
        store=store_to_pb(definition.store),
        name=definition.name,
        limit=definition.limit,
        delivery=delivery_to_pb(definition.delivery),
        draining=definition.draining,
        revision=queue.revision,
        messages=counts_to_pb(queue.counts),
        epoch=queue.epoch,
    )
    message.meta.created.FromNanoseconds(queue.created)
    if definition.owner:
        message.owner.CopyFrom(owner_to_pb(definition.owner))
    return message


def queue_counts_to_pb(queue: Queue) -> pb.QueueCounts:
    """Return the counts and totals of a queue as protobuf."""
    # First, because it ends overdue leases and delays.
    oldest = _oldest_ready(queue)
    tally = queue.tally
    counts = pb.QueueCounts(
        id=queue.id,
        messages=counts_to_pb(queue.counts),
        enqueued=tally.enqueued,
        consumed=tally.consumed,
        acked=tally.acked,
    )
    if oldest:
        counts.oldest_ready.FromNanoseconds(oldest)
    return counts


def _oldest_ready(queue: Queue) -> int:
    """Return when the first ready message was added, in ns; 0 if none is ready or it cannot be read now."""
    try:
        first = queue.peek_batch(1, 0, now_ns())
    except (StoreFailed, NotLoaded):
        return 0
    return created_of(first[0]) if first else 0


def store_epochs(manager: Manager) -> list[pb.StoreEpoch]:
    """Return the epoch and problem of each store of the server."""
    return [
        pb.StoreEpoch(
            store=store_to_pb(kind),
            epoch=store.epoch,
            problem=store.problem,
            reason=store.problem_reason,
            durability=durability_to_pb(store.durability),
        )
        for kind, store in manager.states.items()
    ]
