"""A classic queue of RabbitMQ: transient messages with publisher confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from pika import BasicProperties  # type: ignore[import-untyped]
from pika.channel import Channel  # type: ignore[import-untyped]
from pika.frame import Method  # type: ignore[import-untyped]
from pika.spec import Basic  # type: ignore[import-untyped]

from bench.pika_calls import called, connected, open_channel
from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Caller, Failed, Lifecycle, Load, System

_INSTALL = "apt-get install rabbitmq-server"
_WRAPPED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself, because the program on the path may be a wrapper that requires the user `rabbitmq`."""

_PATIENCE = 0.5
"""Seconds that a consumer waits before the queue counts as empty."""


class RabbitMQ(System):
    """One channel per caller.

    A batch is published with all confirms in flight. It is popped by a consumer whose prefetch is the batch, and which
    acknowledges messages that arrive together at once. A single message is popped by basic.get without acknowledgement.
    """

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run the server, and the port mapper that Erlang needs."""
        binary = program("rabbitmq-server", _INSTALL)
        mapper = program("epmd", _INSTALL)
        port, mapper_port, mapper_folder = free_port(), free_port(), folder / "epmd"
        mapper_folder.mkdir()
        environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Without these flags its schedulers spin while they wait, and take CPU from everything else.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        with (
            started([mapper, "-port", str(mapper_port)], mapper_folder),
            started([str(_WRAPPED) if _WRAPPED.exists() else binary], folder, environment) as process,
        ):
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", int((folder / "pid").read_text()))

    async def make_queue(self, address: str) -> str:
        """Declare a queue."""
        name = f"bench-{uuid4()}"
        connection = await connected(address)
        channel = await open_channel(connection)
        await called(channel.queue_declare, name)
        connection.close()
        return name

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect once for all callers of this driver, with a channel for each."""
        connection = await connected(address)
        callers = [_Caller(await open_channel(connection), queue, load) for _ in range(load.callers)]
        for caller in callers:
            await caller.prepare()
        yield callers
        connection.close()


class _Caller:
    def __init__(self, channel: Channel, queue: str, load: Load) -> None:
        self._channel = channel
        self._queue = queue
        self._payload = load.payload
        self._batch = load.batch
        self._properties = BasicProperties(delivery_mode=1)
        self._last_tag = 0
        self._first_open = 1
        self._open: set[int] = set()
        self._confirmed = asyncio.Event()
        self._answers: asyncio.Queue[int] = asyncio.Queue()
        self._consumer = ""
        self._arrived = asyncio.Event()
        self._count = 0
        self._delivery_tag = 0

    async def prepare(self) -> None:
        """Enable confirms, limit the prefetch, and record empty responses."""
        await called(self._channel.confirm_delivery, self._on_confirm)
        await called(self._channel.basic_qos, prefetch_count=self._batch)
        self._channel.add_callback(lambda _: self._answers.put_nowait(0), [Basic.GetEmpty], one_shot=False)

    async def add(self) -> None:
        self._confirmed.clear()
        for _ in range(self._batch):
            self._last_tag += 1
            self._open.add(self._last_tag)
            self._channel.basic_publish("", self._queue, self._payload, self._properties)
        await self._confirmed.wait()

    async def pop(self) -> int:
        return await (self._get() if self._batch == 1 else self._consume())

    async def _get(self) -> int:
        self._channel.basic_get(self._queue, lambda *_: self._answers.put_nowait(1), auto_ack=True)
        return await self._answers.get()

    async def _consume(self) -> int:
        if not self._consumer:
            self._consumer = self._channel.basic_consume(self._queue, self._on_message)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._arrived.wait()
        except TimeoutError:
            await called(self._channel.basic_cancel, self._consumer)
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

    def _on_confirm(self, frame: Method) -> None:
        method = frame.method
        if isinstance(method, Basic.Nack):
            raise Failed("RabbitMQ refused a message")
        if method.multiple:
            self._open.difference_update(range(self._first_open, method.delivery_tag + 1))
            self._first_open = method.delivery_tag + 1
        else:
            self._open.discard(method.delivery_tag)
        if not self._open:
            self._first_open = self._last_tag + 1
            self._confirmed.set()


RABBITMQ = RabbitMQ("rabbitmq")
