"""Queues as the server tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from queuelet.definition import Counts, Definition, Delivery, Owner, StoreKind
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import delivery_to_pb, owner_to_pb, store_to_pb, tag_from_pb


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedQueue:
    """A queue as the server last told of it."""

    id: str
    definition: Definition
    revision: int
    counts: Counts
    epoch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where the server stands."""

    epochs: Mapping[StoreKind, str] | None = None
    """The epoch of each store that it runs with; None while it is away."""

    away_since: float = 0.0
    """Since when it is away, in seconds since 1970."""

    why_away: str = ""
    """What the last try to reach it ended with."""

    @property
    def is_away(self) -> bool:
        """Whether it cannot be reached."""
        return self.epochs is None


def queue_from_pb(queue: pb.Queue) -> ObservedQueue:
    """Return a queue from the wire."""
    delivery = queue.delivery
    return ObservedQueue(
        id=queue.meta.id,
        definition=Definition(
            store=StoreKind(queue.store),
            name=queue.name,
            limit=queue.limit,
            tags=tuple(map(tag_from_pb, queue.meta.tags)),
            owner=Owner(name=queue.owner.name, uid=queue.owner.uid) if queue.HasField("owner") else None,
            delivery=Delivery(
                lease_seconds=delivery.lease_seconds,
                max_deliveries=delivery.max_deliveries,
                message_ttl_seconds=delivery.message_ttl_seconds if delivery.HasField("message_ttl_seconds") else None,
            ),
            draining=queue.draining,
        ),
        revision=queue.revision,
        counts=counts_from_pb(queue.messages),
        epoch=queue.epoch,
    )


def counts_from_pb(counts: pb.MessageCounts) -> Counts:
    """Return counts from the wire."""
    return Counts(ready=counts.ready, delayed=counts.delayed, leased=counts.leased, dead=counts.dead)


def declaration_to_pb(definition: Definition, *, queue_id: str, adopt: bool) -> pb.QueueDeclaration:
    """Return what asks the server for a queue; it gets this id if there is none of its name yet."""
    return pb.QueueDeclaration(
        name=definition.name,
        id=queue_id,
        store=store_to_pb(definition.store),
        limit=definition.limit,
        tags=[pb.Tag(key=tag.key, value=tag.value) for tag in definition.tags],
        owner=owner_to_pb(definition.owner) if definition.owner else None,
        adopt=adopt,
        delivery=delivery_to_pb(definition.delivery),
        draining=definition.draining,
    )
