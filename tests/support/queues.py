"""Queues and managers for tests of the core."""

from __future__ import annotations

from queuelet.bounds import Bounds
from queuelet.budget import MemoryBudget
from queuelet.definition import Definition, StoreKind
from queuelet.manager import Manager
from queuelet.queue import Queue
from queuelet.stores.memory import MemoryStore

PLENTY = 1 << 40


def make_manager(*, bounds: Bounds | None = None, watermark: int = PLENTY) -> Manager:
    """Return a manager with the Memory store only."""
    return Manager({StoreKind.MEMORY: MemoryStore()}, bounds=bounds or Bounds(), budget=MemoryBudget(watermark))


def make_queue(*, limit: int = -1, name: str = "orders", watermark: int = PLENTY, waiting: int = 1_000) -> Queue:
    """Return a queue in memory."""
    manager = make_manager(bounds=Bounds(waiting=waiting), watermark=watermark)
    return manager.new(Definition(name=name, limit=limit), now=1)
