"""The calls that wait on a queue, in FIFO order: Adds wait for room, other calls wait for a message.

Nothing blocks here. A waiting call leaves a callback, which is called when it is the call's turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import Terms
from queuelet.errors import QueueletError


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


class Draft(Protocol):
    """A message that is to be added."""

    @property
    def own_id(self) -> bytes:
        """The ID from the producer, in canonical form; empty for none."""

    @property
    def terms(self) -> Terms | None:
        """What the producer asks for in addition to the content; None for nothing."""

    @property
    def size(self) -> int:
        """The approximate size in bytes, for the memory budget."""

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in its stored form."""


class Duplicate(NamedTuple):
    """The result for a message whose ID is already queued: the queued message."""

    body: bytes


AddResult = bytes | Duplicate | QueueletError
"""The result of adding one message: its stored form, the message that was queued before, or an error."""


class WaitingAdd:
    """The messages of an Add that waits for room, and the results so far."""

    __slots__ = ("done", "drafts", "held", "peer", "results")

    def __init__(self, drafts: Sequence[Draft], done: Callable[[], None], peer: str = "") -> None:
        """Make a waiting Add without results.

        Args:
            drafts: the messages of the call.
            done: called once, when every message has a result.
            peer: the address that the call comes from.
        """
        self.drafts = drafts
        self.peer = peer
        self.results: list[AddResult] = []
        self.done = done
        self.held = 0
        """The size of the messages without a result, in bytes, as counted in the memory budget."""

    @property
    def rest(self) -> Sequence[Draft]:
        """The messages without a result."""
        return self.drafts[len(self.results) :]

    @property
    def is_complete(self) -> bool:
        """Whether every message has a result."""
        return len(self.results) == len(self.drafts)

    def refuse_rest(self, error: QueueletError) -> None:
        """Set an error as the result of all messages without one."""
        self.results += [error] * (len(self.drafts) - len(self.results))


class AddLine(deque[WaitingAdd]):
    """The Adds that wait for room. Their messages count in the memory budget, because they are in memory already."""

    __slots__ = ("_budget",)

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__()
        self._budget = budget

    def join(self, waiting: WaitingAdd, size: int) -> None:
        """Append an Add whose messages have this size, in bytes."""
        waiting.held = size
        self._budget.used += size
        self.append(waiting)

    def leave(self, waiting: WaitingAdd) -> None:
        """Remove an Add that waits no longer."""
        self.remove(waiting)
        self._budget.used -= waiting.held

    def release(self, waiting: WaitingAdd, draft: Draft) -> None:
        """Subtract a message from the waiting bytes, before it is counted as stored."""
        if waiting.held:
            waiting.held -= draft.size
            self._budget.used -= draft.size

    def complete_first(self) -> None:
        """Remove the first Add and call its `done`, because all its messages have results."""
        waiting = self.popleft()
        self._budget.used -= waiting.held
        waiting.done()

    def refuse(self, error: QueueletError) -> None:
        """Complete all waiting Adds with an error."""
        while self:
            self[0].refuse_rest(error)
            self.complete_first()


class Taker(NamedTuple):
    """A call that waits for a message."""

    wake: Callable[[], None]
    """Called when there is a message that the call can try to take."""
    peer: str = ""
    """The address that the call comes from."""
    describe: Describe | None = None
    """Describes the consumer; None for a call that is not listed, or is listed by its claim."""


class TakerLine(deque[Taker]):
    """The calls that wait for a message. A call that is woken may find the message taken, and then waits again."""

    __slots__ = ()

    def leave(self, taker: Taker) -> bool:
        """Remove a taker that waits no longer. Return whether the taker was in the line."""
        try:
            self.remove(taker)
        except ValueError:
            return False
        return True

    def wake(self, count: int) -> None:
        """Wake the first `count` waiters once each. A taker may wake the next one or wait again meanwhile."""
        first = [self.popleft() for _ in range(min(count, len(self)))]
        for taker in first:
            taker.wake()

    def wake_all(self) -> None:
        """Wake all current waiters."""
        self.wake(len(self))
