"""The errors with which a queue refuses a call: their texts and facts."""

from __future__ import annotations

from queuelet.core.host import Host
from queuelet.errors import QueueDraining, QueueEmpty, QueueFull, QueueHeld, QueueNotFound, TooMany


def full(queue: Host) -> QueueFull:
    """Return the error for an Add without room, or with other Adds waiting before it."""
    counts, limit = queue.counts, queue.definition.limit
    return QueueFull(
        f"queue {queue.label} is full: it holds {counts} of at most {limit:,} messages; "
        "take some out, raise its limit, or ask to wait",
        queue=queue.id,
        limit=limit,
        **counts._asdict(),
    )


def empty(queue: Host) -> QueueEmpty:
    """Return the error for a queue without ready messages."""
    return QueueEmpty(f"queue {queue.label} has no message that is ready", queue=queue.id)


def held(queue: Host) -> QueueHeld:
    """Return the error for a call that takes messages while an exclusive consumer holds the queue."""
    return QueueHeld(
        f"queue {queue.label} is held by an exclusive consumer; to wait for your turn, consume it with exclusive set",
        queue=queue.id,
    )


def draining(queue: Host) -> QueueDraining:
    """Return the error for an Add to a draining queue."""
    return QueueDraining(f"queue {queue.label} is draining; it accepts no new messages", queue=queue.id)


def deleted(queue: Host) -> QueueNotFound:
    """Return the error for a call on a queue that was deleted."""
    return QueueNotFound(f"queue {queue.label} was deleted", queue=queue.id)


def too_many(queue: Host, waiting: int) -> TooMany:
    """Return the error for a call that cannot wait because too many calls wait."""
    return TooMany(
        f"queue {queue.label}: {waiting:,} calls are waiting, the maximum for one queue; "
        "retry later, or raise --max-waiting",
        queue=queue.id,
        waiting=waiting,
    )


def too_many_of_peer(queue: Host, peer: str, waiting: int) -> TooMany:
    """Return the error for a call that cannot wait because too many calls from its address wait."""
    return TooMany(
        f"queue {queue.label}: {waiting:,} calls from {peer} are waiting, the maximum for one address; "
        "retry later, or raise --max-waiting-per-peer",
        queue=queue.id,
        waiting=waiting,
        peer=peer,
    )
