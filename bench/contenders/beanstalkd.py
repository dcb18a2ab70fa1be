"""A tube of beanstalkd, by its protocol, because no Python client pipelines commands.

greenstalk, the usual client, has one message in flight at a time, and blocks. Here the bounds decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.contender import Caller, Consume, Contender, Load, Producer
from bench.errors import Failed
from bench.processes import HOST
from bench.record import Record

_CHUNK = 1 << 18


class Beanstalkd(Contender):
    """One tube per queue; one connection per caller, and per producer and consumer. It has no batches."""

    program, install = "beanstalkd", "apt-get install beanstalkd"
    version_flag = "-v"
    shares_connection = False

    def can(self, load: Load) -> bool:
        """Return whether the load has single messages only."""
        return load.batch == 1

    def arguments(self, folder: Path, port: int) -> Sequence[str]:
        """Return the settings. On disk, its log is synced at every write."""
        return ["-l", HOST, "-p", str(port), *(["-b", str(folder), "-f0"] if self.is_disk else [])]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[_Connection]:
        """Connect."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=_CHUNK)
        try:
            yield _Connection(reader, writer)
        finally:
            writer.close()

    async def caller(self, connection: _Connection, queue: str, payloads: Sequence[bytes]) -> Caller:
        """Add and pop one message at a time."""
        await connection.use(queue)
        put = _put(payloads[0])

        async def add() -> None:
            connection.write(put)
            await connection.response(b"INSERTED")

        async def pop() -> int:
            connection.write(b"reserve-with-timeout 0\r\n")
            line = await connection.response(b"RESERVED", b"TIMED_OUT")
            if line.startswith(b"TIMED_OUT"):
                return 0
            _, job, size = line.split()
            await connection.body(int(size))
            connection.write(b"delete %b\r\n" % job)
            await connection.response(b"DELETED")
            return 1

        return Caller(add, pop)

    async def producer(self, connection: _Connection, queue: str) -> Producer:
        """Start to read responses."""
        await connection.use(queue)
        producer = _Producer(connection, self.bounds.in_flight)
        reading = asyncio.create_task(producer.read())
        self._opened.callback(reading.cancel)
        return producer

    async def consumer(self, connection: _Connection, queue: str, record: Record) -> Consume:
        """Reserve many messages at a time."""
        await connection.use(queue)
        return lambda: _consume(connection, record, self.bounds.unacknowledged)

    async def count_messages(self, connection: _Connection, queue: str) -> int:
        """Return the tube's message count. An empty tube that no connection uses is deleted, so this uses it."""
        await connection.use(queue)
        connection.write(b"stats-tube %b\r\n" % queue.encode())
        size = int((await connection.response(b"OK")).split()[1])
        facts = dict(fact.split(b": ") for fact in (await connection.body(size)).splitlines() if b": " in fact)
        return sum(int(facts[b"current-jobs-" + kind]) for kind in (b"ready", b"reserved", b"delayed", b"buried"))


def _put(payload: bytes) -> bytes:
    return b"put 0 0 60 %d\r\n%b\r\n" % (len(payload), payload)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.read = reader.read
        self.write = writer.write

    async def use(self, tube: str) -> None:
        """Use one tube, and watch no other. It may be repeated."""
        name = tube.encode()
        self.write(b"use %b\r\nwatch %b\r\nignore default\r\n" % (name, name))
        for expected in (b"USING", b"WATCHING", b"WATCHING"):
            await self.response(expected)

    async def response(self, *expected: bytes) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        if not line.startswith(expected):
            raise Failed(f"beanstalkd responded {line!r} instead of {expected[0]!r}")
        return line

    async def body(self, size: int) -> bytes:
        return (await self._reader.readexactly(size + 2))[:-2]


class _Producer(Producer):
    def __init__(self, connection: _Connection, most: int) -> None:
        self._connection = connection
        self._most = most
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


async def _consume(connection: _Connection, record: Record, most: int) -> None:
    """Reserve many messages at a time: wait for the first, then take others that are ready.

    A waiting connection processes no other command, so with several waiting reserves the deletes behind them would wait
    for messages too.
    """
    wanted, done = most, list[bytes]()

    async def delete(more: bytes = b"") -> None:
        """Delete the messages, and send more commands together with that."""
        connection.write(b"".join([b"delete %b\r\n" % job for job in done]) + more)
        for _ in done:
            await connection.response(b"DELETED")
        done.clear()

    while record.remaining:
        await delete(b"reserve\r\n" + b"reserve-with-timeout 0\r\n" * (wanted - 1))
        for _ in range(wanted):
            line = await connection.response(b"RESERVED", b"TIMED_OUT")
            if line.startswith(b"RESERVED"):
                _, job, size = line.split()
                record.handle(await connection.body(int(size)))
                done.append(job)
        # Twice as many as before, so that few requests are in vain and the number still grows fast.
        wanted = min(most, 2 * len(done))
    await delete()
