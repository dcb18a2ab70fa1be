"""What a queue knows of a message beside its bytes: the terms it came with, its place, and its deliveries.

All times are nanoseconds since 1970.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from queuelet.definition import State


class Terms(NamedTuple):
    """What a producer asks for beside the content."""

    priority: int = 0
    """Smaller comes first; an int32."""

    not_before: int = 0
    """When it may be taken first; 0 for at once."""

    delay: int = 0
    """How long after its Add it may be taken first, in nanoseconds; 0 for at once."""

    ttl: int = 0
    """How long after its Add it is dead if it still waits, in nanoseconds; 0 for no such time of its own."""

    def rank(self, created: int) -> Rank:
        """Return the place of a message that is added now."""
        return Rank(self.priority, max(self.not_before, created + self.delay), created, self.ttl)


class Rank(NamedTuple):
    """The place of a message that does not simply stand in line: it has terms, or it was redriven.

    The order of a queue is (priority, due, sequence number); a message in line has priority 0 and is due at its Add.
    """

    priority: int
    due: int
    """When it first became due: its Add, the end of its delay, or when it was redriven."""

    created: int
    """From when its time to live counts: its Add, or when it was redriven."""

    ttl: int
    """Its own time to live; 0 for none."""


class DeathReason(IntEnum):
    """Why a message is dead. The numbers are those of the wire."""

    MAX_DELIVERIES = 1
    EXPIRED = 2
    REJECTED = 3
    """A consumer said that another try would not help."""


class TryOutcome(IntEnum):
    """How a delivery ended that was not acknowledged. The numbers are those of the wire."""

    NACKED = 1
    LEASE_EXPIRED = 2
    RELEASED = 3
    """The stream it was delivered on ended."""


class Delivery:
    """What became of a message that was delivered, or that is dead. There is none for a message never delivered."""

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
        state: State = State.LEASED,
        count: int = 0,
        token: int = 0,
        until: int = 0,
        since: int = 0,
        consumer: str = "",
        superseded: tuple[int, ...] = (),
        reason: int = 0,
        history: bytes = b"",
        by_stream: bool = False,  # noqa: FBT001, FBT002  # as all of these
    ) -> None:
        """Take all that is known."""
        self.state = state
        self.count = count
        """How often it was delivered since its Add or its last redrive."""
        self.token = token
        """Of the newest lease; 0 if it was never leased, or was redriven since."""
        self.until = until
        """LEASED: when the lease ends. DELAYED: when the delay of a nack ends."""
        self.since = since
        """LEASED: when it was delivered. DEAD: when it died."""
        self.consumer = consumer
        """Who has it, in the consumer's own words."""
        self.superseded = superseded
        """Tokens of earlier leases, so that an ack that comes too late is told why it is refused."""
        self.reason = reason
        """DEAD: a `DeathReason`."""
        self.history = history
        """The tries that failed: a run of the field `tries` of `BrowsedMessage`, which survives a redrive."""
        self.by_stream = by_stream
        """LEASED: whether a Consume stream took the lease, which then ends with that stream."""


class Tally:
    """What a queue counts, from its beginning; a store that survives the process keeps it."""

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
        """Begin with nothing."""
        self.next_seq = 1
        """The sequence number of the next message."""
        self.enqueued = 0
        """Messages added."""
        self.consumed = 0
        """Messages popped."""
        self.leased = 0
        """Leases given, redeliveries included."""
        self.redelivered = 0
        """Leases given on a message that had been delivered before."""
        self.acked = 0
        """Messages acknowledged."""
        self.nacked = 0
        """Leases given back by Nack."""
        self.released = 0
        """Leases given back because a stream ended."""
        self.expired = 0
        """Leases that ran out."""
        self.extended = 0
        """Leases moved by Extend."""
        self.buried = 0
        """Messages that became dead."""
        self.redriven = 0
        """Dead messages that were redriven."""
        self.purged = 0
        """Messages purged."""
