"""Redis, by redis-py: a list for callers, a stream with a consumer group for a producer and a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis as Connection

from bench.contender import Caller, Consume, Contender, Load, Producer
from bench.processes import HOST
from bench.record import Record

_GROUP = "bench"
_FIELD = "p"
_BLOCK_MS = 1_000
"""How long a read waits for messages before it is repeated."""


class Redis(Contender):
    """A list per queue: LPUSH, pipelined in batches; RPOP, with a count in batches. One connection per caller.

    A producer and a consumer use a stream: pipelines of XADD, one per batch; XREADGROUP with a count. Handled messages
    are acknowledged by one XACK and removed by one XDEL, in the pipeline that reads the next messages, because a stream
    keeps acknowledged messages and would grow without bound.
    """

    packages = ("redis", "hiredis")
    program, install = "redis-server", "apt-get install redis-server"
    shares_connection = False
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

    async def producer(self, connection: Connection, queue: str) -> Producer:
        """Open another connection, so that there is one for each concurrent pipeline."""
        return _Producer([connection, await self.connection()], queue)

    async def consumer(self, connection: Connection, queue: str, record: Record) -> Consume:
        """Create the stream with its group."""
        await connection.xgroup_create(queue, _GROUP, mkstream=True)

        async def consume() -> None:
            done: list[bytes] = []
            while True:
                pipeline = connection.pipeline(transaction=False)
                if done:
                    pipeline.xack(queue, _GROUP, *done)
                    pipeline.xdel(queue, *done)
                if record.remaining:
                    pipeline.xreadgroup(_GROUP, "1", {queue: ">"}, count=self.bounds.unacknowledged, block=_BLOCK_MS)
                responses = await pipeline.execute()
                if not record.remaining:
                    return
                done = []
                for _, entries in responses[-1]:
                    for entry, fields in entries:
                        record.handle(fields[_FIELD.encode()])
                        done.append(entry)

        return consume

    async def count_messages(self, connection: Connection, queue: str) -> int:
        """Return the stream's length, and entries that are pending although they were removed."""
        pending: int = (await connection.xpending(queue, _GROUP))["pending"]
        length: int = await connection.xlen(queue)
        return max(length, pending)

    async def caller(self, connection: Connection, queue: str, payloads: Sequence[bytes]) -> Caller:
        """Add and pop by a list."""

        async def add() -> None:
            pipeline = connection.pipeline(transaction=False)
            for payload in payloads:
                pipeline.lpush(queue, payload)
            await pipeline.execute()

        async def pop() -> int:
            return len(await connection.rpop(queue, len(payloads)) or ())

        async def pop_one() -> int:
            return 0 if await connection.rpop(queue) is None else 1

        is_one = len(payloads) == 1
        is_one_call = is_one or self.is_variadic
        return Caller((lambda: connection.lpush(queue, *payloads)) if is_one_call else add, pop_one if is_one else pop)


class RedisVariadic(Redis):
    """Like Redis, but one LPUSH adds all messages of a batch."""

    is_variadic = True

    def can(self, load: Load) -> bool:
        """Return whether this differs from the pipelined way."""
        return load.batch > 1


class _Producer(Producer):
    """Fills one pipeline while another is in flight. More would only wait for one another."""

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
