"""Queues as the server tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from queuelet.definition import Counts, DeliverySettings, Owner, StoreKind
from queuelet.errors import StoreFull
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import delivery_to_pb, owner_to_pb, store_from_pb, store_to_pb, tag_from_pb
from queuelet_operator.declared import Declared
from queuelet_operator.packed_tags import PackedTags


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedQueue:
    """A queue as the server last told of it."""

    id: str
    definition: Declared
    revision: int
    counts: Counts
    epoch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreProblem:
    """What is wrong with a store of the server."""

    is_full: bool
    """Whether messages can be taken but not added. If not, it has failed, and nothing can be done with its queues."""

    message: str
    since: float
    """Since when this is known, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where the server stands."""

    epochs: Mapping[StoreKind, str] | None = None
    """The epoch of each store that it runs with; None while it is away."""

    problems: Mapping[StoreKind, StoreProblem] = field(default_factory=dict)
    """What is wrong with each store with which something is."""

    away_since: float = 0.0
    """Since when it is away, in seconds since 1970."""

    why_away: str = ""
    """What the last try to reach it ended with."""

    @property
    def is_away(self) -> bool:
        """Whether it cannot be reached."""
        return self.epochs is None


def server_with(stores: Iterable[pb.StoreEpoch], before: Server, now: float) -> Server:
    """Return where a server stands that has told of these stores. A problem that goes on is as old as it was before."""
    epochs: dict[StoreKind, str] = {}
    problems: dict[StoreKind, StoreProblem] = {}
    for each in stores:
        kind = store_from_pb(each.store)
        epochs[kind] = each.epoch
        if each.problem:
            # A reason that a later server may have is taken for the worse one: then nothing is tried.
            is_full = each.reason == StoreFull.reason
            old = before.problems.get(kind)
            since = old.since if old and old.is_full == is_full else now
            problems[kind] = StoreProblem(is_full=is_full, message=each.problem, since=since)
    return Server(epochs=epochs, problems=problems)


def queue_from_pb(queue: pb.Queue) -> ObservedQueue:
    """Return a queue from the wire."""
    delivery = queue.delivery
    return ObservedQueue(
        id=queue.meta.id,
        definition=Declared(
            store=StoreKind(queue.store),
            name=queue.name,
            limit=queue.limit,
            tags=PackedTags(map(tag_from_pb, queue.meta.tags)),
            owner=Owner(name=queue.owner.name, uid=queue.owner.uid) if queue.HasField("owner") else None,
            delivery=DeliverySettings(
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


def declaration_to_pb(definition: Declared, *, queue_id: str, adopt: bool) -> pb.QueueDeclaration:
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
