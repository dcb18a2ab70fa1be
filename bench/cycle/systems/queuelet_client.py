"""Our server, with `Producer` and `Consumer`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter
from bench.cycle.record import Record
from bench.process import started_python
from bench.system import Failed, Lifecycle
from queuelet.client import Client, Consumer, Producer, Received

_RUN = (
    "from pathlib import Path; from queuelet.server import run, Settings; "
    "run(Settings(listen='127.0.0.1:0', metrics='127.0.0.1:0', data_dir={folder!r} and Path({folder!r})))"
)
_LOOK = 0.000_5
"""Seconds between two checks whether the server has the last acknowledgements."""


class QueueletClient(Contender):
    """Uses only the public API. With our default bounds, both sides use their default settings."""

    packages = ("grpcio", "protobuf")

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run the server."""
        data = str(folder / "data") if self.is_disk else ""
        with started_python(["-c", _RUN.format(folder=data)], folder) as (address, pid):
            yield Lifecycle(address, pid)

    def server_version(self) -> str:
        """Return our version."""
        return f"queuelet {version('queuelet')}"

    async def make_queue(self, address: str, bounds: Bounds) -> str:  # noqa: ARG002  # the client enforces the bounds
        """Create a queue without a limit."""
        async with Client(address) as client:
            return (await client.new_queue(store=self.store.upper())).id

    @asynccontextmanager
    async def putter(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Putter]:
        """Open a producer."""
        async with Client(address) as client:
            if bounds.is_ours:
                producer = Producer(client, queue)
            else:
                producer = Producer(client, queue, batch_messages=bounds.batch, buffer_messages=bounds.in_flight)
            async with producer:
                yield _Putter(producer)

    @asynccontextmanager
    async def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[LongPoll]:
        """Open a consumer."""

        async def handle(received: Received[bytes]) -> None:
            record.handle(received.payload)

        async with Client(address) as client:
            if bounds.is_ours:
                consumer = Consumer(client, queue, handle)
            else:
                consumer = Consumer(client, queue, handle, prefetch=bounds.held - 1)
            async with consumer:
                yield _Taker(consumer, record)

    async def left(self, address: str, queue: str) -> int:
        """Return the number of messages in the queue, dead letters included."""
        async with Client(address) as client:
            return (await client.get_queue(queue)).messages.total


class _Putter(Putter):
    def __init__(self, producer: Producer[bytes]) -> None:
        self._producer = producer
        self._waiting: set[asyncio.Task[object]] = set()

    async def put(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            await self._producer.send(payload)

    async def put_awaited(self, payloads: Sequence[bytes]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(self._producer.put_many(payloads))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def flush(self) -> None:
        await asyncio.gather(*self._waiting)
        await self._producer.flush()


class _Taker(LongPoll):
    def __init__(self, consumer: Consumer[bytes], record: Record) -> None:
        self._consumer = consumer
        self._record = record

    async def take(self) -> None:
        await self._record.complete.wait()
        while self._consumer.done < self._record.total:
            if self._consumer.failed or self._consumer.lost:
                raise Failed("a message was handled but could not be acknowledged")
            await asyncio.sleep(_LOOK)
