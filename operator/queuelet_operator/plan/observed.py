"""Queues as the server tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from queuelet.definition import Counts, DeliverySettings, Owner, StoreKind
from queuelet.errors import StoreFull
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import delivery_to_pb, owner_to_pb, store_from_pb, store_to_pb, tag_from_pb
from queuelet_operator.packed_tags import PackedTags
from queuelet_operator.plan.declared import Declared


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
    """Since when this is known, by `queuelet.clock`."""

    message_since: float = 0.0
    """Since when it has this message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where the server stands."""

    epochs: Mapping[StoreKind, str] | None = None
    """The epoch of each store that it runs with; None while it is away."""

    problems: Mapping[StoreKind, StoreProblem] = field(default_factory=dict)
    """What is wrong with each store with which something is."""

    away_since: float = 0.0
    """Since when it is away, by `queuelet.clock`."""

    why_away: str = ""
    """Why it cannot be reached; empty as long as it was not tried."""

    why_lately: str = ""
    """What tries end with by now, if that is something else. It becomes `why_away` once it has lasted."""

    lately_since: float = 0.0

    @property
    def is_away(self) -> bool:
        """Whether it cannot be reached."""
        return self.epochs is None


MESSAGE_LASTS = 60.0
"""Seconds for which the problem of a store keeps its message: each change of it is a write per Queue."""


def server_away(why: str, before: Server, now: float, *, lasts: float) -> Server:
    """Return where a server stands that could not be reached, because of `why`.

    Another reason than before must last for so many seconds: each change of it is a write for each Queue.
    """
    if not before.is_away or not before.why_away:
        return Server(away_since=now if not before.is_away else before.away_since, why_away=why)
    if why == before.why_away:
        return replace(before, why_lately="", lately_since=0.0)
    if why != before.why_lately:
        return replace(before, why_lately=why, lately_since=now)
    if now < before.lately_since + lasts:
        return before
    return Server(away_since=before.away_since, why_away=why)


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
            problems[kind] = _problem(is_full, each.problem, before.problems.get(kind), now)
    return Server(epochs=epochs, problems=problems)


def _problem(is_full: bool, message: str, old: StoreProblem | None, now: float) -> StoreProblem:  # noqa: FBT001  # one of a pair with the message
    if old is None or old.is_full != is_full:
        return StoreProblem(is_full=is_full, message=message, since=now, message_since=now)
    if message == old.message or now < old.message_since + MESSAGE_LASTS:
        return old
    return replace(old, message=message, message_since=now)


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
            owner=_owner_from_pb(queue.owner) if queue.HasField("owner") else None,
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


def _owner_from_pb(owner: pb.Owner) -> Owner:
    return Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


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
