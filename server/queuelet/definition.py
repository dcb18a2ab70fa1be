"""The definition of a queue, and the enums that describe its messages. Their numbers are those of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from queuelet.bounds import UNBOUNDED
from queuelet.tags import Tags


class StoreKind(IntEnum):
    """The store of a queue's messages."""

    MEMORY = 1
    """In memory: messages are lost when the server stops."""

    DISK = 2
    """On disk: messages survive a crash of the server."""

    POSTGRES = 3
    """In a PostgreSQL database: messages also survive the loss of a machine, if the database is replicated."""


class Durability(IntEnum):
    """What a committed change survives."""

    MEMORY = 1
    """Nothing: it is in memory, and is lost when the server stops."""

    DISK = 2
    """The end of the server and of its machine, because it is synced to a disk."""

    REPLICATED = 3
    """The loss of a machine, because it is synced to the disks of several."""


class MessageState(IntEnum):
    """The state of a message between its Add and its removal."""

    READY = 1
    """It can be delivered now."""

    DELAYED = 2
    """It can be delivered later: it was added with a delay, or given back with one."""

    LEASED = 3
    """A consumer has it until its lease expires."""

    DEAD = 4
    """It is not delivered any more, unless it is redriven."""


class DeathReason(IntEnum):
    """Why a message is dead."""

    MAX_DELIVERIES = 1
    """It was delivered as often as its queue allows, and never acknowledged."""

    EXPIRED = 2
    """Its time to live was over."""

    REJECTED = 3
    """A consumer reported that another try would not help."""


class TryOutcome(IntEnum):
    """How a delivery ended if the message was not acknowledged."""

    NACKED = 1
    """The consumer gave the message back."""

    LEASE_EXPIRED = 2
    """The lease expired."""

    RELEASED = 3
    """The stream that the message was delivered on ended."""


class EventKind(IntEnum):
    """What happened to a message, as Tail reports it."""

    ADDED = 1
    """It was added."""

    LEASED = 2
    """It was leased to a consumer."""

    POPPED = 3
    """It was popped."""

    ACKED = 4
    """It was acknowledged."""

    RETURNED = 5
    """Its lease was given back or ended, and it is in the queue again."""

    DIED = 6
    """It became dead."""

    REDRIVEN = 7
    """It was dead, and was made ready again."""

    PURGED = 8
    """It was purged."""


class Counts(NamedTuple):
    """The number of messages in each state."""

    ready: int = 0
    """Messages that can be delivered now."""

    delayed: int = 0
    """Messages that can be delivered later."""

    leased: int = 0
    """Messages that consumers have leased."""

    dead: int = 0
    """Messages that are not delivered any more."""

    @property
    def total(self) -> int:
        """The number of messages in all states, which is what the limit applies to."""
        return sum(self)

    def __str__(self) -> str:
        """Return the counts as text, such as `2 ready, 0 delayed, 1 leased, 0 dead`."""
        return ", ".join(f"{count:,} {state}" for state, count in self._asdict().items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The owner that declared a queue, such as an object of Kubernetes."""

    name: str
    """The owner's name; that of an object of Kubernetes is `<instance>/<namespace>/<name>`."""

    uid: str = ""
    """The uid of the object of that name; empty if it has none."""

    namespace_uid: str = ""
    """The uid of the object's namespace; empty if it is not known."""

    def may_be(self, other: Owner) -> bool:
        """Return whether both may have the same name and namespace. The uids of the objects are not compared.

        Args:
            other: The owner to compare with.
        """
        known = self.namespace_uid and other.namespace_uid
        return self.name == other.name and (not known or self.namespace_uid == other.namespace_uid)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverySettings:
    """How messages are delivered. Times are in seconds."""

    lease_seconds: int = 30
    """How long a consumer may hold a message before it is redelivered."""

    max_deliveries: int = 5
    """How often a message is delivered before it is dead."""

    message_ttl_seconds: int | None = None
    """How long a message may stay before it is dead; None for no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDefinition:
    """The definition of a queue. Everything except its store and its name can be changed later."""

    store: StoreKind = StoreKind.MEMORY
    """Where the messages are stored."""

    name: str = ""
    """A unique name; empty for a queue that only has an ID."""

    limit: int = UNBOUNDED
    """The largest number of messages in all states; -1 for unlimited."""

    tags: Tags = ()
    """Tags of the queue, without duplicates."""

    owner: Owner | None = None
    """The owner; None if the queue has none."""

    delivery: DeliverySettings = DeliverySettings()
    """Leases, number of deliveries and time to live."""

    draining: bool = False
    """Whether no messages can be added, so that consumers can empty the queue."""
