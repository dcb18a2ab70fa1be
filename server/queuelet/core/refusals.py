"""What a queue says when it refuses: the sentences of its errors, and the facts that go with them."""

from __future__ import annotations

from typing import Protocol

from queuelet.definition import Counts, Definition
from queuelet.errors import QueueDraining, QueueEmpty, QueueFull, QueueHeld, QueueNotFound, TooMany


class Refuser(Protocol):
    """A queue, as far as its refusals tell of it."""

    id: str
    definition: Definition

    @property
    def label(self) -> str:
        """What people call it."""

    @property
    def counts(self) -> Counts:
        """Its messages by state."""

    @property
    def waiting(self) -> int:
        """How many calls wait on it."""


def full(queue: Refuser) -> QueueFull:
    """Say that there is no room, or that others wait for it."""
    counts, limit = queue.counts, queue.definition.limit
    return QueueFull(
        f"queue {queue.label} is full: it holds {counts} of at most {limit:,} messages; "
        "take some out, raise its limit, or ask to wait",
        queue=queue.id,
        limit=limit,
        **counts._asdict(),
    )


def empty(queue: Refuser) -> QueueEmpty:
    """Say that there is nothing to take."""
    return QueueEmpty(f"queue {queue.label} has no message that is ready", queue=queue.id)


def held(queue: Refuser) -> QueueHeld:
    """Say that somebody else holds the queue."""
    return QueueHeld(
        f"queue {queue.label} is held by an exclusive consumer: consume it with exclusive set, and stand in line",
        queue=queue.id,
    )


def draining(queue: Refuser) -> QueueDraining:
    """Say that the queue is only emptied."""
    return QueueDraining(f"queue {queue.label} is draining: it takes no more messages", queue=queue.id)


def deleted(queue: Refuser) -> QueueNotFound:
    """Say that the queue is gone."""
    return QueueNotFound(f"queue {queue.label} was deleted", queue=queue.id)


def too_many(queue: Refuser) -> TooMany:
    """Say that no more calls may wait."""
    return TooMany(
        f"queue {queue.label} has {queue.waiting:,} calls waiting, the most it may have: "
        "try again later, or raise --max-waiting",
        queue=queue.id,
        waiting=queue.waiting,
    )


def too_many_of_peer(queue: Refuser, peer: str, waiting: int) -> TooMany:
    """Say that no more calls from one address may wait."""
    return TooMany(
        f"queue {queue.label}: {waiting:,} calls from {peer} wait, the most that one address may have; "
        "try again later, or raise --max-waiting-per-peer",
        queue=queue.id,
        waiting=waiting,
        peer=peer,
    )
