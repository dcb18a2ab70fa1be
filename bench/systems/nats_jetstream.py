"""A JetStream stream of NATS, in memory, which removes a message once it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import nats
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType

from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Caller, Lifecycle, Load, System

_CONSUMER = "bench"
_PATIENCE = 0.5
"""Seconds that a fetch waits before it checks whether the queue is empty."""


class JetStream(System):
    """One stream per queue; the callers of a driver share a connection.

    A batch is published with all acks in flight.
    """

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run nats-server."""
        port = free_port()
        binary = program("nats-server", "uv sync --all-extras --group bench")
        with started([binary, "-a", HOST, "-p", str(port), "-js", "-sd", str(folder)], folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    async def make_queue(self, address: str) -> str:
        """Create a stream and a consumer."""
        name = f"bench-{uuid4()}"
        connection = await nats.connect(f"nats://{address}")
        stream = connection.jetstream()
        await stream.add_stream(
            name=name, subjects=[name], storage=StorageType.MEMORY, retention=RetentionPolicy.WORK_QUEUE
        )
        await stream.add_consumer(
            name, ConsumerConfig(durable_name=_CONSUMER, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1_000_000)
        )
        await connection.close()
        return name

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect once for all callers of this driver."""
        connection = await nats.connect(f"nats://{address}", error_cb=_ignore)
        stream = connection.jetstream(publish_async_max_pending=load.callers * load.batch)
        try:
            yield [
                _Caller(stream, await stream.pull_subscribe_bind(_CONSUMER, stream=queue), queue, load)
                for _ in range(load.callers)
            ]
            await connection.flush()
        finally:
            await connection.close()


class _Caller:
    def __init__(
        self, stream: JetStreamContext, subscription: JetStreamContext.PullSubscription, subject: str, load: Load
    ) -> None:
        self._stream = stream
        self._subscription = subscription
        self._subject = subject
        self._payload = load.payload
        self._batch = load.batch

    async def add(self) -> None:
        if self._batch == 1:
            await self._stream.publish(self._subject, self._payload)
            return
        acks = [await self._stream.publish_async(self._subject, self._payload) for _ in range(self._batch)]
        await asyncio.gather(*acks)

    async def pop(self) -> int:
        while True:
            try:
                messages = await self._subscription.fetch(self._batch, timeout=_PATIENCE)
            except TimeoutError:  # it returns at an empty queue, and sometimes under load
                consumer = await self._subscription.consumer_info()
                if not consumer.num_pending and not consumer.num_ack_pending:
                    return 0
            else:
                for message in messages:
                    await message.ack()
                return len(messages)


async def _ignore(_: Exception) -> None:
    """Ignore a broken connection, because the calls that fail report it."""


JETSTREAM = JetStream("nats")
