"""The consumers of a queue that use streams, and the exclusive consumer among them.

Each stream has a claim to the queue. An exclusive claim that holds the queue is the only one that gets messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from queuelet.core import refusals
from queuelet.core.host import Host
from queuelet.core.states import States
from queuelet.core.tokens import Tokens
from queuelet.core.waiters import Waiters
from queuelet.core.waiting import Describe


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

    __slots__ = ("_line", "_queue", "_shared", "_states", "_tokens", "_waiters", "holder")

    def __init__(self, queue: Host, *, tokens: Tokens, states: States, waiters: Waiters) -> None:
        self._queue = queue
        self._tokens = tokens
        self._states = states
        self._waiters = waiters
        self._line: deque[Claim] = deque()
        waiters.include(self._line)
        self.holder: Claim | None = None
        """The exclusive claim that holds the queue; None if every consumer may take messages."""
        self._shared: dict[Claim, None] = {}

    @property
    def is_held(self) -> bool:
        """Whether an exclusive consumer holds the queue, so that no other call may take messages."""
        return self.holder is not None

    def check_free(self) -> None:
        """Raise `QueueHeld` if an exclusive consumer holds the queue."""
        if self.is_held:
            raise refusals.held(self._queue)

    def __iter__(self) -> Iterator[Claim]:
        """Iterate over all claims: the holder, those in line, and the shared ones."""
        if self.holder is not None:
            yield self.holder
        yield from self._line
        yield from self._shared

    def add(self, claim: Claim) -> None:
        """Add a claim. An exclusive one becomes the holder now if there is none, otherwise after those before it.

        When a claim becomes the holder all leases end, and their messages return to their old positions before it gets
        the first message.

        Raises:
            QueueHeld: the claim is not exclusive, and there is a holder.
            TooMany: the maximum number of calls wait on this queue, in all or from this address.
        """
        if not claim.is_exclusive:
            self.check_free()
            self._shared[claim] = None
            return
        self._waiters.check(claim.peer)
        self._line.append(claim)
        if not self.is_held:
            self._grant()
            for other in list(self._shared):
                other.changed()
            # Calls that wait for a message have to be refused now.
            self._waiters.takers.wake_all()

    def drop(self, claim: Claim) -> None:
        """Remove a claim. If it was the holder, the next exclusive claim is, or all calls may take messages."""
        if self.holder is claim:
            self.holder = None
            if self._line:
                self._grant()
            else:
                self._waiters.takers.wake(self._states.ready)
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
        self._states.void_leases()
        self._queue.set_alarm(self._states.next_at)
        self.holder.changed()
