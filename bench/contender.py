"""The protocol of a contender: a message queue server and its clients, and the load they are measured with.

Two benchmarks use it. `server` calls `callers`, many of which add and pop batches as fast as the server responds.
`cycle` calls `producer` and `consumer`, which use the server's usual Python client on both sides of a queue.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from bench.processes import HOST, Child, program
from bench.record import Record
from queuelet.client import Consumer as OurConsumer
from queuelet.client import Producer as OurProducer
from queuelet.client.prefetch import MAX_PREFETCH
from tools.control_plane.ports import free_ports

MEMORY = "memory"
DISK = "disk"
"""With every message on disk and synced before its put is confirmed."""

STORES = (MEMORY, DISK)

MARK = b"\x00bench\xff\xfe"
"""Prefix of each payload, so that messages in a response can be counted without decoding it."""

_LOOK_SECONDS, _LOOKS = 0.05, 200
"""Checks whether a server has removed acknowledged messages: the seconds between two, and their number."""


class Bounds(NamedTuple):
    """What bounds every producer and consumer, so that none is faster only by its settings."""

    batch: int
    """The largest batch of puts."""
    in_flight: int
    """The most puts in flight."""
    unacknowledged: int
    """The most messages that are delivered but not acknowledged."""


DEFAULTS = Bounds(
    batch=inspect.signature(OurProducer.__init__).parameters["batch_messages"].default,
    in_flight=inspect.signature(OurProducer.__init__).parameters["buffer_messages"].default,
    unacknowledged=inspect.signature(OurConsumer.__init__).parameters["concurrency"].default + MAX_PREFETCH,
)
"""The defaults of our client."""


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
        return f"{calls_text(self.batch, self.size)}-{self.callers}"

    @property
    def payloads(self) -> list[bytes]:
        """The messages of a call."""
        return [MARK + b"x" * (self.size - len(MARK))] * self.batch


def calls_text(batch: int, size: int) -> str:
    """Return the part of a case's name for its calls: `unary-128B`, `batch1000-1KB`."""
    return f"{'unary' if batch == 1 else f'batch{batch}'}-{f'{size}B' if size % 1024 else f'{size // 1024}KB'}"


class Caller(NamedTuple):
    """One of many callers that fill and empty a queue."""

    add: Callable[[], Awaitable[object]]
    """Adds one batch of the load; returns once it is acknowledged."""
    pop: Callable[[], Awaitable[int]]
    """Pops up to one batch; returns the number of messages, 0 if the queue is empty."""


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


Consume = Callable[[], Awaitable[None]]
"""Passes messages to a record and then acknowledges each, until all expected ones have arrived.

Returns once the server has the last acknowledgement.
"""


class RunningServer(NamedTuple):
    """A running server."""

    address: str
    """`host:port`."""
    pid: int
    facts: Mapping[str, Any] = {}
    """What our server logs when it serves."""


class Contender(ABC):
    """A message queue server, and in the processes of clients, their connections to it."""

    packages: Sequence[str] = ()
    """The client's packages; optional ones that are missing are reported."""
    program: str
    """The server's program."""
    install: str
    """How to install it."""
    version_flag = "--version"
    shares_connection = True
    """Whether the callers of a process share a connection."""

    def __init__(self, name: str, store: str, address: str = "", bounds: Bounds = DEFAULTS) -> None:
        self.name = name
        self.store = store
        self.address = address
        self.bounds = bounds
        self._opened = AsyncExitStack()

    @property
    def is_disk(self) -> bool:
        """Whether messages have to be on disk."""
        return self.store == DISK

    def can(self, load: Load) -> bool:  # noqa: ARG002  # most support every load
        """Return whether it has calls for this load."""
        return True

    # The server

    @contextmanager
    def started(self, folder: Path) -> Iterator[RunningServer]:
        """Run a server on a free port, with its files in a folder; raise `NotHere` if that is not possible."""
        (port,) = free_ports(1)
        with closing(Child(self.name, [self.binary, *self.arguments(folder, port)], folder)) as server:
            server.start()
            server.listens(port)
            yield RunningServer(f"{HOST}:{port}", server.pid)

    def arguments(self, folder: Path, port: int) -> Sequence[str]:
        """Return the arguments of the server's program, for those that need nothing else."""
        raise NotImplementedError

    @property
    def binary(self) -> str:
        """The path of the server's program."""
        return program(self.program, self.install)

    @property
    def server_version(self) -> str:
        """The version of the server."""
        return output_of(self.binary, self.version_flag)

    @property
    def versions(self) -> str:
        """The server and the client's packages with their versions."""
        found = re.search(r"\d+(\.\d+)+", self.server_version)
        return ", ".join([f"{self.program} {found[0] if found else '?'}", *map(_package_version, self.packages)])

    # The clients

    @abstractmethod
    def connected(self) -> AbstractAsyncContextManager[Any]:
        """Connect to the server."""

    async def create(self, connection: Any, name: str) -> str:  # noqa: ANN401, ARG002  # as `connected` says
        """Create an empty queue; return how clients refer to it. By default, its first use creates it."""
        return name

    @abstractmethod
    async def caller(self, connection: Any, queue: str, payloads: Sequence[bytes]) -> Caller:  # noqa: ANN401  # as `connected` says
        """Make a caller that adds these messages at a time."""

    @abstractmethod
    async def producer(self, connection: Any, queue: str) -> Producer:  # noqa: ANN401  # as `connected` says
        """Make the only producer. The consumer is there before it."""

    @abstractmethod
    async def consumer(self, connection: Any, queue: str, record: Record) -> Consume:  # noqa: ANN401  # as `connected` says
        """Make the only consumer."""

    @abstractmethod
    async def count_messages(self, connection: Any, queue: str) -> int:  # noqa: ANN401  # as `connected` says
        """Return how many messages the server still has, delivered or not."""

    async def make_queue(self) -> str:
        """Create an empty queue with a new name; return how clients refer to it."""
        async with self.connected() as connection:
            return await self.create(connection, f"bench-{uuid4()}")

    async def open_callers(self, queue: str, load: Load) -> Sequence[Caller]:
        """Connect as many callers as the load requires."""
        connections = [await self.connection() for _ in range(1 if self.shares_connection else load.callers)]
        return [
            await self.caller(connections[number % len(connections)], queue, load.payloads)
            for number in range(load.callers)
        ]

    async def open_producer(self, queue: str) -> Producer:
        """Connect the producer."""
        return await self.producer(await self.connection(), queue)

    async def open_consumer(self, queue: str, record: Record) -> Consume:
        """Connect the consumer."""
        return await self.consumer(await self.connection(), queue, record)

    async def count_left(self, queue: str) -> int:
        """Return how many messages are in a queue, once it is empty or after a timeout."""
        async with self.connected() as connection:
            for _ in range(_LOOKS):
                if not (left := await self.count_messages(connection, queue)):
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        return left

    async def connection(self) -> Any:  # noqa: ANN401  # as `connected` says
        """Connect to the server until `close`."""
        return await self._opened.enter_async_context(self.connected())

    async def close(self) -> None:
        """Disconnect."""
        await self._opened.aclose()


def output_of(*command: str) -> str:
    """Return the output of a program."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return done.stdout or done.stderr


def _package_version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"without {name}"
