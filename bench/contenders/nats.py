"""A JetStream stream of NATS, by nats-py: a work queue, which removes a message once it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, PubAck, RetentionPolicy, StorageType

from bench.contender import IN_FLIGHT, UNACKNOWLEDGED, Caller, Consumer, Contender, Load, Producer
from bench.errors import Failed
from bench.processes import HOST
from bench.record import Record

_CONSUMER = "bench"
_PENDING_BYTES = 1 << 30
_FETCH_SECONDS = 0.5
"""How long a fetch waits before it checks whether the queue is empty."""


class Nats(Contender):
    """One stream per queue; each message has its own acknowledgement.

    The callers of a driver share a connection. A batch is published with all acks in flight, and popped by a fetch. To
    a consumer, messages arrive by a push consumer with a callback, because a `fetch` costs this client twice the CPU
    per message.
    """

    packages = ("nats-py",)
    program, install = "nats-server", "uv sync --all-extras --group bench"

    def arguments(self, folder: Path, port: int) -> Sequence[str]:
        """Write the settings. On disk, it syncs at every write."""
        sync = "sync_interval: always" if self.is_disk else ""
        settings = folder / "settings"
        settings.write_text(f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{folder}"\n{sync} }}\n')
        return ["-c", str(settings)]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Connect."""
        connection = await nats.connect(f"nats://{self.address}", error_cb=_ignore)
        try:
            yield connection
        finally:
            await connection.close()

    async def make_queue(self) -> str:
        """Create a stream."""
        name = await super().make_queue()
        storage = StorageType.FILE if self.is_disk else StorageType.MEMORY
        async with self.connected() as connection:
            await connection.jetstream().add_stream(
                name=name, subjects=[name], storage=storage, retention=RetentionPolicy.WORK_QUEUE
            )
        return name

    async def callers(self, queue: str, load: Load) -> Sequence[Caller]:
        """Connect once for all callers of this driver. All drivers create the same consumer."""
        stream = (await self.connection()).jetstream(publish_async_max_pending=load.callers * load.batch)
        config = ConsumerConfig(durable_name=_CONSUMER, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1_000_000)
        await stream.add_consumer(queue, config)
        return [
            _Caller(stream, await stream.pull_subscribe_bind(_CONSUMER, stream=queue), queue, load)
            for _ in range(load.callers)
        ]

    async def producer(self, queue: str) -> Producer:
        """Connect, with this many concurrent publishes."""
        return _Producer((await self.connection()).jetstream(publish_async_max_pending=IN_FLIGHT), queue)

    async def consumer(self, queue: str, record: Record) -> Consumer:
        """Connect, create a push consumer, and subscribe."""
        connection: Connection = await self.connection()
        stream = connection.jetstream()
        config = ConsumerConfig(
            durable_name=_CONSUMER,
            deliver_subject=connection.new_inbox(),
            ack_policy=AckPolicy.EXPLICIT,
            max_ack_pending=UNACKNOWLEDGED,
        )
        consumer = _Consumer(record)
        await stream.subscribe_bind(
            queue,
            (await stream.add_consumer(queue, config)).config,
            _CONSUMER,
            cb=consumer.on_message,
            manual_ack=True,
            pending_msgs_limit=-1,
            pending_bytes_limit=_PENDING_BYTES,
        )
        return consumer

    async def count_messages(self, queue: str) -> int:
        """Return the stream's message count."""
        async with self.connected() as connection:
            return (await connection.jetstream().stream_info(queue)).state.messages


async def _ignore(_: Exception) -> None:
    """Ignore a broken connection, because the calls that fail report it."""


class _Caller:
    def __init__(
        self, stream: JetStreamContext, subscription: JetStreamContext.PullSubscription, subject: str, load: Load
    ) -> None:
        self._stream = stream
        self._subscription = subscription
        self._subject = subject
        self._payloads = load.payloads

    async def add(self) -> None:
        if len(self._payloads) == 1:
            await self._stream.publish(self._subject, self._payloads[0])
            return
        await asyncio.gather(*[await self._stream.publish_async(self._subject, payload) for payload in self._payloads])

    async def pop(self) -> int:
        while True:
            try:
                messages = await self._subscription.fetch(len(self._payloads), timeout=_FETCH_SECONDS)
            except TimeoutError:  # it returns at an empty queue, and sometimes under load
                consumer = await self._subscription.consumer_info()
                if not consumer.num_pending and not consumer.num_ack_pending:
                    return 0
            else:
                for message in messages:
                    await message.ack()
                return len(messages)


class _Producer(Producer):
    def __init__(self, stream: JetStreamContext, subject: str) -> None:
        self._stream = stream
        self._subject = subject
        self._failure: BaseException | None = None

    async def put(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            future = await self._stream.publish_async(self._subject, payload)
            future.add_done_callback(self._on_ack)
        self._check()

    async def flush(self) -> None:
        while self._stream.publish_async_pending():
            await self._stream.publish_async_completed()
        self._check()

    def _on_ack(self, future: asyncio.Future[PubAck]) -> None:
        self._failure = future.exception() or self._failure

    def _check(self) -> None:
        if self._failure:
            raise Failed(f"NATS refused a message: {self._failure}")


class _Consumer:
    def __init__(self, record: Record) -> None:
        self._record = record
        self._acknowledged = asyncio.Event()

    async def consume(self) -> None:
        await self._acknowledged.wait()
        self._acknowledged.clear()

    async def on_message(self, message: Msg) -> None:
        """Handle a message. The last acknowledgement is confirmed, which shows that those before it have arrived."""
        self._record.handle(message.data)
        if self._record.remaining:
            await message.ack()
        else:
            await message.ack_sync()
            self._acknowledged.set()
