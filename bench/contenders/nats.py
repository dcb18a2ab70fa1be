"""A JetStream stream of NATS, by nats-py: a work queue, which removes a message once it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, PubAck, RetentionPolicy, StorageType, StreamConfig

from bench.contender import Caller, Consume, Contender, Producer, RunningServer
from bench.errors import Failed
from bench.processes import HOST, Child
from bench.record import Record
from tools.control_plane.ports import reserved_ports

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

    replicas = 1

    def arguments(self, folder: Path, port: int, more: str = "") -> Sequence[str]:
        """Write the settings, and more of them. On disk, it syncs at every write."""
        sync = "sync_interval: always" if self.is_disk else ""
        settings = folder / f"settings-{port}"
        store = f'jetstream {{ store_dir: "{folder / str(port)}"\n{sync} }}'
        settings.write_text(f'listen: "{HOST}:{port}"\n{store}\n{more}\n')
        return ["-c", str(settings)]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Connect."""
        connection = await nats.connect(f"nats://{self.address}", error_cb=_ignore)
        try:
            yield connection
        finally:
            await connection.close()

    async def create(self, connection: Connection, name: str) -> str:
        """Create a stream."""
        storage = StorageType.FILE if self.is_disk else StorageType.MEMORY
        config = StreamConfig(name, subjects=[name], storage=storage, num_replicas=self.replicas)
        await connection.jetstream().add_stream(config, retention=RetentionPolicy.WORK_QUEUE)
        return name

    async def caller(self, connection: Connection, queue: str, payloads: Sequence[bytes]) -> Caller:
        """Publish, and fetch. All callers create the same consumer."""
        stream = connection.jetstream(publish_async_max_pending=len(payloads))
        config = ConsumerConfig(durable_name=_CONSUMER, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1_000_000)
        await stream.add_consumer(queue, config)
        subscription = await stream.pull_subscribe_bind(_CONSUMER, stream=queue)

        async def add() -> None:
            await asyncio.gather(*[await stream.publish_async(queue, payload) for payload in payloads])

        async def pop() -> int:
            while True:
                try:
                    messages = await subscription.fetch(len(payloads), timeout=_FETCH_SECONDS)
                except TimeoutError:  # it returns at an empty queue, and sometimes under load
                    consumer = await subscription.consumer_info()
                    if not consumer.num_pending and not consumer.num_ack_pending:
                        return 0
                else:
                    for message in messages:
                        await message.ack()
                    return len(messages)

        return Caller((lambda: stream.publish(queue, payloads[0])) if len(payloads) == 1 else add, pop)

    async def producer(self, connection: Connection, queue: str) -> Producer:
        """Limit the concurrent publishes."""
        return _Producer(connection.jetstream(publish_async_max_pending=self.bounds.in_flight), queue)

    async def consumer(self, connection: Connection, queue: str, record: Record) -> Consume:
        """Create a push consumer, and subscribe."""
        stream = connection.jetstream()
        config = ConsumerConfig(
            durable_name=_CONSUMER,
            deliver_subject=connection.new_inbox(),
            ack_policy=AckPolicy.EXPLICIT,
            max_ack_pending=self.bounds.unacknowledged,
        )
        acknowledged = asyncio.Event()

        async def on_message(message: Msg) -> None:
            record.handle(message.data)
            if record.remaining:
                await message.ack()
            else:
                # The last acknowledgement is confirmed, which shows that those before it have arrived.
                await message.ack_sync()
                acknowledged.set()

        async def consume() -> None:
            await acknowledged.wait()
            acknowledged.clear()

        await stream.subscribe_bind(
            queue,
            (await stream.add_consumer(queue, config)).config,
            _CONSUMER,
            cb=on_message,
            manual_ack=True,
            pending_msgs_limit=-1,
            pending_bytes_limit=_PENDING_BYTES,
        )
        return consume

    async def count_messages(self, connection: Connection, queue: str) -> int:
        """Return the stream's message count."""
        return (await connection.jetstream().stream_info(queue)).state.messages


class NatsThree(Nats):
    """A stream with three replicas. The clients are connected to one node, whichever leads the stream."""

    replicas = 3

    @contextmanager
    def started(self, folder: Path) -> Iterator[RunningServer]:
        """Run the nodes, until they have elected a leader."""
        with ExitStack() as running:
            ports = running.enter_context(reserved_ports(2 * self.replicas))
            clients, routes = ports[::2], ports[1::2]
            others = ", ".join(f'"nats://{HOST}:{route}"' for route in routes)
            nodes: list[Child] = []
            for port, route in zip(clients, routes, strict=True):
                cluster = f'cluster {{ name: bench, listen: "{HOST}:{route}", routes: [{others}] }}'
                settings = self.arguments(folder, port, f"server_name: bench-{port}\n{cluster}")
                node = Child(f"{self.name}-{port}", [self.binary, *settings], folder)
                running.enter_context(closing(node)).start()
                nodes.append(node)
            for node in nodes:
                node.logged("metadata leader")
            yield RunningServer(f"{HOST}:{clients[0]}", nodes[0].pid, {"node_pids": [node.pid for node in nodes]})


async def _ignore(_: Exception) -> None:
    """Ignore a broken connection, because the calls that fail report it."""


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
