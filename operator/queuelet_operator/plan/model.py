"""The words of the control loop: what is known of an object, and the steps that can be taken for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from queuelet.definition import Counts, Owner
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.observed import ObservedQueue, Server, StoreProblem
from queuelet_operator.plan.resources import QueueObject
from queuelet_operator.plan.status import QueueStatus, timestamp


class Reason(StrEnum):
    """Why a queue is ready or not: the reason of its conditions."""

    READY = "Ready"
    PAUSED = "Paused"
    DRAINING = "WaitingForDrain"
    SERVER_UNAVAILABLE = "ServerUnavailable"
    SERVER_STATE_LOST = "ServerStateLost"
    STORE_FULL = "StoreFull"
    STORE_FAILED = "StoreFailed"
    NOT_OWNER = "NotOwner"
    STORE_MISMATCH = "StoreMismatch"
    STORE_UNAVAILABLE = "StoreUnavailable"
    REFUSED = "DeclarationRefused"


class Cause(StrEnum):
    """Why a queue is declared."""

    CREATED = "created"
    CHANGED = "changed"
    EDITED = "edited"
    """Somebody changed it in the server."""
    DELETED = "deleted"
    """Somebody deleted it in the server."""
    STATE_LOST = "state_lost"
    """The server lost its store."""
    ADOPTED = "adopted"
    TAKEN_OVER = "taken_over"
    """It belonged to an earlier object of this name."""
    REQUESTED = "requested"
    DRAIN = "drain"

    @property
    def is_repair(self) -> bool:
        """Whether it brings back what was there before."""
        return self in {Cause.EDITED, Cause.DELETED, Cause.STATE_LOST}

    @property
    def gets_queue(self) -> bool:
        """Whether the object has a queue by it that it did not have before."""
        return self in {Cause.CREATED, Cause.DELETED, Cause.STATE_LOST, Cause.ADOPTED, Cause.TAKEN_OVER}


class Removal(Enum):
    """What became of a removal."""

    REMOVED = "removed"
    ABSENT = "absent"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """A removal that the server has answered."""

    removal: Removal
    dropped: Counts | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A declaration that the server refused."""

    reason: str
    message: str
    is_final: bool
    """Whether only a change by people can help."""
    retry_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """The surroundings of an object whose queue cannot be removed now."""

    namespace_is_terminating: bool
    server_is_gone: bool
    """Whether the Service of the server was deleted."""
    seen_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """All that is known for one object."""

    object: QueueObject
    server: Server
    queue: ObservedQueue | None = None
    refusal: Refusal | None = None
    removed: Removed | None = None
    home: Home | None = None
    answered: str = ""
    """The last request to reconcile for which the queue was declared."""
    got: Cause | None = None
    """How the object came by its queue, as far as this process knows: None if that was before it started."""
    counts_written_at: float = 0.0
    wall_ahead: float = 0.0
    """How far the wall clock was stepped ahead of the clock that durations are measured by, in seconds."""

    def shown(self, at: float) -> str:
        """Return a time of the clock that durations are measured by as the wall time that people read."""
        return timestamp(at + self.wall_ahead)

    @property
    def problem(self) -> StoreProblem | None:
        """What is wrong with the store that the queue is in, or is to be in."""
        store = self.queue.definition.store if self.queue else self.object.spec.store
        return self.server.problems.get(store)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    instance: str
    address: str
    outage_after: float = 10.0
    counts_every: float = 30.0
    release_after: float = 600.0

    def owner(self, an_object: QueueObject) -> Owner:
        """Return the owner that the object's queue has in the server."""
        return Owner(name=f"{self.instance}/{an_object.key}", uid=an_object.uid, namespace_uid=an_object.namespace_uid)

    def wanted(self, an_object: QueueObject) -> Declared:
        """Return what the object's queue should be."""
        return an_object.spec.definition(an_object.key.queue_name, self.owner(an_object))


# Steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """An Event to post about an object."""

    reason: str
    message: str
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing:
    """All is as it should be, for now or until a time."""

    until: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AddFinalizer:
    """Have the object stay until its queue is dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DropFinalizer:
    """Let the object go."""

    notice: Notice | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Declare:
    """Have the server make the queue what it should be."""

    definition: Declared
    cause: Cause
    adopt: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Remove:
    """Have the server drop the queue."""

    owner: Owner


@dataclass(frozen=True, kw_only=True, slots=True)
class LookAround:
    """Find out about the namespace and the server's Service."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteStatus:
    """Write the status."""

    status: QueueStatus
    only_counts: bool = False
    notice: Notice | None = None


Step = Nothing | AddFinalizer | DropFinalizer | Declare | Remove | LookAround | WriteStatus
