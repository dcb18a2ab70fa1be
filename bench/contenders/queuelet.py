"""Our server, and the plain baseline, which serves the same protocol."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import grpc

from bench.contender import DEFAULTS, MARK, Caller, Consume, Contender, Load, Producer, RunningServer
from bench.databases import database
from bench.errors import Failed
from bench.processes import HOST, Child
from bench.record import Record
from bench.requests import requests
from queuelet import client
from queuelet.wire.errors import SERVICE

SERVER = (sys.executable, "-m", "queuelet", "server", "--metrics", f"{HOST}:0")
"""The command of our server, without the port that it listens on."""

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_POLL_SECONDS = 0.000_5
"""Seconds between two checks whether the server has the last acknowledgements."""


class Queuelet(Contender):
    """Our server.

    Callers send requests that are serialized in advance, do not decode responses, and share a channel, like the tasks
    of one client. A producer and a consumer use only the public API, with its default settings.
    """

    packages = ("grpcio", "protobuf")
    program, install = "queuelet", ""
    command: Sequence[str] = (*SERVER, "--listen", f"{HOST}:0", "--http", "")
    transport: ClassVar[str] = ""
    """The transport of our servers, the usual one if empty: `--transport` of the benchmark."""

    @contextmanager
    def started(self, folder: Path, *flags: str) -> Iterator[RunningServer]:
        """Run the server with an interpreter of its own, and with more flags."""
        data = ("--data-dir", str(folder / "data")) if self.is_disk else ()
        with self._served(folder, *data, *flags) as server:
            yield server

    @contextmanager
    def _served(self, folder: Path, *flags: str) -> Iterator[RunningServer]:
        transport = ("--transport", self.transport) if self.transport else ()
        with closing(Child(self.name, [*self.command, *transport, *flags], folder)) as server:
            server.start()
            serving = json.loads(server.logged('"serving"'))
            yield RunningServer(f"{HOST}:{serving['port']}", server.pid, serving)

    @property
    def server_version(self) -> str:
        """Our version."""
        return version("queuelet")

    def connected(self) -> client.Client:
        """Connect."""
        return client.Client(self.address)

    async def create(self, connection: client.Client, name: str) -> str:
        """Create a queue without a limit."""
        return (await connection.new_queue(name=name, store=self.store.upper(), limit=-1)).id

    async def open_callers(self, queue: str, load: Load) -> Sequence[Caller]:
        """Connect by a channel, because the client library would decode responses."""
        channel = await self._opened.enter_async_context(grpc.aio.insecure_channel(self.address, OPTIONS))
        return [await self.caller(channel, queue, load.payloads) for _ in range(load.callers)]

    async def caller(self, connection: grpc.aio.Channel, queue: str, payloads: Sequence[bytes]) -> Caller:
        """Send requests that are serialized in advance."""
        calls = requests(queue, payloads)
        methods: dict[str, Any] = {name: connection.unary_unary(f"/{SERVICE}/{name}") for name in calls}
        (add, *_, pop), (add_request, *_, pop_request) = methods.values(), calls.values()

        async def pop_and_count() -> int:
            try:
                response: bytes = await pop(pop_request)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return 0
                raise
            return response.count(MARK)

        return Caller(lambda: add(add_request), pop_and_count)

    async def producer(self, connection: client.Client, queue: str) -> Producer:
        """Open a producer."""
        batch, buffer, _ = self.bounds
        producer = client.Producer(connection, queue, batch_messages=batch, buffer_messages=buffer)
        return _Producer(await self._opened.enter_async_context(producer))

    async def consumer(self, connection: client.Client, queue: str, record: Record) -> Consume:
        """Open a consumer."""

        async def handle(received: client.Received[bytes]) -> None:
            record.handle(received.payload)

        prefetch = None if self.bounds == DEFAULTS else self.bounds.unacknowledged - 1
        consumer = client.Consumer(connection, queue, handle, prefetch=prefetch)
        await self._opened.enter_async_context(consumer)

        async def consume() -> None:
            await record.complete.wait()
            while consumer.done < record.total:
                if consumer.failed or consumer.lost:
                    raise Failed("a message was handled but could not be acknowledged")
                await asyncio.sleep(_POLL_SECONDS)

        return consume

    async def count_messages(self, connection: client.Client, queue: str) -> int:
        """Return the number of messages in the queue, dead letters included."""
        return (await connection.get_queue(queue)).messages.total


class Postgres(Queuelet):
    """Our server with a PostgreSQL of its own."""

    standbys = 0

    @contextmanager
    def started(self, folder: Path, *flags: str) -> Iterator[RunningServer]:
        """Run the database and the server."""
        with database(self.standbys) as running, self._served(folder, "--postgres", running.url, *flags) as server:
            yield server._replace(facts={**server.facts, "node_pids": running.pids})

    async def create(self, connection: client.Client, name: str) -> str:
        """Create a queue without a limit."""
        return (await connection.new_queue(name=name, store="POSTGRES", limit=-1)).id


class PostgresQuorum(Postgres):
    """The same with two standbys, of which one has each commit on its disk before the commit is confirmed."""

    standbys = 2


class OverGrpc(Queuelet):
    """Our server with the gRPC library as its transport, for callers only."""

    transport = "grpc"


class Plain(Queuelet):
    """The plain server of `plain_protobuf`, for callers only."""

    transport = ""
    command = (sys.executable, "-m", "bench.plain_protobuf")

    async def create(self, connection: client.Client, name: str) -> str:  # noqa: ARG002  # it accepts any queue ID
        """Return the name."""
        return name


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
