"""A JetStream stream of NATS, by nats-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, PubAck, RetentionPolicy, StorageType

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter, first_line_of
from bench.cycle.record import Record
from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Failed, Lifecycle

_CONSUMER = "bench"
_PENDING_BYTES = 1 << 30


class JetStream(Contender):
    """A work queue: a message is removed once it is acknowledged, each by its own acknowledgement.

    Messages arrive by a push consumer with a callback, because a pull consumer's `fetch` costs this client twice the
    CPU per message.
    """

    packages = ("nats-py",)

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run nats-server. On disk, it syncs at every write."""
        port = free_port()
        sync = "sync_interval: always" if self.is_disk else ""
        settings = folder / "settings"
        settings.write_text(f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{folder}"\n{sync} }}\n')
        with started([_binary(), "-c", str(settings)], folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    def server_version(self) -> str:
        """Return the version of nats-server."""
        return first_line_of([_binary(), "--version"]).replace(": v", " ")

    async def make_queue(self, address: str, bounds: Bounds) -> str:
        """Create a stream and a consumer."""
        name = f"bench-{uuid4()}"
        connection = await nats.connect(f"nats://{address}")
        stream = connection.jetstream()
        storage = StorageType.FILE if self.is_disk else StorageType.MEMORY
        await stream.add_stream(name=name, subjects=[name], storage=storage, retention=RetentionPolicy.WORK_QUEUE)
        consumer = ConsumerConfig(
            durable_name=_CONSUMER,
            deliver_subject=connection.new_inbox(),
            ack_policy=AckPolicy.EXPLICIT,
            max_ack_pending=bounds.held,
        )
        await stream.add_consumer(name, consumer)
        await connection.close()
        return name

    @asynccontextmanager
    async def putter(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Putter]:
        """Connect, with this many concurrent publishes."""
        connection = await nats.connect(f"nats://{address}")
        try:
            yield _Putter(connection.jetstream(publish_async_max_pending=bounds.in_flight), queue)
        finally:
            await connection.close()

    @asynccontextmanager
    async def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[LongPoll]:  # noqa: ARG002  # the server enforces the bound
        """Connect and subscribe."""
        connection = await nats.connect(f"nats://{address}")
        try:
            stream = connection.jetstream()
            taker = _Taker(record)
            config = (await stream.consumer_info(queue, _CONSUMER)).config
            await stream.subscribe_bind(
                queue,
                config,
                _CONSUMER,
                cb=taker.on_message,
                manual_ack=True,
                pending_msgs_limit=-1,
                pending_bytes_limit=_PENDING_BYTES,
            )
            yield taker
        finally:
            await connection.close()

    async def left(self, address: str, queue: str) -> int:
        """Return the stream's message count."""
        connection = await nats.connect(f"nats://{address}")
        try:
            return (await connection.jetstream().stream_info(queue)).state.messages
        finally:
            await connection.close()


def _binary() -> str:
    return program("nats-server", "uv sync --all-extras --group bench")


class _Putter(Putter):
    def __init__(self, stream: JetStreamContext, subject: str) -> None:
        self._stream = stream
        self._subject = subject
        self._failure: BaseException | None = None

    async def put(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            future = await self._stream.publish_async(self._subject, payload)
            future.add_done_callback(self._note)
        self._notify()

    async def flush(self) -> None:
        while self._stream.publish_async_pending():
            await self._stream.publish_async_completed()
        self._notify()

    def _note(self, future: asyncio.Future[PubAck]) -> None:
        self._failure = future.exception() or self._failure

    def _notify(self) -> None:
        if self._failure:
            raise Failed(f"NATS refused a message: {self._failure}")


class _Taker(LongPoll):
    def __init__(self, record: Record) -> None:
        self._record = record
        self._acknowledged = asyncio.Event()

    async def take(self) -> None:
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
