"""What is measured: a message queue, however it is spoken to, and the load it is put under."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

MARK = b"\x00bench\xff\xfe"
"""How each payload begins, so that the messages in an answer can be counted without decoding it."""


class NotHere(Exception):
    """A system cannot be measured here. The text says what to do about it."""


class Failed(Exception):
    """A system did not do what it was asked."""


@dataclass(frozen=True, slots=True)
class Load:
    """What callers do: each adds, and then takes, batches of messages, one after the other."""

    batch: int
    """Messages a call; 1 for the calls that move one message."""
    size: int
    """Bytes a message."""
    callers: int
    """Callers at the same time, shared out among the driver processes."""

    @property
    def name(self) -> str:
        """What the case is called: `unary-128B-64`, `batch1000-1KB-1`."""
        calls = "unary" if self.batch == 1 else f"batch{self.batch}"
        return f"{calls}-{size_text(self.size)}-{self.callers}"

    @property
    def payload(self) -> bytes:
        """The message that is added."""
        return MARK + b"x" * (self.size - len(MARK))


class Caller(Protocol):
    """One caller with its connection."""

    async def add(self) -> None:
        """Add one batch of the load, and return once it is acknowledged."""

    async def pop(self) -> int:
        """Take up to one batch; return how many there were, 0 if the queue is empty."""


class Lifecycle(NamedTuple):
    """A server that runs."""

    address: str
    """`host:port`."""
    pid: int | None = None
    """Its process, where it is ours to look at."""


class System(ABC):
    """A message queue server and its client."""

    def __init__(self, name: str) -> None:
        self.name = name

    def can(self, load: Load) -> bool:  # noqa: ARG002  # most can do all
        """Tell whether it has calls for this load."""
        return True

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[Lifecycle]:
        """Run a server on a free port, with its files in a folder of its own; raise `NotHere` where it cannot be."""

    @abstractmethod
    async def make_queue(self, address: str) -> str:
        """Make an empty queue; return how callers refer to it."""

    @abstractmethod
    def callers(self, address: str, queue: str, load: Load) -> AbstractAsyncContextManager[Sequence[Caller]]:
        """Connect as many callers as the load says."""


def size_text(size: int) -> str:
    """Return a size as people write it."""
    return f"{size}B" if size % 1024 else f"{size // 1024}KB"
