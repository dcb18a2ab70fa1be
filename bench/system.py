"""The interface of a benchmarked system: a message queue, whatever its protocol, and the load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

MARK = b"\x00bench\xff\xfe"
"""Prefix of each payload, so that messages in a response can be counted without decoding it."""


class NotHere(Exception):
    """A system cannot be measured here. The text says how to change that."""


class Failed(Exception):
    """A system did not do what it should."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load: each caller adds batches of messages, and then pops them, one batch after the other."""

    batch: int
    """Messages per call; 1 for the calls that move a single message."""
    size: int
    """Bytes per message."""
    callers: int
    """Concurrent callers, distributed over the driver processes."""

    @property
    def name(self) -> str:
        """The name of the case: `unary-128B-64`, `batch1000-1KB-1`."""
        calls = "unary" if self.batch == 1 else f"batch{self.batch}"
        return f"{calls}-{size_text(self.size)}-{self.callers}"

    @property
    def payload(self) -> bytes:
        """The message to add."""
        return MARK + b"x" * (self.size - len(MARK))


class Caller(Protocol):
    """One caller with its connection."""

    async def add(self) -> None:
        """Add one batch of the load; return once it is acknowledged."""

    async def pop(self) -> int:
        """Pop up to one batch; return the number of messages, 0 if the queue is empty."""


class Lifecycle(NamedTuple):
    """A running server."""

    address: str
    """`host:port`."""
    pid: int | None = None
    """Its process, if we started it."""


class System(ABC):
    """A message queue server and its client."""

    def __init__(self, name: str) -> None:
        self.name = name

    def can(self, load: Load) -> bool:  # noqa: ARG002  # most support every load
        """Return whether it has calls for this load."""
        return True

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[Lifecycle]:
        """Run a server on a free port, with its files in a folder; raise `NotHere` if that is not possible."""

    @abstractmethod
    async def make_queue(self, address: str) -> str:
        """Create an empty queue; return how callers refer to it."""

    @abstractmethod
    def callers(self, address: str, queue: str, load: Load) -> AbstractAsyncContextManager[Sequence[Caller]]:
        """Connect as many callers as the load requires."""


def size_text(size: int) -> str:
    """Return a size in readable form."""
    return f"{size}B" if size % 1024 else f"{size // 1024}KB"
