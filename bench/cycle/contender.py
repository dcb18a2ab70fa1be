"""The interface of a contender: a queue server with its usual Python client, on both sides of a queue."""

from __future__ import annotations

import inspect
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.cycle.record import Record
from bench.system import Lifecycle
from queuelet.client import Consumer, Producer
from queuelet.client.prefetch import MOST_PREFETCH

MEMORY = "memory"
DISK = "disk"
"""With every message on disk and synced before its put is confirmed."""

STORES = (MEMORY, DISK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Bounds that hold for every system, so that none is faster only because it has more in flight."""

    name: str
    batch: int
    """The largest batch of puts, in messages."""
    in_flight: int
    """The most puts in flight."""
    held: int
    """The most messages delivered but not acknowledged."""
    is_ours: bool = False
    """Whether these are our client's defaults, so that it gets no settings."""


def default_bounds() -> Bounds:
    """Return the defaults of our client."""
    puts = inspect.signature(Producer.__init__).parameters
    takes = inspect.signature(Consumer.__init__).parameters
    return Bounds(
        name="default",
        batch=puts["batch_messages"].default,
        in_flight=puts["buffer_messages"].default,
        held=takes["concurrency"].default + MOST_PREFETCH,
        is_ours=True,
    )


BOUNDS = (
    default_bounds(),
    Bounds(name="small", batch=100, in_flight=1_000, held=100),
    Bounds(name="large", batch=1_000, in_flight=10_000, held=1_000),
)


class Putter(ABC):
    """The producing side."""

    @abstractmethod
    async def put(self, payloads: Sequence[bytes]) -> None:
        """Send messages, one batch at most, as soon as the bounds allow. The puts are not awaited."""

    async def put_awaited(self, payloads: Sequence[bytes]) -> None:
        """Send messages whose puts are awaited. Most clients make no difference."""
        await self.put(payloads)

    @abstractmethod
    async def flush(self) -> None:
        """Return once everything is confirmed; raise if any message was refused."""


class LongPoll(ABC):
    """The consuming side."""

    @abstractmethod
    async def take(self) -> None:
        """Pass messages to the record and then acknowledge each, until all expected ones have arrived.

        Return once the server has the last acknowledgement.
        """


class Contender(ABC):
    """A server and its client."""

    packages: Sequence[str] = ()
    """The client's packages; optional ones that are missing are reported."""

    def __init__(self, name: str, store: str) -> None:
        """Take the name in tables, and the store for messages."""
        self.name = name
        self.store = store

    @property
    def is_disk(self) -> bool:
        """Whether messages have to be on disk."""
        return self.store == DISK

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[Lifecycle]:
        """Run the server with its files in a folder; raise `NotHere` if that is not possible."""

    @abstractmethod
    def server_version(self) -> str:
        """Return the server's name and version."""

    @abstractmethod
    async def make_queue(self, address: str, bounds: Bounds) -> str:
        """Create an empty queue; return how clients refer to it."""

    @abstractmethod
    def putter(self, address: str, queue: str, bounds: Bounds) -> AbstractAsyncContextManager[Putter]:
        """Connect the producing side."""

    @abstractmethod
    def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AbstractAsyncContextManager[LongPoll]:
        """Connect the consuming side."""

    @abstractmethod
    async def left(self, address: str, queue: str) -> int:
        """Return how many messages the server still has, delivered or not."""

    @property
    def versions(self) -> str:
        """The versions of server and client."""
        return ", ".join([self.server_version(), *map(_package, self.packages)])


def first_line_of(command: Sequence[str]) -> str:
    """Return the first line of a program's output."""
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return (said.stdout or said.stderr).strip().partition("\n")[0]


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"without {name}"
