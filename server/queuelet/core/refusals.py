"""The errors with which a queue refuses a call: their texts and facts."""

from __future__ import annotations

from typing import Protocol

from queuelet.definition import Counts, QueueDefinition
from queuelet.errors import QueueDraining, QueueEmpty, QueueFull, QueueHeld, QueueNotFound, TooMany


class Refuser(Protocol):
    """A queue, as far as its errors need to know it."""

    id: str
    definition: QueueDefinition

    @property
    def label(self) -> str:
        """The name of the queue, or its ID."""

    @property
    def counts(self) -> Counts:
        """The number of messages in each state."""

    @property
    def waiting(self) -> int:
        """The number of calls that wait on the queue."""


def full(queue: Refuser) -> QueueFull:
    """Return the error for an Add without room, or with other Adds waiting before it."""
    counts, limit = queue.counts, queue.definition.limit
    return QueueFull(
        f"queue {queue.label} is full: it holds {counts} of at most {limit:,} messages; "
        "take some out, raise its limit, or ask to wait",
        queue=queue.id,
        limit=limit,
        **counts._asdict(),
    )


def empty(queue: Refuser) -> QueueEmpty:
    """Return the error for a queue without ready messages."""
    return QueueEmpty(f"queue {queue.label} has no message that is ready", queue=queue.id)


def held(queue: Refuser) -> QueueHeld:
    """Return the error for a call that takes messages while an exclusive consumer holds the queue."""
    return QueueHeld(
        f"queue {queue.label} is held by an exclusive consumer; to wait for your turn, consume it with exclusive set",
        queue=queue.id,
    )


def draining(queue: Refuser) -> QueueDraining:
    """Return the error for an Add to a draining queue."""
    return QueueDraining(f"queue {queue.label} is draining; it accepts no new messages", queue=queue.id)


def deleted(queue: Refuser) -> QueueNotFound:
    """Return the error for a call on a queue that was deleted."""
    return QueueNotFound(f"queue {queue.label} was deleted", queue=queue.id)


def too_many(queue: Refuser) -> TooMany:
    """Return the error for a call that cannot wait because too many calls wait."""
    return TooMany(
        f"queue {queue.label}: {queue.waiting:,} calls are waiting, the maximum for one queue; "
        "retry later, or raise --max-waiting",
        queue=queue.id,
        waiting=queue.waiting,
    )


def too_many_of_peer(queue: Refuser, peer: str, waiting: int) -> TooMany:
    """Return the error for a call that cannot wait because too many calls from its address wait."""
    return TooMany(
        f"queue {queue.label}: {waiting:,} calls from {peer} are waiting, the maximum for one address; "
        "retry later, or raise --max-waiting-per-peer",
        queue=queue.id,
        waiting=waiting,
        peer=peer,
    )
