"""Conversion between protobuf messages and values, for server, client and operator.

Functions that convert what a server sent raise one of `UNREADABLE` if it has a value that this version does not know,
or a time that Python cannot represent.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from queuelet.definition import Counts, DeliverySettings, Durability, EventKind, MessageState, Owner, StoreKind
from queuelet.errors import InvalidArgument
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import (
    ConsumerInfo,
    ConsumerKind,
    DeclareOutcome,
    DeclareResult,
    HistoryPoint,
    Queue,
    QueueChanges,
    QueueConsumers,
    QueueCounts,
    QueueDeclaration,
    QueueHistory,
    QueueRemoval,
    QueueStats,
    RedriveProgress,
    RemovedQueue,
    RemoveOutcome,
    RemoveResult,
    ServerStats,
    StoreState,
)
from queuelet.wire.errors import error_from_pb

UNREADABLE = (KeyError, OverflowError, ValueError)
"""What a conversion from protobuf raises."""

# Parts of queues


def counts_to_pb(counts: Counts) -> pb.MessageCounts:
    """Return counts as protobuf."""
    return pb.MessageCounts(**counts._asdict())


def counts_from_pb(counts: pb.MessageCounts) -> Counts:
    """Return counts from protobuf."""
    return Counts(ready=counts.ready, delayed=counts.delayed, leased=counts.leased, dead=counts.dead)


def owner_to_pb(owner: Owner) -> pb.Owner:
    """Return an owner as protobuf."""
    return pb.Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


def owner_from_pb(owner: pb.Owner) -> Owner:
    """Return an owner from protobuf."""
    return Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


_STORES = {
    StoreKind.MEMORY: pb.Queue.MEMORY,
    StoreKind.DISK: pb.Queue.DISK,
    StoreKind.POSTGRES: pb.Queue.POSTGRES,
}

_DURABILITIES = {
    Durability.MEMORY: pb.DURABILITY_MEMORY,
    Durability.DISK: pb.DURABILITY_DISK,
    Durability.REPLICATED: pb.DURABILITY_REPLICATED,
}


def durability_to_pb(durability: Durability) -> pb.Durability:
    """Return what a change survives as protobuf."""
    return _DURABILITIES[durability]


def store_to_pb(kind: StoreKind) -> pb.Queue.Store:
    """Return a store as protobuf."""
    return _STORES[kind]


def store_from_pb(number: int) -> StoreKind:
    """Return a store from its number. Raises `InvalidArgument` if there is none with it."""
    try:
        return StoreKind(number)
    except ValueError:
        raise InvalidArgument(
            f"store: there is no store {number}; use MEMORY (1), DISK (2) or POSTGRES (3)", field="store"
        ) from None


_STATES = {
    MessageState.READY: pb.MESSAGE_STATE_READY,
    MessageState.DELAYED: pb.MESSAGE_STATE_DELAYED,
    MessageState.LEASED: pb.MESSAGE_STATE_LEASED,
    MessageState.DEAD: pb.MESSAGE_STATE_DEAD,
}


def states_to_pb(states: Iterable[MessageState]) -> list[pb.MessageState]:
    """Return states of messages as protobuf. Raises `ValueError` for anything else."""
    return [_STATES[MessageState(state)] for state in states]


_EVENT_KINDS = {
    EventKind.ADDED: pb.TailEvent.KIND_ADDED,
    EventKind.LEASED: pb.TailEvent.KIND_LEASED,
    EventKind.POPPED: pb.TailEvent.KIND_POPPED,
    EventKind.ACKED: pb.TailEvent.KIND_ACKED,
    EventKind.RETURNED: pb.TailEvent.KIND_RETURNED,
    EventKind.DIED: pb.TailEvent.KIND_DIED,
    EventKind.REDRIVEN: pb.TailEvent.KIND_REDRIVEN,
    EventKind.PURGED: pb.TailEvent.KIND_PURGED,
}


def event_kind_to_pb(kind: EventKind) -> pb.TailEvent.Kind:
    """Return what happened to a message as protobuf."""
    return _EVENT_KINDS[kind]


def tag_from_pb(tag: pb.Tag) -> Tag:
    """Return a tag from protobuf."""
    return Tag(tag.key, tag.value)


def tags_to_pb(tags: Tags) -> list[pb.Tag]:
    """Return tags as protobuf."""
    return [pb.Tag(key=key, value=value) for key, value in tags]


def delivery_to_pb(delivery: DeliverySettings) -> pb.DeliverySettings:
    """Return delivery settings as protobuf."""
    return pb.DeliverySettings(
        lease_seconds=delivery.lease_seconds,
        max_deliveries=delivery.max_deliveries,
        message_ttl_seconds=delivery.message_ttl_seconds,
    )


def delivery_from_pb(delivery: pb.DeliverySettings) -> DeliverySettings:
    """Return the delivery settings of a queue, which are complete."""
    return DeliverySettings(
        lease_seconds=delivery.lease_seconds,
        max_deliveries=delivery.max_deliveries,
        message_ttl_seconds=delivery.message_ttl_seconds if delivery.HasField("message_ttl_seconds") else None,
    )


# What a client sends


def declaration_to_pb(declaration: QueueDeclaration) -> pb.QueueDeclaration:
    """Return the declaration of a queue as protobuf."""
    definition = declaration.definition
    return pb.QueueDeclaration(
        name=definition.name,
        id=declaration.queue_id,
        store=store_to_pb(definition.store),
        limit=definition.limit,
        tags=tags_to_pb(definition.tags),
        owner=owner_to_pb(definition.owner) if definition.owner else None,
        adopt=declaration.adopt,
        delivery=delivery_to_pb(definition.delivery),
        draining=definition.draining,
    )


def removal_to_pb(removal: QueueRemoval) -> pb.QueueRemoval:
    """Return the removal of a queue as protobuf."""
    return pb.QueueRemoval(queue_id=removal.queue, owner=owner_to_pb(removal.owner) if removal.owner else None)


# What a server sends


def queue_from_pb(queue: pb.Queue) -> Queue:
    """Return a queue from protobuf."""
    return Queue(
        id=queue.meta.id,
        name=queue.name,
        store=StoreKind(queue.store),
        limit=queue.limit,
        tags=tuple(map(tag_from_pb, queue.meta.tags)),
        owner=owner_from_pb(queue.owner) if queue.HasField("owner") else None,
        delivery=delivery_from_pb(queue.delivery),
        draining=queue.draining,
        messages=counts_from_pb(queue.messages),
        created=queue.meta.created.ToDatetime(UTC),
        revision=queue.revision,
        epoch=queue.epoch,
    )


_DECLARE_OUTCOMES = {
    pb.DeclareResult.OUTCOME_CREATED: DeclareOutcome.CREATED,
    pb.DeclareResult.OUTCOME_UPDATED: DeclareOutcome.UPDATED,
    pb.DeclareResult.OUTCOME_UNCHANGED: DeclareOutcome.UNCHANGED,
    pb.DeclareResult.OUTCOME_REFUSED: DeclareOutcome.REFUSED,
}
_DECLARE_NUMBERS = {outcome: number for number, outcome in _DECLARE_OUTCOMES.items()}

_REMOVE_OUTCOMES = {
    pb.RemoveResult.OUTCOME_REMOVED: RemoveOutcome.REMOVED,
    pb.RemoveResult.OUTCOME_ABSENT: RemoveOutcome.ABSENT,
    pb.RemoveResult.OUTCOME_REFUSED: RemoveOutcome.REFUSED,
}


def declare_outcome_to_pb(outcome: DeclareOutcome) -> pb.DeclareResult.Outcome:
    """Return the outcome of a declaration as protobuf."""
    return _DECLARE_NUMBERS[outcome]


def declare_result_from_pb(result: pb.DeclareResult) -> DeclareResult:
    """Return the result of a declaration from protobuf."""
    outcome = _DECLARE_OUTCOMES[result.outcome]
    return DeclareResult(
        outcome=outcome,
        queue=queue_from_pb(result.queue) if result.HasField("queue") else None,
        previous_owner=owner_from_pb(result.previous_owner) if result.HasField("previous_owner") else None,
        error=error_from_pb(result.error) if outcome is DeclareOutcome.REFUSED else None,
    )


def remove_result_from_pb(result: pb.RemoveResult) -> RemoveResult:
    """Return the result of a removal from protobuf."""
    outcome = _REMOVE_OUTCOMES[result.outcome]
    return RemoveResult(
        outcome=outcome,
        dropped=counts_from_pb(result.dropped),
        error=error_from_pb(result.error) if outcome is RemoveOutcome.REFUSED else None,
    )


def queue_counts_from_pb(counts: pb.QueueCounts) -> QueueCounts:
    """Return the counts and totals of a queue from protobuf."""
    return QueueCounts(
        id=counts.id,
        messages=counts_from_pb(counts.messages),
        enqueued=counts.enqueued,
        consumed=counts.consumed,
        acked=counts.acked,
        oldest_ready=counts.oldest_ready.ToDatetime(UTC) if counts.HasField("oldest_ready") else None,
    )


def changes_from_pb(response: pb.WatchQueuesResponse) -> QueueChanges:
    """Return a batch of changes from protobuf."""
    return QueueChanges(
        queues=tuple(map(queue_from_pb, response.queues)),
        counts=tuple(map(queue_counts_from_pb, response.counts)),
        removed=tuple(RemovedQueue(id=each.id, name=each.name) for each in response.removed),
        stores=tuple(map(_store_state_from_pb, response.stores)),
        snapshot_complete=response.snapshot_complete,
    )


def _store_state_from_pb(state: pb.StoreEpoch) -> StoreState:
    return StoreState(
        store=StoreKind(state.store),
        epoch=state.epoch,
        problem=state.problem,
        reason=state.reason,
        durability=Durability(state.durability) if state.durability else None,
    )


def server_stats_from_pb(stats: pb.ServerStats) -> ServerStats:
    """Return the statistics of a server from protobuf."""
    return ServerStats(
        version=stats.version,
        started=stats.started.ToDatetime(UTC),
        stores=tuple(map(_store_state_from_pb, stats.stores)),
        queues=stats.queues,
        messages=counts_from_pb(stats.messages),
        memory_bytes=stats.memory_bytes,
        memory_watermark_bytes=stats.memory_watermark_bytes,
    )


def queue_stats_from_pb(stats: pb.QueueStats) -> QueueStats:
    """Return the statistics of a queue from protobuf."""
    return QueueStats(
        queue=queue_from_pb(stats.queue),
        enqueued=stats.enqueued,
        consumed=stats.consumed,
        purged=stats.purged,
        refused_full=stats.refused_full,
        stored_bytes=stats.stored_bytes,
        oldest_ready_age=stats.oldest_ready_age.ToTimedelta() if stats.HasField("oldest_ready_age") else None,
        waiting_calls=stats.waiting_calls,
        leased=stats.leased,
        redelivered=stats.redelivered,
        acked=stats.acked,
        nacked=stats.nacked,
        released=stats.released,
        expired=stats.expired,
        buried=stats.buried,
        redriven=stats.redriven,
        damaged=stats.damaged,
    )


def history_from_pb(response: pb.GetHistoryResponse) -> QueueHistory:
    """Return the history of a queue from protobuf."""
    points = (
        HistoryPoint(
            time=point.time.ToDatetime(UTC),
            messages=counts_from_pb(point.messages),
            enqueued=point.enqueued,
            removed=point.removed,
        )
        for point in response.points
    )
    return QueueHistory(points=tuple(points), since=response.since.ToDatetime(UTC))


_CONSUMER_KINDS = {
    pb.Consumer.KIND_STREAM: ConsumerKind.STREAM,
    pb.Consumer.KIND_RECEIVE: ConsumerKind.RECEIVE,
}


def consumers_from_pb(response: pb.ListConsumersResponse) -> QueueConsumers:
    """Return the consumers of a queue from protobuf."""
    return QueueConsumers(
        consumers=tuple(map(_consumer_from_pb, response.consumers)),
        waiting_for_message=response.waiting_for_message,
        waiting_for_space=response.waiting_for_space,
        other_leases=response.other_leases,
    )


def _consumer_from_pb(consumer: pb.Consumer) -> ConsumerInfo:
    return ConsumerInfo(
        kind=_CONSUMER_KINDS[consumer.kind],
        name=consumer.name,
        peer=consumer.peer,
        since=consumer.since.ToDatetime(UTC),
        exclusive=consumer.exclusive,
        holds_queue=consumer.holds_queue,
        credit=consumer.credit,
        leases=consumer.leases,
        last_settled=consumer.last_settled.ToDatetime(UTC) if consumer.HasField("last_settled") else None,
        next_deadline=consumer.next_deadline.ToDatetime(UTC) if consumer.HasField("next_deadline") else None,
    )


def progress_from_pb(response: pb.RedriveResponse) -> RedriveProgress:
    """Return the progress of a redrive from protobuf."""
    return RedriveProgress(redriven=response.redriven, remaining=response.remaining)
