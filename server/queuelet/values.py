"""Values about queues that pass between a server and its clients. `wire/values.py` converts them.

Values about single messages are in `client/messages.py`, and what a queue consists of is in `definition.py`. Times are
aware datetimes, by the server's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from queuelet.definition import Counts, DeliverySettings, Durability, Owner, QueueDefinition, StoreKind
from queuelet.errors import QueueletError
from queuelet.tags import Tags

# Queues


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A queue: its settings, and how many messages it has."""

    id: str
    """The queue's ID, a UUID."""

    name: str
    """Its unique name; empty if it only has an ID."""

    store: StoreKind
    """Where its messages are stored."""

    limit: int
    """The largest number of messages in all states; -1 for unlimited."""

    tags: Tags
    """Its tags, without duplicates."""

    owner: Owner | None
    """Its owner; None if it was not declared with one."""

    delivery: DeliverySettings
    """Leases, number of deliveries and time to live, with the defaults filled in."""

    draining: bool
    """Whether no messages can be added, so that consumers can empty the queue."""

    messages: Counts
    """The number of messages in each state."""

    created: datetime
    """When the queue was created."""

    revision: int
    """Grows with each change of the settings. Messages do not change it."""

    epoch: str
    """The epoch of its store. A changed epoch means that the store lost or replaced its contents."""

    @property
    def definition(self) -> QueueDefinition:
        """The queue's settings, for example to declare it with one of them changed."""
        return QueueDefinition(
            store=self.store,
            name=self.name,
            limit=self.limit,
            tags=self.tags,
            owner=self.owner,
            delivery=self.delivery,
            draining=self.draining,
        )


# Declarations and removals


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDeclaration:
    """The desired state of a queue, which is identified by its name."""

    definition: QueueDefinition
    """The queue's settings. They replace all of the present ones."""

    queue_id: str = ""
    """The ID for a new queue, a UUID; empty for a random one. An existing queue keeps its own."""

    adopt: bool = False
    """Whether to take over a queue of another owner."""


class DeclareOutcome(Enum):
    """The outcome of a declaration."""

    CREATED = "created"
    """The queue was created."""

    UPDATED = "updated"
    """The queue was changed."""

    UNCHANGED = "unchanged"
    """The queue was as declared."""

    REFUSED = "refused"
    """Nothing was changed, because of an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclareResult:
    """The result of one declaration."""

    outcome: DeclareOutcome
    """What the declaration led to."""

    queue: Queue | None = None
    """The queue as it is now; if the declaration was refused, the queue that prevents it. None if there is no such
    queue, or the response had no room for it.
    """

    previous_owner: Owner | None = None
    """The previous owner, if the owner or its uid has changed."""

    error: QueueletError | None = None
    """Why the declaration was refused; None if it was not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRemoval:
    """A queue to delete."""

    queue: str
    """The queue's name or ID."""

    owner: Owner | None = None
    """The owner that removes it: a queue of another owner, or of none, is then refused. None to ignore the owner."""


class RemoveOutcome(Enum):
    """The outcome of a removal."""

    REMOVED = "removed"
    """The queue was deleted."""

    ABSENT = "absent"
    """There was no such queue."""

    REFUSED = "refused"
    """The queue was not deleted, because of an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveResult:
    """The result of one removal."""

    outcome: RemoveOutcome
    """What the removal led to."""

    dropped: Counts
    """The messages that were deleted with the queue."""

    error: QueueletError | None = None
    """Why the removal was refused; None if it was not."""


# Changes


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreState:
    """The state of one of the server's stores."""

    store: StoreKind
    """Which store it is."""

    epoch: str
    """The store's epoch. It changes when the store has lost its queues."""

    problem: str = ""
    """What is wrong with the store, as a sentence; empty if it works."""

    reason: str = ""
    """The `reason` of the error that calls raise while there is a problem, that of `StoreFull` or `StoreFailed`."""

    durability: Durability | None = None
    """What acknowledged changes survive at present; None if the server is too old to tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovedQueue:
    """A queue that was deleted, or that the selector no longer selects."""

    id: str
    """The queue's ID, a UUID."""

    name: str
    """Its name; empty if it only had an ID."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueCounts:
    """The numbers of a queue that change with its messages. Totals count from the creation of the queue."""

    id: str
    """The queue's ID, a UUID."""

    messages: Counts
    """The number of messages in each state."""

    enqueued: int
    """Messages added."""

    consumed: int
    """Messages popped."""

    acked: int
    """Messages acknowledged."""

    oldest_ready: datetime | None = None
    """When the first ready message was added; None if no message is ready."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueChanges:
    """A batch of changes to queues, or of the snapshot that comes before them."""

    queues: Sequence[Queue] = ()
    """Queues of the snapshot, then new and changed ones. Message counts come at most once per second and queue."""

    counts: Sequence[QueueCounts] = ()
    """Counts and totals, if the watch has them apart: of each queue of the snapshot, then of those that changed."""

    removed: Sequence[RemovedQueue] = ()
    """Queues that were deleted, or that the selector no longer selects."""

    stores: Sequence[StoreState] = ()
    """The server's stores: in the first batch, and when one of them gets or loses a problem."""

    snapshot_complete: bool = False
    """Whether the snapshot ends with this batch. True only once."""


# Statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStats:
    """Statistics of a server."""

    version: str
    """The server's version."""

    started: datetime
    """When the server was started."""

    stores: Sequence[StoreState]
    """The stores that the server runs with."""

    queues: int
    """The number of queues."""

    messages: Counts
    """The number of messages of all queues in each state."""

    memory_bytes: int
    """The memory used by queues, messages, waiting calls and the process itself, in bytes."""

    memory_watermark_bytes: int
    """The number of bytes above which the server refuses to add messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStats:
    """Statistics of a queue. Counters start when it is created; on disk they continue when the server restarts."""

    queue: Queue
    """The queue."""

    enqueued: int
    """Messages added."""

    consumed: int
    """Messages popped."""

    purged: int
    """Messages purged."""

    refused_full: int
    """Messages refused because the queue was full. This counter starts again when the server restarts."""

    stored_bytes: int
    """The size of the messages with their metadata, in bytes."""

    oldest_ready_age: timedelta | None
    """How long ago the first ready message was added; None if no message is ready."""

    waiting_calls: int
    """Calls that wait for a message, or for room in the queue."""

    leased: int
    """Leases granted, including redeliveries."""

    redelivered: int
    """Leases granted on a message that had been delivered before."""

    acked: int
    """Messages acknowledged."""

    nacked: int
    """Leases ended because their consumer gave the message back."""

    released: int
    """Leases ended because their stream ended."""

    expired: int
    """Leases that expired."""

    buried: int
    """Messages that died."""

    redriven: int
    """Dead messages that were made ready again."""

    damaged: int
    """Messages that are set aside, because they are damaged on the disk. `queue.messages` does not count them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPoint:
    """The numbers of a queue from one time on, until the next point."""

    time: datetime
    """The end of the step in which they changed."""

    messages: Counts
    """The number of messages in each state."""

    enqueued: int
    """Messages added since the queue was created."""

    removed: int
    """Messages popped or acknowledged since the queue was created."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueHistory:
    """How the numbers of a queue changed over time."""

    points: Sequence[HistoryPoint]
    """The points, the oldest first. Between two points nothing changed."""

    since: datetime
    """When the history begins."""


# Consumers


class ConsumerKind(Enum):
    """How a consumer takes messages."""

    STREAM = "stream"
    """By a Consume stream, as `Consumer` does."""

    RECEIVE = "receive"
    """By a Receive call that waits for a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerInfo:
    """A consumer of a queue, as the server sees it."""

    kind: ConsumerKind
    """How it takes messages."""

    name: str
    """The name that it gave itself; empty for none."""

    peer: str
    """Its address and port."""

    since: datetime
    """When its stream or call began."""

    exclusive: bool
    """Whether it asked to be the only consumer."""

    holds_queue: bool
    """Whether it is the exclusive consumer now. If not, and `exclusive` is true, it waits for its turn."""

    credit: int
    """How many more messages it may be sent."""

    leases: int
    """The number of leases that it holds."""

    last_settled: datetime | None
    """When it last acknowledged or gave back a message; None for not yet."""

    next_deadline: datetime | None
    """When the first of its leases ends; None if it holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueConsumers:
    """The consumers of a queue. Producers are not included, because the server does not track them."""

    consumers: Sequence[ConsumerInfo]
    """Open streams and waiting Receive calls, the oldest first, at most 1,000."""

    waiting_for_message: int
    """Streams and calls that wait for a message."""

    waiting_for_space: int
    """Calls that wait to add messages."""

    other_leases: int
    """Leases that belong to no open stream, but to Receive calls."""


# Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class RedriveProgress:
    """The progress of a redrive."""

    redriven: int
    """Messages made ready so far, or that would be in a dry run."""

    remaining: int
    """Dead messages that were not looked at yet."""
