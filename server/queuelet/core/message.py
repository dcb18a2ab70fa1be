"""The metadata of messages: the terms from the producer, the rank in the queue, and the deliveries.

All times are in nanoseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from queuelet.definition import MessageState


@dataclass(frozen=True, slots=True)
class PastDeliveries:
    """The deliveries of a message in the queue from which it is moved."""

    count: int = 0
    """How often it was delivered since its Add or its last redrive."""

    history: bytes = b""
    """The failed tries, encoded as in `DeliveryRecord.history`."""

    reason: int = 0
    """Why it is dead: a `DeathReason`; 0 if it is not dead."""

    died: int = 0
    """When it died; 0 for the time of its Add."""


class Terms(NamedTuple):
    """What the producer asks for in addition to the content."""

    priority: int = 0
    """Messages with a smaller number are delivered first; an int32."""

    not_before: int = 0
    """The earliest time of delivery; 0 for immediately."""

    delay: int = 0
    """The delay between Add and the earliest time of delivery, in nanoseconds."""

    ttl: int = 0
    """The message's own time to live, counted from its Add, in nanoseconds; 0 for none."""

    past: PastDeliveries | None = None
    """Its deliveries in another queue; None for a message that was never delivered."""

    def rank(self, created: int) -> Rank:
        """Return the rank of a message that is added at this time."""
        return Rank(self.priority, max(self.not_before, created + self.delay), created, self.ttl)


class Rank(NamedTuple):
    """The position of a message that is not delivered in FIFO order, because it has terms or was redriven.

    A queue delivers in the order of (priority, due, sequence number). A message without a rank has priority 0 and is
    due at its Add.
    """

    priority: int
    due: int
    """When it became due for delivery: at its Add, at the end of its delay, or when it was redriven."""

    created: int
    """The start of its time to live: its Add, or when it was redriven."""

    ttl: int
    """Its own time to live, in nanoseconds; 0 for none."""


class DeliveryRecord:
    """The deliveries of a message that was delivered or is dead. Messages that were never delivered have none."""

    __slots__ = (
        "by_stream",
        "consumer",
        "count",
        "history",
        "reason",
        "since",
        "state",
        "superseded",
        "token",
        "until",
    )

    def __init__(  # noqa: PLR0913, PLR0917  # made for each lease: by place is a third faster than by name
        self,
        state: MessageState = MessageState.LEASED,
        count: int = 0,
        token: int = 0,
        until: int = 0,
        since: int = 0,
        consumer: str = "",
        superseded: tuple[int, ...] = (),
        reason: int = 0,
        history: bytes = b"",
        by_stream: bool = False,  # noqa: FBT001, FBT002  # by place is faster
    ) -> None:
        self.state = state
        self.count = count
        """How often the message was delivered since its Add or its last redrive."""
        self.token = token
        """The token of the newest lease; 0 if it was never leased, or not since its last redrive."""
        self.until = until
        """LEASED: when the lease ends. DELAYED: when the delay of a nack ends."""
        self.since = since
        """LEASED: when the message was delivered. DEAD: when it died."""
        self.consumer = consumer
        """The name of the consumer that has the lease, as the consumer gave it."""
        self.superseded = superseded
        """The tokens of earlier leases. They are stored because a late ack should fail with the right reason."""
        self.reason = reason
        """DEAD: a `DeathReason`."""
        self.history = history
        """The failed tries, encoded as repeated field `tries` of `BrowsedMessage`. They survive a redrive."""
        self.by_stream = by_stream
        """LEASED: whether the lease belongs to a Consume stream and ends with it."""


class Tally:
    """The counters of a queue since it was created. A durable store saves them."""

    __slots__ = (
        "acked",
        "buried",
        "consumed",
        "enqueued",
        "expired",
        "extended",
        "leased",
        "nacked",
        "next_seq",
        "purged",
        "redelivered",
        "redriven",
        "released",
    )

    def __init__(self) -> None:
        self.next_seq = 1
        """The sequence number of the next message."""
        self.enqueued = 0
        """Messages added."""
        self.consumed = 0
        """Messages popped."""
        self.leased = 0
        """Leases granted, including redeliveries."""
        self.redelivered = 0
        """Leases granted on a message that had been delivered before."""
        self.acked = 0
        """Messages acked."""
        self.nacked = 0
        """Leases ended by Nack."""
        self.released = 0
        """Leases ended because their stream ended."""
        self.expired = 0
        """Leases that expired."""
        self.extended = 0
        """Leases extended by Extend."""
        self.buried = 0
        """Messages that died."""
        self.redriven = 0
        """Dead messages that were redriven."""
        self.purged = 0
        """Messages purged."""
