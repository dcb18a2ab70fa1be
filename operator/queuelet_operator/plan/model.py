"""The types of the control loop: what the operator knows about an object, and the steps it can take for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from queuelet.definition import Counts, Owner
from queuelet.values import RemoveOutcome
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.observed import ObservedQueue, Server, StoreProblem
from queuelet_operator.plan.resources import QueueObject
from queuelet_operator.plan.status import QueueStatus, timestamp


class Reason(StrEnum):
    """The reason of an object's conditions."""

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
    """Why the operator declares a queue."""

    CREATED = "created"
    CHANGED = "changed"
    EDITED = "edited"
    """Another client changed the queue on the server."""
    DELETED = "deleted"
    """Another client deleted the queue on the server."""
    STATE_LOST = "state_lost"
    """The server's store was lost or replaced."""
    ADOPTED = "adopted"
    TAKEN_OVER = "taken_over"
    """The queue belonged to an earlier object with this name."""
    REQUESTED = "requested"
    DRAIN = "drain"

    @property
    def is_repair(self) -> bool:
        """Whether the declaration restores a queue that existed before."""
        return self in {Cause.EDITED, Cause.DELETED, Cause.STATE_LOST}

    @property
    def gets_queue(self) -> bool:
        """Whether the declaration gives the object a queue that it did not have before."""
        return self in {Cause.CREATED, Cause.DELETED, Cause.STATE_LOST, Cause.ADOPTED, Cause.TAKEN_OVER}


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """The server's response to a removal."""

    outcome: RemoveOutcome
    dropped: Counts | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A declaration that the server refused."""

    reason: str
    message: str
    is_final: bool
    """Whether a retry is useless until the object or the server's configuration changes."""
    retry_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletionContext:
    """Facts that decide whether a deletion still waits for the server."""

    namespace_is_terminating: bool
    server_is_gone: bool
    """Whether the Service of the server was deleted."""
    seen_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Everything the operator knows about one object: the input of a decision."""

    object: QueueObject
    server: Server
    queue: ObservedQueue | None = None
    refusal: Refusal | None = None
    removed: Removed | None = None
    deletion_context: DeletionContext | None = None
    handled_request: str = ""
    """The last value of `reconcile-requested-at` for which the queue was declared."""
    obtained_by: Cause | None = None
    """The declaration by which the object obtained its queue; None if that was before this process started."""
    counts_written_at: float = 0.0
    wall_ahead: float = 0.0
    """Seconds by which the wall clock is ahead of `queuelet.clock`, which measures durations and never steps."""

    def wall_time(self, at: float) -> str:
        """Return a time of `queuelet.clock` as a wall-clock timestamp, for texts that users read."""
        return timestamp(at + self.wall_ahead)

    @property
    def store_problem(self) -> StoreProblem | None:
        """The problem of the store that holds the queue, or will hold it."""
        store = self.queue.definition.store if self.queue else self.object.spec.store
        return self.server.problems.get(store)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The settings that decisions depend on. Durations are in seconds."""

    instance: str
    address: str
    outage_after: float = 10.0
    counts_every: float = 30.0
    release_after: float = 600.0

    def owner(self, an_object: QueueObject) -> Owner:
        """Return the owner that the server records for the object's queue."""
        return Owner(name=f"{self.instance}/{an_object.key}", uid=an_object.uid, namespace_uid=an_object.namespace_uid)

    def wanted(self, an_object: QueueObject) -> Declared:
        """Return the definition that the object asks for."""
        return an_object.spec.definition(an_object.key.queue_name, self.owner(an_object))


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """An Event to post about an object."""

    reason: str
    message: str
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the conditions of a status should be."""

    reason: Reason
    message: str
    ready: str = "False"
    reconciling: bool = False
    stalled: bool = False
    clears_queue: bool = False
    """Whether to clear the fields of the status that describe the queue, because it is not the object's queue."""
    clears_counts: bool = False
    """Whether to clear the message counts of the status, because they are no longer true."""
    notice: Notice | None = None
    """The Event to post when the status is written."""


# Steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing:
    """There is nothing to do, for now or until a time."""

    until: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AddFinalizer:
    """Add the finalizer, so that the object exists until its queue is removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DropFinalizer:
    """Remove the finalizer, so that the API server can delete the object."""

    notice: Notice | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Declare:
    """Declare the queue: the server creates it or changes it to this definition."""

    definition: Declared
    cause: Cause
    adopt: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Remove:
    """Remove the queue from the server, with its messages."""

    owner: Owner


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadDeletionContext:
    """Look up the `DeletionContext`: the namespace and the server's Service."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteStatus:
    """Patch the status."""

    status: QueueStatus
    only_counts: bool = False
    notice: Notice | None = None


Step = Nothing | AddFinalizer | DropFinalizer | Declare | Remove | ReadDeletionContext | WriteStatus
