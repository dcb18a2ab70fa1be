"""A queue of RabbitMQ, by pika: classic and transient in memory, a quorum queue on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

from pika import BasicProperties, ConnectionParameters  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]
from pika.channel import Channel  # type: ignore[import-untyped]
from pika.frame import Method  # type: ignore[import-untyped]
from pika.spec import Basic  # type: ignore[import-untyped]

from bench.contender import (
    Caller,
    Consume,
    Contender,
    Producer,
    RunningServer,
    output_of,
)
from bench.errors import Failed
from bench.processes import HOST, Child, program
from bench.record import Record
from tools.control_plane.ports import reserved_ports

_WRAPPED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself, because the program on the path may be a wrapper that requires the user `rabbitmq`."""

_IDLE_SECONDS = 0.5
"""How long a caller waits for messages before the queue counts as empty."""


class RabbitMQ(Contender):
    """Publisher confirms; one channel per caller, and per producer and consumer.

    A caller publishes a batch with all confirms in flight, and pops it by a consumer whose prefetch is the batch. It
    pops a single message by basic.get without acknowledgement. Consumers acknowledge together what arrived together.
    """

    packages = ("pika",)
    program, install = "rabbitmq-server", "apt-get install rabbitmq-server"
    nodes = 1

    @contextmanager
    def started(self, folder: Path) -> Iterator[RunningServer]:
        """Run the nodes, and the port mapper that Erlang needs."""
        names = [f"bench{number}@localhost" for number in range(self.nodes)]
        quoted = ", ".join(f"'{name}'" for name in names)
        (folder / "cluster.config").write_text(f"[{{rabbit, [{{cluster_nodes, {{[{quoted}], disc}}}}]}}].\n")
        cookie = folder / ".erlang.cookie"  # one for all nodes
        cookie.write_text("BENCH")
        cookie.chmod(0o400)
        with ExitStack() as running:
            mapper_port, *ports = running.enter_context(reserved_ports(1 + 2 * self.nodes))
            mapper = Child("epmd", [program("epmd", self.install), "-port", str(mapper_port)], folder)
            running.enter_context(closing(mapper)).start()
            nodes = [
                running.enter_context(closing(self._node(folder, name, mapper_port, *ports[2 * place : 2 * place + 2])))
                for place, name in enumerate(names)
            ]
            for node in nodes:
                node.start()
            for node, port in zip(nodes, ports[::2], strict=True):
                node.listens(port)
                for _ in names[1:]:
                    node.logged("rabbit on node")  # another one of the cluster, which it has found
            pids = [int((folder / f"{name}.pid").read_text()) for name in names]
            yield RunningServer(f"{HOST}:{ports[0]}", pids[0], {"node_pids": pids})

    def _node(self, folder: Path, name: str, mapper_port: int, port: int, other_port: int) -> Child:
        environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(other_port),
            "RABBITMQ_CONFIG_FILE": str(folder / "cluster"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_PID_FILE": str(folder / f"{name}.pid"),
            # Without these flags its schedulers spin while they wait, and take CPU from everything else.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        return Child(name, [str(_WRAPPED) if _WRAPPED.exists() else self.binary], folder, environment)

    @property
    def server_version(self) -> str:
        """The version of the Debian package, because the server reports its version only while it runs."""
        return output_of("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncioConnection]:
        """Open a connection. Raises `Failed` if there is no server."""
        host, port = self.address.split(":")
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[AsyncioConnection] = loop.create_future()
        AsyncioConnection(
            ConnectionParameters(host, int(port), heartbeat=0),
            on_open_callback=opened.set_result,
            on_open_error_callback=lambda _, error: opened.set_exception(Failed(f"no connection: {error}")),
            custom_ioloop=loop,
        )
        connection = await opened
        try:
            yield connection
        finally:
            connection.close()

    async def create(self, connection: AsyncioConnection, name: str) -> str:
        """Declare a queue."""
        quorum = {"x-queue-type": "quorum", "x-quorum-initial-group-size": self.nodes}
        kind = {"durable": True, "arguments": quorum} if self.is_disk else {}
        await _called((await _channel(connection)).queue_declare, name, **kind)
        return name

    async def caller(self, connection: AsyncioConnection, queue: str, payloads: Sequence[bytes]) -> Caller:
        """Use a channel of its own."""
        channel = await _channel(connection)
        producer = await self._producer(channel, queue, len(payloads))
        await _called(channel.basic_qos, prefetch_count=len(payloads))

        async def add() -> None:
            await producer.put(payloads)
            await producer.flush()

        return Caller(add, _getter(channel, queue) if len(payloads) == 1 else _Batches(channel, queue).pop)

    async def producer(self, connection: AsyncioConnection, queue: str) -> Producer:
        """Enable confirms."""
        return await self._producer(await _channel(connection), queue, self.bounds.in_flight)

    async def consumer(self, connection: AsyncioConnection, queue: str, record: Record) -> Consume:
        """Consume with a prefetch."""
        channel = await _channel(connection)
        await _called(channel.basic_qos, prefetch_count=self.bounds.unacknowledged)
        consumer = _Consumer(channel, queue, record)
        channel.basic_consume(queue, consumer.on_message)
        return consumer.consume

    async def count_messages(self, connection: AsyncioConnection, queue: str) -> int:
        """Return how many messages are in the queue. Unacknowledged ones have been requeued by now."""
        declared = await _called((await _channel(connection)).queue_declare, queue, passive=True)
        count: int = declared.method.message_count
        return count

    async def _producer(self, channel: Channel, queue: str, in_flight: int) -> _Producer:
        producer = _Producer(channel, queue, in_flight, BasicProperties(delivery_mode=2 if self.is_disk else 1))
        await _called(channel.confirm_delivery, producer.on_confirm)
        return producer


class RabbitMQThree(RabbitMQ):
    """A quorum queue on three nodes. The clients are connected to the node that declares it, which leads it."""

    nodes = 3


# pika reports everything by callbacks. These functions make its calls awaitable.


async def _channel(connection: AsyncioConnection) -> Channel:
    opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    connection.channel(on_open_callback=opened.set_result)
    return await opened


async def _called(method: Callable[..., object], *arguments: object, **named: object) -> Method:
    """Call a method that responds by a callback, and return the response."""
    done: asyncio.Future[Method] = asyncio.get_running_loop().create_future()
    method(*arguments, callback=done.set_result, **named)
    return await done


class _Producer(Producer):
    def __init__(self, channel: Channel, queue: str, in_flight: int, properties: BasicProperties) -> None:
        self._channel = channel
        self._queue = queue
        self._most = in_flight
        self._properties = properties
        self._last_tag = 0
        self._first_open = 1
        self._open: set[int] = set()
        self._confirmed = asyncio.Event()
        self._is_refused = False

    async def put(self, payloads: Sequence[bytes]) -> None:
        await self._wait_until_open(self._most - len(payloads))
        for payload in payloads:
            self._last_tag += 1
            self._open.add(self._last_tag)
            self._channel.basic_publish("", self._queue, payload, self._properties)

    async def flush(self) -> None:
        await self._wait_until_open(0)

    async def _wait_until_open(self, most: int) -> None:
        while len(self._open) > most and not self._is_refused:
            self._confirmed.clear()
            await self._confirmed.wait()
        if self._is_refused:
            raise Failed("RabbitMQ refused a message")

    def on_confirm(self, frame: Method) -> None:
        method = frame.method
        self._is_refused = self._is_refused or isinstance(method, Basic.Nack)
        if method.multiple:
            self._open.difference_update(range(self._first_open, method.delivery_tag + 1))
            self._first_open = max(self._first_open, method.delivery_tag + 1)
        else:
            self._open.discard(method.delivery_tag)
        self._confirmed.set()


def _getter(channel: Channel, queue: str) -> Callable[[], Awaitable[int]]:
    """Return how to pop a single message."""
    responses: asyncio.Queue[int] = asyncio.Queue()
    channel.add_callback(lambda _: responses.put_nowait(0), [Basic.GetEmpty], one_shot=False)

    async def get() -> int:
        channel.basic_get(queue, lambda *_: responses.put_nowait(1), auto_ack=True)
        return await responses.get()

    return get


class _Batches:
    """A consumer whose prefetch is the batch. It is cancelled if no message arrives."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._consumer = ""
        self._arrived = asyncio.Event()
        self._count = 0
        self._delivery_tag = 0

    async def pop(self) -> int:
        if not self._consumer:
            self._consumer = self._channel.basic_consume(self._queue, self._on_message)
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._arrived.wait()
        except TimeoutError:
            await _called(self._channel.basic_cancel, self._consumer)
            self._consumer = ""
            if not self._count:  # messages may arrive until the consumer is cancelled
                return 0
        self._arrived.clear()
        count, self._count = self._count, 0
        self._channel.basic_ack(self._delivery_tag, multiple=True)
        return count

    def _on_message(self, _: Channel, method: Basic.Deliver, *__: object) -> None:
        self._count += 1
        self._delivery_tag = method.delivery_tag
        self._arrived.set()


class _Consumer:
    def __init__(self, channel: Channel, queue: str, record: Record) -> None:
        self._channel = channel
        self._queue = queue
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._last_tag = 0
        self._acknowledged = 0

    async def consume(self) -> None:
        await self._record.complete.wait()
        self._acknowledge()
        # An acknowledgement has no response. This call has one, and a channel processes commands in order.
        await _called(self._channel.queue_declare, self._queue, passive=True)

    def on_message(self, _: Channel, method: Basic.Deliver, __: BasicProperties, body: bytes) -> None:
        """Handle a message, and acknowledge it together with those that arrived with it."""
        self._record.handle(body)
        if self._last_tag == self._acknowledged:
            self._loop.call_soon(self._acknowledge)
        self._last_tag = method.delivery_tag

    def _acknowledge(self) -> None:
        if self._last_tag > self._acknowledged:
            self._acknowledged = self._last_tag
            self._channel.basic_ack(self._last_tag, multiple=True)
