"""A Redis list: LPUSH and RPOP, without persistence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from redis.asyncio import Redis

from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Caller, Lifecycle, Load, System


class RedisList(System):
    """One list per queue, one connection per caller. A batch is popped by one RPOP with a count.

    A batch is added by a pipeline of one LPUSH per message, or by one LPUSH of all messages.
    """

    def __init__(self, name: str, *, variadic: bool) -> None:
        super().__init__(name)
        self._variadic = variadic

    def can(self, load: Load) -> bool:
        """Return whether this differs from the pipelined way."""
        return load.batch > 1 or not self._variadic

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run redis-server."""
        port = free_port()
        binary = program("redis-server", "apt-get install redis-server")
        settings = {"bind": HOST, "port": str(port), "save": "", "appendonly": "no", "dir": str(folder)}
        command = [binary, *(word for key, value in settings.items() for word in (f"--{key}", value))]
        with started(command, folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    async def make_queue(self, address: str) -> str:  # noqa: ARG002  # LPUSH creates a list
        """Return an unused key."""
        return f"bench:{uuid4()}"

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect each caller."""
        host, port = address.split(":")
        async with AsyncExitStack() as connections:
            callers: list[Caller] = []
            for _ in range(load.callers):
                redis = Redis(host=host, port=int(port), single_connection_client=True)
                await connections.enter_async_context(redis)
                callers.append(_Caller(redis, queue, load, variadic=self._variadic))
            yield callers


class _Caller:
    def __init__(self, redis: Redis, queue: str, load: Load, *, variadic: bool) -> None:
        self._redis = redis
        self._queue = queue
        self._payload = load.payload
        self._batch = load.batch
        self._variadic = variadic

    async def add(self) -> None:
        if self._batch == 1:
            await self._redis.lpush(self._queue, self._payload)
        elif self._variadic:
            await self._redis.lpush(self._queue, *[self._payload] * self._batch)
        else:
            pipeline = self._redis.pipeline(transaction=False)
            for _ in range(self._batch):
                pipeline.lpush(self._queue, self._payload)
            await pipeline.execute()

    async def pop(self) -> int:
        if self._batch == 1:
            return 0 if await self._redis.rpop(self._queue) is None else 1
        return len(await self._redis.rpop(self._queue, self._batch) or ())


PIPELINED = RedisList("redis", variadic=False)
VARIADIC = RedisList("redis-variadic", variadic=True)
