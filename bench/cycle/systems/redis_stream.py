"""A stream of Redis with a consumer group, by redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from redis.asyncio import Redis

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter, first_line_of
from bench.cycle.record import Record
from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Lifecycle

_GROUP = "bench"
_FIELD = "p"
_PATIENCE_MS = 1_000
"""How long a read waits for messages before it is repeated."""

_LANES = 2
"""Concurrent pipelines at most: one is filled while another is in flight. More would only wait for one another."""


class RedisStream(Contender):
    """Pipelines of XADD, one per batch; XREADGROUP with a count.

    Handled messages are acknowledged by one XACK and removed by one XDEL, in the pipeline that reads the next messages,
    because a stream keeps acknowledged messages and would grow without bound.
    """

    packages = ("redis", "hiredis")

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run redis-server. On disk, its append-only file is synced at every write."""
        port = free_port()
        settings = {"bind": HOST, "port": str(port), "save": "", "dir": str(folder)}
        settings |= {"appendonly": "yes", "appendfsync": "always"} if self.is_disk else {"appendonly": "no"}
        command = [_binary(), *(word for key, value in settings.items() for word in (f"--{key}", value))]
        with started(command, folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    def server_version(self) -> str:
        """Return the version of redis-server."""
        words = first_line_of([_binary(), "--version"]).split()
        return f"redis-server {next(word[2:] for word in words if word.startswith('v='))}"

    async def make_queue(self, address: str, bounds: Bounds) -> str:  # noqa: ARG002  # the client enforces the bounds
        """Create a stream with a group."""
        name = f"bench:{uuid4()}"
        async with _connection(address) as redis:
            await redis.xgroup_create(name, _GROUP, mkstream=True)
        return name

    @asynccontextmanager
    async def putter(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Putter]:
        """Open one connection for each concurrent pipeline."""
        async with AsyncExitStack() as opened:
            lanes = min(_LANES, bounds.in_flight // bounds.batch)
            yield _Putter([await opened.enter_async_context(_connection(address)) for _ in range(lanes)], queue)

    @asynccontextmanager
    async def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[LongPoll]:
        """Connect."""
        async with _connection(address) as redis:
            yield _Taker(redis, queue, bounds.held, record)

    async def left(self, address: str, queue: str) -> int:
        """Return the stream's length, and entries that are pending although they were removed."""
        async with _connection(address) as redis:
            pending: int = (await redis.xpending(queue, _GROUP))["pending"]
            length: int = await redis.xlen(queue)
        return max(length, pending)


def _binary() -> str:
    return program("redis-server", "apt-get install redis-server")


def _connection(address: str) -> Redis:
    host, port = address.split(":")
    return Redis(host=host, port=int(port), single_connection_client=True, protocol=2)


class _Putter(Putter):
    def __init__(self, connections: Sequence[Redis], stream: str) -> None:
        self._free: asyncio.Queue[Redis] = asyncio.Queue()
        for redis in connections:
            self._free.put_nowait(redis)
        self._stream = stream
        self._under_way: set[asyncio.Task[None]] = set()

    async def put(self, payloads: Sequence[bytes]) -> None:
        redis = await self._free.get()
        for task in [task for task in self._under_way if task.done()]:
            self._under_way.discard(task)
            task.result()
        self._under_way.add(asyncio.create_task(self._send(redis, payloads)))

    async def flush(self) -> None:
        await asyncio.gather(*self._under_way)
        self._under_way.clear()

    async def _send(self, redis: Redis, payloads: Sequence[bytes]) -> None:
        try:
            pipeline = redis.pipeline(transaction=False)
            for payload in payloads:
                pipeline.xadd(self._stream, {_FIELD: payload})
            await pipeline.execute()
        finally:
            self._free.put_nowait(redis)


class _Taker(LongPoll):
    def __init__(self, redis: Redis, stream: str, held: int, record: Record) -> None:
        self._redis = redis
        self._stream = stream
        self._held = held
        self._record = record

    async def take(self) -> None:
        done: list[bytes] = []
        while True:
            pipeline = self._redis.pipeline(transaction=False)
            if done:
                pipeline.xack(self._stream, _GROUP, *done)
                pipeline.xdel(self._stream, *done)
            if self._record.remaining:
                pipeline.xreadgroup(_GROUP, "1", {self._stream: ">"}, count=self._held, block=_PATIENCE_MS)
            answers = await pipeline.execute()
            if not self._record.remaining:
                return
            done = []
            for _, entries in answers[-1]:
                for entry, fields in entries:
                    self._record.handle(fields[_FIELD.encode()])
                    done.append(entry)
