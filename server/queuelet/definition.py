"""The definition of a queue, and the states of its messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from queuelet.bounds import UNBOUNDED
from queuelet.tags import Tags


class StoreKind(IntEnum):
    """The store of a queue's messages. The numbers are those of the wire."""

    MEMORY = 1
    DISK = 2


class MessageState(IntEnum):
    """The state of a message between its Add and its removal. The numbers are those of the wire."""

    READY = 1
    DELAYED = 2
    LEASED = 3
    DEAD = 4


class Counts(NamedTuple):
    """The number of messages in each state."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0

    @property
    def total(self) -> int:
        """The number of messages in all states, which is what the limit applies to."""
        return sum(self)

    def __str__(self) -> str:
        """Return the counts as text, such as `2 ready, 0 delayed, 1 leased, 0 dead`."""
        return ", ".join(f"{count:,} {state}" for state, count in self._asdict().items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The owner that declared a queue: `<instance>/<namespace>/<name>`, and the uid of the object of that name."""

    name: str
    uid: str = ""
    namespace_uid: str = ""
    """The uid of the object's namespace; empty if it is not known."""

    def may_be(self, other: Owner) -> bool:
        """Return whether both may have the same name and namespace. The uids of the objects are not compared."""
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
    """The definition of a queue. Everything except its store can be changed later."""

    store: StoreKind = StoreKind.MEMORY
    name: str = ""
    limit: int = UNBOUNDED
    tags: Tags = ()
    owner: Owner | None = None
    delivery: DeliverySettings = DeliverySettings()
    draining: bool = False
