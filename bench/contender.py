"""The interface of a contender: a message queue server and its clients, and the loads they are measured with.

Two benchmarks use it. `server` calls `callers`, many of which add and pop batches as fast as the server responds.
`cycle` calls `producer` and `consumer`, which use the server's usual Python client on both sides of a queue.
"""

from __future__ import annotations

import inspect
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from bench.process import RunningServer
from bench.record import Record
from queuelet.client import Consumer as OurConsumer
from queuelet.client import Producer as OurProducer
from queuelet.client.prefetch import MOST_PREFETCH

MEMORY = "memory"
DISK = "disk"
"""With every message on disk and synced before its put is confirmed."""

STORES = (MEMORY, DISK)

MARK = b"\x00bench\xff\xfe"
"""Prefix of each payload, so that messages in a response can be counted without decoding it."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Bounds that hold for every contender, so that none is faster only because it has more in flight."""

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
    producer = inspect.signature(OurProducer.__init__).parameters
    consumer = inspect.signature(OurConsumer.__init__).parameters
    return Bounds(
        name="default",
        batch=producer["batch_messages"].default,
        in_flight=producer["buffer_messages"].default,
        held=consumer["concurrency"].default + MOST_PREFETCH,
        is_ours=True,
    )


BOUNDS = (
    default_bounds(),
    Bounds(name="small", batch=100, in_flight=1_000, held=100),
    Bounds(name="large", batch=1_000, in_flight=10_000, held=1_000),
)


class Caller(Protocol):
    """One of many callers that fill and empty a queue."""

    async def add(self) -> None:
        """Add one batch of the load; return once it is acknowledged."""

    async def pop(self) -> int:
        """Pop up to one batch; return the number of messages, 0 if the queue is empty."""


class Producer(ABC):
    """The only producer of a queue."""

    @abstractmethod
    async def put(self, payloads: Sequence[bytes]) -> None:
        """Send messages, one batch at most, as soon as the bounds allow. The puts are not awaited."""

    async def put_awaited(self, payloads: Sequence[bytes]) -> None:
        """Send messages whose puts are awaited. Most clients make no difference."""
        await self.put(payloads)

    @abstractmethod
    async def flush(self) -> None:
        """Return once everything is confirmed; raise if any message was refused."""


class Consumer(ABC):
    """The only consumer of a queue."""

    @abstractmethod
    async def consume(self) -> None:
        """Pass messages to the record and then acknowledge each, until all expected ones have arrived.

        Return once the server has the last acknowledgement.
        """


class Contender(ABC):
    """A message queue server and its clients."""

    packages: Sequence[str] = ()
    """The client's packages; optional ones that are missing are reported."""

    def __init__(self, name: str, store: str) -> None:
        self.name = name
        self.store = store

    @property
    def is_disk(self) -> bool:
        """Whether messages have to be on disk."""
        return self.store == DISK

    def can(self, load: Load) -> bool:  # noqa: ARG002  # most support every load
        """Return whether it has calls for this load."""
        return True

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[RunningServer]:
        """Run a server on a free port, with its files in a folder; raise `NotHere` if that is not possible."""

    @abstractmethod
    def server_version(self) -> str:
        """Return the server's name and version."""

    @abstractmethod
    async def make_queue(self, address: str) -> str:
        """Create an empty queue; return how clients refer to it."""

    @abstractmethod
    def callers(self, address: str, queue: str, load: Load) -> AbstractAsyncContextManager[Sequence[Caller]]:
        """Connect as many callers as the load requires."""

    @abstractmethod
    def producer(self, address: str, queue: str, bounds: Bounds) -> AbstractAsyncContextManager[Producer]:
        """Connect the producer. The consumer is connected before it."""

    @abstractmethod
    def consumer(
        self, address: str, queue: str, bounds: Bounds, record: Record
    ) -> AbstractAsyncContextManager[Consumer]:
        """Connect the consumer."""

    @abstractmethod
    async def count_messages(self, address: str, queue: str) -> int:
        """Return how many messages the server still has, delivered or not."""

    @property
    def versions(self) -> str:
        """The versions of server and client."""
        return ", ".join([self.server_version(), *map(_package_version, self.packages)])


def first_line_of(command: Sequence[str]) -> str:
    """Return the first line of a program's output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def size_text(size: int) -> str:
    """Return a size in readable form."""
    return f"{size}B" if size % 1024 else f"{size // 1024}KB"


def _package_version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"without {name}"
