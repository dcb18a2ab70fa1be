"""Who waits on a queue, first come first served: Adds for room, and other calls for a message.

Nobody is blocked: a call that waits leaves a callback, and is called when it is its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import Terms
from queuelet.errors import QueueletError


class Draft(Protocol):
    """A message on its way in."""

    @property
    def own_id(self) -> bytes:
        """The id the producer gave, in canonical form; empty for none."""

    @property
    def terms(self) -> Terms | None:
        """What the producer asks for beside the content."""

    @property
    def size(self) -> int:
        """About how many bytes it takes, for the memory budget."""

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in the form in which it is kept and answered."""


class Duplicate(NamedTuple):
    """The queued message whose id a producer gave again."""

    body: bytes


AddResult = bytes | Duplicate | QueueletError
"""What became of a message: it is stored (in the form in which it is answered), was there before, or was refused."""


class WaitingAdd:
    """Messages that wait for room, and the results so far. `done` is called once, when every message has its result."""

    __slots__ = ("done", "drafts", "held", "peer", "results")

    def __init__(self, drafts: Sequence[Draft], done: Callable[[], None], peer: str = "") -> None:
        """Take the messages of a call, and the address that it comes from."""
        self.drafts = drafts
        self.peer = peer
        self.results: list[AddResult] = []
        self.done = done
        self.held = 0
        """Bytes of the messages that wait, as the memory budget counts them."""

    @property
    def rest(self) -> Sequence[Draft]:
        """The messages that have no result yet."""
        return self.drafts[len(self.results) :]

    @property
    def is_complete(self) -> bool:
        """Whether every message has its result."""
        return len(self.results) == len(self.drafts)

    def refuse_rest(self, error: QueueletError) -> None:
        """Give the messages still waiting an error."""
        self.results += [error] * (len(self.drafts) - len(self.results))


class AddLine(deque[WaitingAdd]):
    """The Adds that wait for room. The memory budget counts their messages, since they are here already."""

    __slots__ = ("_budget",)

    def __init__(self, budget: MemoryBudget) -> None:
        """Begin with none, and account to this budget."""
        super().__init__()
        self._budget = budget

    def join(self, waiting: WaitingAdd, size: int) -> None:
        """Stand at the end of the line, with messages of this size."""
        waiting.held = size
        self._budget.used += size
        self.append(waiting)

    def leave(self, waiting: WaitingAdd) -> None:
        """Wait no longer."""
        self.remove(waiting)
        self._budget.used -= waiting.held

    def let_in(self, waiting: WaitingAdd, draft: Draft) -> None:
        """Count a message no longer as one that waits, before it is counted as one that is stored."""
        if waiting.held:
            waiting.held -= draft.size
            self._budget.used -= draft.size

    def end_first(self) -> None:
        """Tell the first in line that all its messages have their results."""
        waiting = self.popleft()
        self._budget.used -= waiting.held
        waiting.done()

    def refuse(self, error: QueueletError) -> None:
        """Give all messages that wait an error."""
        while self:
            self[0].refuse_rest(error)
            self.end_first()


class Waiter(NamedTuple):
    """A call that waits for a message."""

    wake: Callable[[], None]
    """Called when there is a message to try for."""
    peer: str = ""
    """The address that the call comes from."""


class TakerLine(deque[Waiter]):
    """The calls that wait for a message. One that is woken may come too late, and then waits again."""

    __slots__ = ()

    def wake(self, count: int) -> None:
        """Wake the first few, each once. A waiter that is woken may have the next one woken, or wait again."""
        first = [self.popleft() for _ in range(min(count, len(self)))]
        for waiter in first:
            waiter.wake()

    def wake_all(self) -> None:
        """Wake all waiters of now."""
        self.wake(len(self))
