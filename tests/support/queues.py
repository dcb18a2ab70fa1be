"""Queues and managers for tests of the core."""

from __future__ import annotations

from collections.abc import Callable

from queuelet.bounds import Bounds
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.storage import Store
from queuelet.core.tokens import Tokens
from queuelet.definition import DeliverySettings, QueueDefinition, StoreKind
from queuelet.stores.memory import MemoryStore
from support.drafts import draft, payload_of

PLENTY = 1 << 40


def make_manager(
    *, bounds: Bounds | None = None, watermark: int = PLENTY, store: Callable[[MemoryBudget], Store] = MemoryStore
) -> Manager:
    """Return a manager with the Memory store only, or with another one in its place."""
    budget = MemoryBudget(watermark)
    stores = {StoreKind.MEMORY: store(budget)}
    return Manager(stores, bounds=bounds or Bounds(), budget=budget, tokens=Tokens(1))


def make_queue(  # settings of the queue
    *,
    limit: int = -1,
    name: str = "orders",
    watermark: int = PLENTY,
    waiting: int = 1_000,
    waiting_per_peer: int = 1_000,
    delivery: DeliverySettings | None = None,
    now: int = 1,
    store: Callable[[MemoryBudget], Store] = MemoryStore,
) -> Queue:
    """Return a queue in memory."""
    bounds = Bounds(waiting=waiting, waiting_per_peer=waiting_per_peer)
    manager = make_manager(bounds=bounds, watermark=watermark, store=store)
    return manager.new(QueueDefinition(name=name, limit=limit, delivery=delivery or DeliverySettings()), now=now)


def budget_of(queue: Queue) -> MemoryBudget:
    """Return the memory budget of a queue."""
    return queue._states._budget  # noqa: SLF001  # only tests need it


def add(queue: Queue, *payloads: bytes) -> None:
    """Add messages."""
    for payload in payloads:
        queue.add(draft(payload), now=1)


def pop_all(queue: Queue) -> list[bytes]:
    """Pop all messages and return their payloads."""
    return [payload_of(body) for body in queue.pop_batch(1_000, 1 << 30, now=1)]
