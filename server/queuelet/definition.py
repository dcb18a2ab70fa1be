"""What a queue should be, and the words for what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from queuelet.bounds import UNBOUNDED
from queuelet.tags import Tags


class StoreKind(IntEnum):
    """Where messages live. The numbers are those of the wire."""

    MEMORY = 1
    DISK = 2


class State(IntEnum):
    """Where a message stands between its Add and its end. The numbers are those of the wire."""

    READY = 1
    DELAYED = 2
    LEASED = 3
    DEAD = 4


class Counts(NamedTuple):
    """Messages by state."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0

    @property
    def total(self) -> int:
        """All of them: what the limit counts."""
        return sum(self)

    def __str__(self) -> str:
        """Read as in a sentence."""
        return ", ".join(f"{count:,} {state}" for state, count in self._asdict().items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who declared a queue: `<instance>/<namespace>/<name>`, and the uid of the object of that name."""

    name: str
    uid: str = ""
    namespace_uid: str = ""
    """The uid of the object's namespace; empty where it is not known."""

    def may_be(self, other: Owner) -> bool:
        """Return whether both may be objects of one name in one namespace, whatever the uids of the objects."""
        known = self.namespace_uid and other.namespace_uid
        return self.name == other.name and (not known or self.namespace_uid == other.namespace_uid)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverySettings:
    """How messages are delivered. Times are in seconds."""

    lease_seconds: int = 30
    """How long a consumer has a message before it is given to another."""

    max_deliveries: int = 5
    """How often a message is given before it is dead."""

    message_ttl_seconds: int | None = None
    """How long a message may stay before it is dead; None for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """What a queue should be. All but the store can change."""

    store: StoreKind = StoreKind.MEMORY
    name: str = ""
    limit: int = UNBOUNDED
    tags: Tags = ()
    owner: Owner | None = None
    delivery: DeliverySettings = DeliverySettings()
    draining: bool = False
