"""Redis, by redis-py: a list for callers, a stream with a consumer group for a producer and a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis as Connection

from bench.contender import UNACKNOWLEDGED, Caller, Consumer, Contender, Load, Producer
from bench.processes import HOST
from bench.record import Record

_GROUP = "bench"
_FIELD = "p"
_BLOCK_MS = 1_000
"""How long a read waits for messages before it is repeated."""

_PIPELINES = 2
"""Concurrent pipelines at most: one is filled while another is in flight. More would only wait for one another."""


class Redis(Contender):
    """A list per queue: LPUSH, pipelined in batches; RPOP, with a count in batches. One connection per caller.

    A producer and a consumer use a stream: pipelines of XADD, one per batch; XREADGROUP with a count. Handled messages
    are acknowledged by one XACK and removed by one XDEL, in the pipeline that reads the next messages, because a stream
    keeps acknowledged messages and would grow without bound.
    """

    packages = ("redis", "hiredis")
    program, install = "redis-server", "apt-get install redis-server"
    is_variadic = False
    """Whether a batch is added by one LPUSH of all messages instead of a pipeline."""

    def arguments(self, folder: Path, port: int) -> Sequence[str]:
        """Return the settings. On disk, its append-only file is synced at every write."""
        saved = ["--appendonly", "yes", "--appendfsync", "always"] if self.is_disk else ["--appendonly", "no"]
        return ["--bind", HOST, "--port", str(port), "--save", "", "--dir", str(folder), *saved]

    def connected(self) -> Connection:
        """Connect."""
        host, port = self.address.split(":")
        return Connection(host=host, port=int(port), single_connection_client=True, protocol=2)

    async def callers(self, queue: str, load: Load) -> Sequence[Caller]:
        """Connect each caller."""
        return [_Caller(await self.connection(), queue, load, self.is_variadic) for _ in range(load.callers)]

    async def producer(self, queue: str) -> Producer:
        """Open one connection for each concurrent pipeline."""
        return _Producer([await self.connection() for _ in range(_PIPELINES)], queue)

    async def consumer(self, queue: str, record: Record) -> Consumer:
        """Connect, and create the stream with its group."""
        redis = await self.connection()
        await redis.xgroup_create(queue, _GROUP, mkstream=True)
        return _Consumer(redis, queue, record)

    async def count_messages(self, queue: str) -> int:
        """Return the stream's length, and entries that are pending although they were removed."""
        async with self.connected() as redis:
            pending: int = (await redis.xpending(queue, _GROUP))["pending"]
            length: int = await redis.xlen(queue)
        return max(length, pending)


class RedisVariadic(Redis):
    """Like Redis, but one LPUSH adds all messages of a batch."""

    is_variadic = True

    def can(self, load: Load) -> bool:
        """Return whether this differs from the pipelined way."""
        return load.batch > 1


class _Caller:
    def __init__(self, redis: Connection, key: str, load: Load, is_variadic: bool) -> None:  # noqa: FBT001  # private
        self._redis = redis
        self._key = key
        self._payloads = load.payloads
        self._is_one_call = is_variadic or load.batch == 1

    async def add(self) -> None:
        if self._is_one_call:
            await self._redis.lpush(self._key, *self._payloads)
            return
        pipeline = self._redis.pipeline(transaction=False)
        for payload in self._payloads:
            pipeline.lpush(self._key, payload)
        await pipeline.execute()

    async def pop(self) -> int:
        if len(self._payloads) == 1:
            return 0 if await self._redis.rpop(self._key) is None else 1
        return len(await self._redis.rpop(self._key, len(self._payloads)) or ())


class _Producer(Producer):
    def __init__(self, connections: Sequence[Connection], stream: str) -> None:
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        for redis in connections:
            self._free.put_nowait(redis)
        self._stream = stream
        self._in_flight: set[asyncio.Task[None]] = set()

    async def put(self, payloads: Sequence[bytes]) -> None:
        redis = await self._free.get()
        for task in [task for task in self._in_flight if task.done()]:
            self._in_flight.discard(task)
            task.result()
        self._in_flight.add(asyncio.create_task(self._send(redis, payloads)))

    async def flush(self) -> None:
        await asyncio.gather(*self._in_flight)
        self._in_flight.clear()

    async def _send(self, redis: Connection, payloads: Sequence[bytes]) -> None:
        try:
            pipeline = redis.pipeline(transaction=False)
            for payload in payloads:
                pipeline.xadd(self._stream, {_FIELD: payload})
            await pipeline.execute()
        finally:
            self._free.put_nowait(redis)


class _Consumer:
    def __init__(self, redis: Connection, stream: str, record: Record) -> None:
        self._redis = redis
        self._stream = stream
        self._record = record

    async def consume(self) -> None:
        done: list[bytes] = []
        while True:
            pipeline = self._redis.pipeline(transaction=False)
            if done:
                pipeline.xack(self._stream, _GROUP, *done)
                pipeline.xdel(self._stream, *done)
            if self._record.remaining:
                pipeline.xreadgroup(_GROUP, "1", {self._stream: ">"}, count=UNACKNOWLEDGED, block=_BLOCK_MS)
            responses = await pipeline.execute()
            if not self._record.remaining:
                return
            done = []
            for _, entries in responses[-1]:
                for entry, fields in entries:
                    self._record.handle(fields[_FIELD.encode()])
                    done.append(entry)
