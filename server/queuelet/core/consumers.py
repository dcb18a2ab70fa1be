"""The consumers of a queue that use streams, and the exclusive consumer among them.

Each stream has a claim to the queue. An exclusive claim that holds the queue is the only one that gets messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from queuelet.core.tokens import Tokens


class Consumer(NamedTuple):
    """What a consumer knows of itself: a stream, or a call that waits for a message."""

    since: int
    """When it began, in ns since 1970."""
    peer: str
    """Its address and port, as the transport writes them."""
    name: str = ""
    """The name that it gave itself."""
    credit: int = 0
    """How many more messages it may be sent."""
    tokens: Collection[int] = ()
    """The leases that it was given and has not settled. Some of them may have ended."""
    last_settled: int = 0
    """When it last settled a lease, in ns since 1970; 0 for never."""


Describe = Callable[[], Consumer]
"""Returns what a consumer knows of itself now."""


class Claim:
    """A consumer's claim to the messages of a queue, shared with other consumers or exclusive."""

    __slots__ = ("changed", "describe", "is_exclusive", "peer", "token")

    def __init__(
        self,
        changed: Callable[[], None],
        *,
        is_exclusive: bool = False,
        peer: str = "",
        describe: Describe | None = None,
    ) -> None:
        """Make a claim.

        Args:
            changed: called when the queue gets a holder, this claim or another, and when the queue is closed.
            is_exclusive: whether the consumer wants to be the only one.
            peer: the address of the consumer.
            describe: describes the consumer, if it is to be listed.
        """
        self.changed = changed
        self.describe = describe
        self.peer = peer
        self.is_exclusive = is_exclusive
        self.token = 0
        """The fencing token of a holder, larger than that of any earlier holder; 0 for a claim that was never one."""


class Claims:
    """The claims to one queue. At most one of them holds it; the other exclusive claims wait in FIFO order."""

    __slots__ = ("_line", "_shared", "_tokens", "holder")

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.holder: Claim | None = None
        """The exclusive claim that holds the queue; None if every consumer may take messages."""
        self._line: deque[Claim] = deque()
        self._shared: dict[Claim, None] = {}

    @property
    def in_line(self) -> int:
        """The number of exclusive claims that wait to hold the queue."""
        return len(self._line)

    def in_line_of(self, peer: str) -> int:
        """Return how many claims from one address wait to hold the queue."""
        return sum(claim.peer == peer for claim in self._line)

    def __iter__(self) -> Iterator[Claim]:
        """Iterate over all claims: the holder, those in line, and the shared ones."""
        if self.holder is not None:
            yield self.holder
        yield from self._line
        yield from self._shared

    def add(self, claim: Claim) -> None:
        """Add a claim. An exclusive one becomes the holder now if there is none, otherwise after those before it."""
        if not claim.is_exclusive:
            self._shared[claim] = None
            return
        self._line.append(claim)
        if self.holder is None:
            self._grant()
            for other in list(self._shared):
                other.changed()

    def drop(self, claim: Claim) -> None:
        """Remove a claim. If it was the holder, the next exclusive claim becomes the holder."""
        if self.holder is claim:
            self.holder = None
            if self._line:
                self._grant()
        elif claim.is_exclusive:
            self._line.remove(claim)
        else:
            del self._shared[claim]

    def notify_all(self) -> None:
        """Call `changed` of every claim."""
        for claim in list(self):
            claim.changed()

    def _grant(self) -> None:
        self.holder = self._line.popleft()
        self.holder.token = self._tokens.take()
        self.holder.changed()
