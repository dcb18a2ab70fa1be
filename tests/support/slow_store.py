"""A durable store whose commits end only when a test says so."""

from __future__ import annotations

import asyncio

from queuelet.core.budget import MemoryBudget
from queuelet.definition import Durability, QueueDefinition
from queuelet.errors import StoreFailed
from queuelet.stores.memory import MemoryMessages, MemoryStore


class SlowStore(MemoryStore):
    """Messages in memory whose commits a test completes."""

    is_durable = True
    durability = Durability.DISK

    def __init__(self, budget: MemoryBudget) -> None:
        """Take the memory budget to use."""
        super().__init__(budget)
        self._account = budget
        self.commits: list[asyncio.Future[None]] = []
        """Pending commits, oldest first."""

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> MemoryMessages:
        """Create the messages of a new queue."""
        return _SlowMessages(self._account, self)

    def keep(self) -> None:
        """Complete the oldest commit."""
        self.commits.pop(0).set_result(None)

    def fail(self) -> None:
        """Fail the oldest commit."""
        self.commits.pop(0).set_exception(StoreFailed())


class _SlowMessages(MemoryMessages):
    __slots__ = ("_store",)

    def __init__(self, budget: MemoryBudget, store: SlowStore) -> None:
        super().__init__(budget)
        self._store = store

    def commit(self, *, within: float = 0) -> asyncio.Future[None]:  # type: ignore[override]  # the Memory store's own never waits
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store.commits.append(future)
        return future
