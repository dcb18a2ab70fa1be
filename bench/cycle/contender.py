"""What is measured: a queue server with the Python client that people use for it, on both sides of a queue."""

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
from queuelet.client.consumer import MOST_PREFETCH

MEMORY = "memory"
DISK = "disk"
"""With every message on disk, synced, before its put is answered."""

STORES = (MEMORY, DISK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What every system is held to, so that none is ahead by having more under way."""

    name: str
    batch: int
    """The most messages that are put together."""
    in_flight: int
    """The most messages put and not yet confirmed."""
    held: int
    """The most messages taken and not yet acknowledged."""
    is_ours: bool = False
    """Whether these are our client's defaults, so that it is given none."""


def default_bounds() -> Bounds:
    """Return what our client does when it is told nothing."""
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
    """The side that puts."""

    @abstractmethod
    async def put(self, payloads: Sequence[bytes]) -> None:
        """Send messages, one batch at most, as soon as the bounds allow. Nobody waits for what becomes of each."""

    async def put_awaited(self, payloads: Sequence[bytes]) -> None:
        """Send messages that somebody waits for. Most clients know no difference."""
        await self.put(payloads)

    @abstractmethod
    async def flush(self) -> None:
        """Return once everything is confirmed; raise if anything was refused."""


class LongPoll(ABC):
    """The side that takes."""

    @abstractmethod
    async def take(self) -> None:
        """Hand messages to the record and acknowledge each after that, until it has all it expects.

        Return once the server has the last acknowledgement.
        """


class Contender(ABC):
    """A server and its client."""

    packages: Sequence[str] = ()
    """The client's packages; those that it can do without and that are missing are said to be."""

    def __init__(self, name: str, store: str) -> None:
        """Take the name in tables, and where messages are to be kept."""
        self.name = name
        self.store = store

    @property
    def is_disk(self) -> bool:
        """Whether messages have to be on disk."""
        return self.store == DISK

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[Lifecycle]:
        """Run the server with its files in a folder; raise `NotHere` where it cannot be."""

    @abstractmethod
    def server_version(self) -> str:
        """Return what the server calls itself."""

    @abstractmethod
    async def make_queue(self, address: str, bounds: Bounds) -> str:
        """Make an empty queue; return how it is referred to."""

    @abstractmethod
    def putter(self, address: str, queue: str, bounds: Bounds) -> AbstractAsyncContextManager[Putter]:
        """Connect the side that puts."""

    @abstractmethod
    def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AbstractAsyncContextManager[LongPoll]:
        """Connect the side that takes."""

    @abstractmethod
    async def left(self, address: str, queue: str) -> int:
        """Return how many messages the server still has, whether or not they were taken."""

    @property
    def versions(self) -> str:
        """What was run."""
        return ", ".join([self.server_version(), *map(_package, self.packages)])


def said_by(command: Sequence[str]) -> str:
    """Return the first line that a program prints of itself."""
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return (said.stdout or said.stderr).strip().partition("\n")[0]


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"without {name}"
