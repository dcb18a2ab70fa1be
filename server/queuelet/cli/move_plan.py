"""Decides what `move` does, without I/O: what it refuses, in which order it moves, and how a message is added.

A move must not depend on how far an earlier one came. So each message keeps its ID, by which the other queue recognizes
it, and it is purged only after the other queue has confirmed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from queuelet.errors import InvalidArgument
from queuelet.v1 import queue_pb2 as pb

LARGE = 3 * 1024 * 1024
"""A message with a larger payload keeps only its newest failed delivery, so that its request is not too large."""

_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Delayed:
    """A message that is not ready yet."""

    until: int
    """When its delay ends, in nanoseconds since 1970."""
    id: str
    size: int
    """The size of its payload, in bytes."""


@dataclass(slots=True)
class Moved:
    """The progress of a move, in messages."""

    ready: int = 0
    delayed: int = 0
    dead: int = 0
    duplicates: int = 0
    """Those of them that were in the other queue already, because an earlier move was interrupted."""

    @property
    def total(self) -> int:
        """All messages."""
        return self.ready + self.delayed + self.dead

    def count(self, messages: Iterable[pb.BrowsedMessage]) -> None:
        """Count messages that the other queue has confirmed."""
        for each in messages:
            if each.state == pb.MESSAGE_STATE_DEAD:
                self.dead += 1
            elif each.state == pb.MESSAGE_STATE_DELAYED:
                self.delayed += 1
            else:
                self.ready += 1


def check(source: pb.Queue, target: pb.Queue, *, end_leases: bool) -> None:
    """Raise `InvalidArgument` if the messages of one queue should not be moved to the other."""
    name = source.name or source.meta.id
    other = target.name or target.meta.id
    if (source.meta.id, source.epoch) == (target.meta.id, target.epoch):
        raise InvalidArgument(f"--to: {other} is the queue itself; give another one", field="to")
    if target.store == pb.Queue.MEMORY != source.store:
        raise InvalidArgument(
            f"--to: queue {other} is in memory, so its messages would no longer survive a crash; "
            "give a queue on disk or in PostgreSQL",
            field="to",
        )
    if source.messages.leased and not end_leases:
        raise InvalidArgument(
            f"queue {name} has leased messages ({source.messages.leased:,}); stop its consumers and wait, or give "
            "--end-leases to have these messages delivered again from the other queue",
            field="queue",
        )


def delayed_in_order(messages: Iterable[pb.BrowsedMessage]) -> list[Delayed]:
    """Return delayed messages, which come in the order of their Adds, in the order in which they become ready."""
    found = [Delayed(each.until.ToNanoseconds(), each.message.meta.id, each.payload_size) for each in messages]
    return sorted(found, key=lambda each: each.until)


def with_facts(peeked: Sequence[pb.Message], facts: Iterable[pb.BrowsedMessage]) -> list[pb.BrowsedMessage]:
    """Return the first ready messages in their order, with what Browse says about their deliveries.

    Messages that are not ready any more are left out.
    """
    found = {each.message.meta.id: each for each in facts if each.state == pb.MESSAGE_STATE_READY}
    complete: list[pb.BrowsedMessage] = []
    for message in peeked:
        each = found.get(message.meta.id)
        if each is not None:
            each.message.CopyFrom(message)
            complete.append(each)
    return complete


def in_order_of(ids: Iterable[str], messages: Iterable[pb.BrowsedMessage]) -> list[pb.BrowsedMessage]:
    """Return messages in the order of these IDs, without those that were not found."""
    found = {each.message.meta.id: each for each in messages}
    return [found[each] for each in ids if each in found]


def to_new(browsed: pb.BrowsedMessage, now: int) -> pb.NewMessage:
    """Return a message as it is added to the other queue at `now`, in nanoseconds since 1970."""
    message = browsed.message
    new = pb.NewMessage(id=message.meta.id, payload=message.payload, tags=message.meta.tags, priority=message.priority)
    if browsed.state == pb.MESSAGE_STATE_DELAYED:
        new.not_before.CopyFrom(browsed.until)
    if message.HasField("ttl"):
        new.ttl.FromNanoseconds(_ttl_left(browsed, now))
    if browsed.count or browsed.tries or browsed.reason:
        tries = browsed.tries[-1:] if len(message.payload) > LARGE else browsed.tries
        new.past.MergeFrom(pb.PastDeliveries(count=browsed.count, tries=tries, reason=browsed.reason))
        if browsed.HasField("died"):
            new.past.died.CopyFrom(browsed.died)
    return new


def _ttl_left(browsed: pb.BrowsedMessage, now: int) -> int:
    """Return how long a message still lives, in nanoseconds.

    The time to live of a dead message begins when it is redriven, so all of it is left. So it is for a message that was
    redriven: it is older than its time to live, and alive.
    """
    message = browsed.message
    ttl = message.ttl.ToNanoseconds()
    left = message.meta.created.ToNanoseconds() + ttl - now
    return ttl if browsed.state == pb.MESSAGE_STATE_DEAD or left < _MILLISECOND else min(left, ttl)
