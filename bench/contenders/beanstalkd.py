"""A tube of beanstalkd, by its protocol, because no Python client pipelines commands.

greenstalk, the usual client, has one message in flight at a time, and blocks. Here the bounds decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

from bench.contender import Bounds, Caller, Consumer, Contender, Load, Producer, first_line_of
from bench.errors import Failed
from bench.process import HOST, RunningServer, free_port, program, started_server
from bench.record import Record

_CHUNK = 1 << 18


class Beanstalkd(Contender):
    """One tube per queue; one connection per caller, and per producer and consumer. It has no batches."""

    def can(self, load: Load) -> bool:
        """Return whether the load has single messages only."""
        return load.batch == 1

    def start(self, folder: Path) -> AbstractContextManager[RunningServer]:
        """Run beanstalkd. On disk, its log is synced at every write."""
        port = free_port()
        command = [_binary(), "-l", HOST, "-p", str(port)]
        if self.is_disk:
            log = folder / "log"
            log.mkdir()
            command += ["-b", str(log), "-f0"]
        return started_server(command, folder, port)

    def server_version(self) -> str:
        """Return the version of beanstalkd."""
        return first_line_of([_binary(), "-v"])

    async def make_queue(self, address: str) -> str:  # noqa: ARG002  # using a tube creates it
        """Return an unused tube."""
        return f"bench-{uuid4()}"

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect each caller."""
        async with AsyncExitStack() as opened:
            connections = [await opened.enter_async_context(_connection(address, queue)) for _ in range(load.callers)]
            yield [_Caller(connection, load.payload) for connection in connections]

    @asynccontextmanager
    async def producer(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Producer]:
        """Connect, and start to read responses."""
        async with _connection(address, queue) as connection:
            producer = _Producer(connection, bounds)
            reading = asyncio.create_task(producer.read())
            try:
                yield producer
            finally:
                reading.cancel()

    @asynccontextmanager
    async def consumer(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[Consumer]:
        """Connect."""
        async with _connection(address, queue) as connection:
            yield _Consumer(connection, bounds.held, record)

    async def count_messages(self, address: str, queue: str) -> int:
        """Return the tube's message count. An empty tube that no connection uses is deleted, so this uses it."""
        async with _connection(address, queue) as connection:
            connection.write(b"stats-tube %b\r\n" % queue.encode())
            size = int((await connection.response(b"OK")).split()[1])
            facts = dict(fact.split(b": ") for fact in (await connection.body(size)).splitlines() if b": " in fact)
            return sum(int(facts[b"current-jobs-" + kind]) for kind in (b"ready", b"reserved", b"delayed", b"buried"))


def _binary() -> str:
    return program("beanstalkd", "apt-get install beanstalkd")


def _put(payload: bytes) -> bytes:
    return b"put 0 0 60 %d\r\n%b\r\n" % (len(payload), payload)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.read = reader.read
        self.write = writer.write

    async def response(self, *expected: bytes) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        if not line.startswith(expected):
            raise Failed(f"beanstalkd responded {line!r} instead of {expected[0]!r}")
        return line

    async def body(self, size: int) -> bytes:
        return (await self._reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def _connection(address: str, tube: str) -> AsyncIterator[_Connection]:
    """Connect, use one tube, and watch no other."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_CHUNK)
    try:
        connection = _Connection(reader, writer)
        name = tube.encode()
        connection.write(b"use %b\r\nwatch %b\r\nignore default\r\n" % (name, name))
        for expected in (b"USING", b"WATCHING", b"WATCHING"):
            await connection.response(expected)
        yield connection
    finally:
        writer.close()


class _Caller:
    def __init__(self, connection: _Connection, payload: bytes) -> None:
        self._connection = connection
        self._put = _put(payload)

    async def add(self) -> None:
        self._connection.write(self._put)
        await self._connection.response(b"INSERTED")

    async def pop(self) -> int:
        self._connection.write(b"reserve-with-timeout 0\r\n")
        line = await self._connection.response(b"RESERVED", b"TIMED_OUT")
        if line.startswith(b"TIMED_OUT"):
            return 0
        _, job, size = line.split()
        await self._connection.body(int(size))
        self._connection.write(b"delete %b\r\n" % job)
        await self._connection.response(b"DELETED")
        return 1


class _Producer(Producer):
    def __init__(self, connection: _Connection, bounds: Bounds) -> None:
        self._connection = connection
        self._most = bounds.in_flight
        self._in_flight = 0
        self._confirmed = asyncio.Event()
        self._failure = ""

    async def put(self, payloads: Sequence[bytes]) -> None:
        await self._wait_until_in_flight(self._most - len(payloads))
        self._in_flight += len(payloads)
        self._connection.write(b"".join(map(_put, payloads)))

    async def flush(self) -> None:
        await self._wait_until_in_flight(0)

    async def read(self) -> None:
        """Count the responses, one line per put. A line may arrive in two parts, so count line ends."""
        rest = b""
        while data := await self._connection.read(_CHUNK):
            lines = (rest + data).split(b"\r\n")
            rest = lines.pop()
            self._in_flight -= len(lines)
            self._failure = next((str(line) for line in lines if not line.startswith(b"INSERTED")), self._failure)
            self._confirmed.set()
        self._failure = self._failure or "the end of the connection"
        self._confirmed.set()

    async def _wait_until_in_flight(self, most: int) -> None:
        while self._in_flight > most and not self._failure:
            self._confirmed.clear()
            await self._confirmed.wait()
        if self._failure:
            raise Failed(f"beanstalkd responded {self._failure} to a put")


class _Consumer(Consumer):
    """Reserves many messages at a time: waits for the first, then takes others that are ready.

    A waiting connection processes no other command, so with several waiting reserves the deletes behind them would wait
    for messages too.
    """

    def __init__(self, connection: _Connection, held: int, record: Record) -> None:
        self._connection = connection
        self._held = held
        self._record = record

    async def consume(self) -> None:
        wanted, done = self._held, list[bytes]()
        while self._record.remaining:
            deletes = b"".join([b"delete %b\r\n" % job for job in done])
            self._connection.write(deletes + b"reserve\r\n" + b"reserve-with-timeout 0\r\n" * (wanted - 1))
            await self._deleted(len(done))
            done = []
            for _ in range(wanted):
                line = await self._connection.response(b"RESERVED", b"TIMED_OUT")
                if line.startswith(b"RESERVED"):
                    _, job, size = line.split()
                    self._record.handle(await self._connection.body(int(size)))
                    done.append(job)
            # Twice as many as before, so that few requests are in vain and the number still grows fast.
            wanted = min(self._held, 2 * len(done))
        self._connection.write(b"".join([b"delete %b\r\n" % job for job in done]))
        await self._deleted(len(done))

    async def _deleted(self, count: int) -> None:
        for _ in range(count):
            await self._connection.response(b"DELETED")
