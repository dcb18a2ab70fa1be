"""A queue of RabbitMQ, by pika: classic and transient in memory, a quorum queue on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from uuid import uuid4

from pika import BasicProperties  # type: ignore[import-untyped]
from pika.channel import Channel  # type: ignore[import-untyped]
from pika.frame import Method  # type: ignore[import-untyped]
from pika.spec import Basic  # type: ignore[import-untyped]

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter, first_line_of
from bench.cycle.record import Record
from bench.pika_calls import called, connected, open_channel
from bench.process import program
from bench.system import Failed, Lifecycle
from bench.systems.rabbitmq import RABBITMQ


class RabbitMQ(Contender):
    """Publisher confirms with many in flight; a consumer with a prefetch acknowledges together what arrived together.

    The queue in memory is a classic one, of transient messages.
    """

    packages = ("pika",)

    def start(self, folder: Path) -> AbstractContextManager[Lifecycle]:
        """Run the server."""
        return RABBITMQ.start(folder)

    def server_version(self) -> str:
        """Return the version of the Debian package, because the server reports its version only while it runs."""
        program("rabbitmq-server", "apt-get install rabbitmq-server")
        version = first_line_of(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"])
        return f"rabbitmq-server {version.partition('-')[0]}"

    async def make_queue(self, address: str, bounds: Bounds) -> str:  # noqa: ARG002  # the client enforces the bounds
        """Declare a queue."""
        name = f"bench-{uuid4()}"
        connection = await connected(address)
        channel = await open_channel(connection)
        kind = {"durable": True, "arguments": {"x-queue-type": "quorum"}} if self.is_disk else {}
        await called(channel.queue_declare, name, **kind)
        connection.close()
        return name

    @asynccontextmanager
    async def putter(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Putter]:
        """Connect, and enable confirms."""
        connection = await connected(address)
        putter = _Putter(await open_channel(connection), queue, bounds, is_persistent=self.is_disk)
        await putter.prepare()
        yield putter
        connection.close()

    @asynccontextmanager
    async def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[LongPoll]:
        """Connect and consume."""
        connection = await connected(address)
        channel = await open_channel(connection)
        await called(channel.basic_qos, prefetch_count=bounds.held)
        taker = _Taker(channel, queue, record)
        channel.basic_consume(queue, taker.on_message)
        yield taker
        connection.close()

    async def left(self, address: str, queue: str) -> int:
        """Return how many messages are in the queue. Unacknowledged ones have been requeued by now."""
        connection = await connected(address)
        declared = await called((await open_channel(connection)).queue_declare, queue, passive=True)
        connection.close()
        count: int = declared.method.message_count
        return count


class _Putter(Putter):
    def __init__(self, channel: Channel, queue: str, bounds: Bounds, *, is_persistent: bool) -> None:
        self._channel = channel
        self._queue = queue
        self._most = bounds.in_flight
        self._properties = BasicProperties(delivery_mode=2 if is_persistent else 1)
        self._last_tag = 0
        self._first_open = 1
        self._open: set[int] = set()
        self._confirmed = asyncio.Event()
        self._is_refused = False

    async def prepare(self) -> None:
        """Enable confirms."""
        await called(self._channel.confirm_delivery, self._on_confirm)

    async def put(self, payloads: Sequence[bytes]) -> None:
        await self._until_open(self._most - len(payloads))
        for payload in payloads:
            self._last_tag += 1
            self._open.add(self._last_tag)
            self._channel.basic_publish("", self._queue, payload, self._properties)

    async def flush(self) -> None:
        await self._until_open(0)

    async def _until_open(self, most: int) -> None:
        while len(self._open) > most and not self._is_refused:
            self._confirmed.clear()
            await self._confirmed.wait()
        if self._is_refused:
            raise Failed("RabbitMQ refused a message")

    def _on_confirm(self, frame: Method) -> None:
        method = frame.method
        self._is_refused = self._is_refused or isinstance(method, Basic.Nack)
        if method.multiple:
            self._open.difference_update(range(self._first_open, method.delivery_tag + 1))
            self._first_open = max(self._first_open, method.delivery_tag + 1)
        else:
            self._open.discard(method.delivery_tag)
        self._confirmed.set()


class _Taker(LongPoll):
    def __init__(self, channel: Channel, queue: str, record: Record) -> None:
        self._channel = channel
        self._queue = queue
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._last_tag = 0
        self._acknowledged = 0

    async def take(self) -> None:
        await self._record.complete.wait()
        self._acknowledge()
        # An acknowledgement has no response. This call has one, and a channel processes commands in order.
        await called(self._channel.queue_declare, self._queue, passive=True)

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
