"""Servers of Queuelet's protocol: ours, the plain baseline, and any server of negz/q's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc

from bench.contender import MARK, Bounds, Caller, Consumer, Contender, Load, Producer
from bench.errors import Failed, NotHere
from bench.plain_protobuf import SERVICE
from bench.process import RunningServer, started_python
from bench.record import Record
from queuelet import client
from queuelet.v1 import queue_pb2 as pb

_RUN = (
    "from pathlib import Path; from queuelet.server import run, Settings; "
    "run(Settings(listen='127.0.0.1:0', metrics='127.0.0.1:0', data_dir={folder!r} and Path({folder!r})))"
)
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_POLL_SECONDS = 0.000_5
"""Seconds between two checks whether the server has the last acknowledgements."""


class Queuelet(Contender):
    """Our server.

    Callers send requests that are serialized in advance, and do not decode responses. A producer and a consumer use
    only the public API; with our default bounds, both use their default settings.
    """

    packages = ("grpcio", "protobuf")
    service = SERVICE
    """The full name of the gRPC service."""

    def start(self, folder: Path) -> AbstractContextManager[RunningServer]:
        """Run the server with an interpreter of its own."""
        data = str(folder / "data") if self.is_disk else ""
        return started_python(["-c", _RUN.format(folder=data)], folder)

    def server_version(self) -> str:
        """Return our version."""
        return f"queuelet {version('queuelet')}"

    async def make_queue(self, address: str) -> str:
        """Create a queue without a limit."""
        async with grpc.aio.insecure_channel(address) as channel:
            request = pb.NewQueueRequest(store=self.store.upper(), limit=-1).SerializeToString()
            call: Any = channel.unary_unary(f"/{self.service}/NewQueue")
            response: bytes = await call(request, timeout=10)
        return pb.NewQueueResponse.FromString(response).queue.meta.id

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect callers that share a channel, like the tasks of one client."""
        async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
            kind = _UnaryCaller if load.batch == 1 else _BatchCaller
            yield [kind(channel, self.service, queue, load) for _ in range(load.callers)]

    @asynccontextmanager
    async def producer(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Producer]:
        """Open a producer."""
        settings: dict[str, Any] = {}
        if not bounds.is_ours:
            settings = {"batch_messages": bounds.batch, "buffer_messages": bounds.in_flight}
        async with client.Client(address) as connected, client.Producer(connected, queue, **settings) as producer:
            yield _Producer(producer)

    @asynccontextmanager
    async def consumer(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[Consumer]:
        """Open a consumer."""

        async def handle(received: client.Received[bytes]) -> None:
            record.handle(received.payload)

        settings: dict[str, Any] = {} if bounds.is_ours else {"prefetch": bounds.held - 1}
        async with (
            client.Client(address) as connected,
            client.Consumer(connected, queue, handle, **settings) as consumer,
        ):
            yield _Consumer(consumer, record)

    async def count_messages(self, address: str, queue: str) -> int:
        """Return the number of messages in the queue, dead letters included."""
        async with client.Client(address) as connected:
            return (await connected.get_queue(queue)).messages.total


class Plain(Queuelet):
    """The plain server of `plain_protobuf`, for callers only."""

    def start(self, folder: Path) -> AbstractContextManager[RunningServer]:
        """Run it with an interpreter of its own."""
        return started_python(["-m", "bench.plain_protobuf"], folder)

    async def make_queue(self, address: str) -> str:  # noqa: ARG002  # it accepts any queue ID
        """Return an unused queue ID."""
        return str(uuid4())


class Negz(Queuelet):
    """A running server of negz/q's protocol, for callers only."""

    service = "proto.Q"

    def can(self, load: Load) -> bool:
        """Return whether the load has single messages only, because the protocol has no batches."""
        return load.batch == 1

    def start(self, folder: Path) -> AbstractContextManager[RunningServer]:  # noqa: ARG002  # it runs already
        """Refuse, because only its user can start it."""
        raise NotHere("give its address with --peer-negz HOST:PORT")


class _UnaryCaller:
    def __init__(self, channel: grpc.aio.Channel, service: str, queue: str, load: Load) -> None:
        self._add: Any = channel.unary_unary(f"/{service}/Add")
        self._pop: Any = channel.unary_unary(f"/{service}/Pop")
        new = pb.NewMessage(payload=load.payload)
        self._add_request = pb.AddRequest(queue_id=queue, message=new).SerializeToString()
        self._pop_request = pb.PopRequest(queue_id=queue).SerializeToString()

    async def add(self) -> None:
        await self._add(self._add_request)

    async def pop(self) -> int:
        try:
            await self._pop(self._pop_request)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        return 1


class _BatchCaller:
    def __init__(self, channel: grpc.aio.Channel, service: str, queue: str, load: Load) -> None:
        self._add: Any = channel.unary_unary(f"/{service}/AddBatch")
        self._pop: Any = channel.unary_unary(f"/{service}/PopBatch")
        new = [pb.NewMessage(payload=load.payload)] * load.batch
        self._add_request = pb.AddBatchRequest(queue_id=queue, messages=new).SerializeToString()
        self._pop_request = pb.PopBatchRequest(queue_id=queue, max=load.batch).SerializeToString()

    async def add(self) -> None:
        await self._add(self._add_request)

    async def pop(self) -> int:
        response: bytes = await self._pop(self._pop_request)
        return response.count(MARK)


class _Producer(Producer):
    def __init__(self, producer: client.Producer[bytes]) -> None:
        self._producer = producer
        self._awaited: set[asyncio.Task[object]] = set()

    async def put(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            await self._producer.send(payload)

    async def put_awaited(self, payloads: Sequence[bytes]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(self._producer.put_many(payloads))
        self._awaited.add(task)
        task.add_done_callback(self._awaited.discard)

    async def flush(self) -> None:
        await asyncio.gather(*self._awaited)
        await self._producer.flush()


class _Consumer(Consumer):
    def __init__(self, consumer: client.Consumer[bytes], record: Record) -> None:
        self._consumer = consumer
        self._record = record

    async def consume(self) -> None:
        await self._record.complete.wait()
        while self._consumer.done < self._record.total:
            if self._consumer.failed or self._consumer.lost:
                raise Failed("a message was handled but could not be acknowledged")
            await asyncio.sleep(_POLL_SECONDS)
