"""A tube of beanstalkd, by its protocol, because no Python client pipelines commands.

greenstalk, the usual client, has one message in flight at a time. Here the bounds decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter, first_line_of
from bench.cycle.record import SIZE, Record
from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Failed, Lifecycle

_PUT = b"put 0 0 60 %d\r\n" % SIZE
_CHUNK = 1 << 18


class Beanstalkd(Contender):
    """One tube per queue, and one connection per side."""

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run beanstalkd. On disk, its log is synced at every write."""
        port = free_port()
        command = [_binary(), "-l", HOST, "-p", str(port)]
        if self.is_disk:
            log = folder / "log"
            log.mkdir()
            command += ["-b", str(log), "-f0"]
        with started(command, folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    def server_version(self) -> str:
        """Return the version of beanstalkd."""
        return first_line_of([_binary(), "-v"])

    async def make_queue(self, address: str, bounds: Bounds) -> str:  # noqa: ARG002  # using a tube creates it
        """Return an unused tube."""
        return f"bench-{uuid4()}"

    @asynccontextmanager
    async def putter(self, address: str, queue: str, bounds: Bounds) -> AsyncIterator[Putter]:
        """Connect, and start to read responses."""
        line = await _Line.open(address, queue)
        putter = _Putter(line, bounds)
        reading = asyncio.create_task(putter.read())
        try:
            yield putter
        finally:
            reading.cancel()
            line.close()

    @asynccontextmanager
    async def taker(self, address: str, queue: str, bounds: Bounds, record: Record) -> AsyncIterator[LongPoll]:
        """Connect."""
        line = await _Line.open(address, queue)
        try:
            yield _Taker(line, bounds.held, record)
        finally:
            line.close()

    async def left(self, address: str, queue: str) -> int:
        """Return the tube's message count. An empty tube that no connection uses is deleted, so this uses it."""
        line = await _Line.open(address, queue)
        try:
            line.write(b"stats-tube %b\r\n" % queue.encode())
            size = int((await line.answer(b"OK")).split()[1])
            facts = dict(fact.split(b": ") for fact in (await line.body(size)).splitlines() if b": " in fact)
            kinds = (b"urgent", b"ready", b"reserved", b"delayed", b"buried")
            return sum(int(facts[b"current-jobs-" + kind]) for kind in kinds if kind != b"urgent")
        finally:
            line.close()


def _binary() -> str:
    return program("beanstalkd", "apt-get install beanstalkd")


class _Line:
    """A connection that uses one tube, and watches no other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.read = reader.read
        self._reader = reader
        self._writer = writer
        self.write = writer.write
        self.close = writer.close

    @classmethod
    async def open(cls, address: str, tube: str) -> _Line:
        host, port = address.split(":")
        line = cls(*await asyncio.open_connection(host, int(port), limit=_CHUNK))
        name = tube.encode()
        line.write(b"use %b\r\nwatch %b\r\nignore default\r\n" % (name, name))
        for expected in (b"USING", b"WATCHING", b"WATCHING"):
            await line.answer(expected)
        return line

    async def answer(self, *expected: bytes) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        if not line.startswith(expected):
            raise Failed(f"beanstalkd responded {line!r} instead of {expected[0]!r}")
        return line

    async def body(self, size: int) -> bytes:
        return (await self._reader.readexactly(size + 2))[:-2]


class _Putter(Putter):
    def __init__(self, line: _Line, bounds: Bounds) -> None:
        self._line = line
        self._most = bounds.in_flight
        self._under_way = 0
        self._confirmed = asyncio.Event()
        self._failure = ""

    async def put(self, payloads: Sequence[bytes]) -> None:
        await self._until_under_way(self._most - len(payloads))
        self._under_way += len(payloads)
        self._line.write(b"".join([b"%b%b\r\n" % (_PUT, payload) for payload in payloads]))

    async def flush(self) -> None:
        await self._until_under_way(0)

    async def read(self) -> None:
        """Count the responses, one line per put. A line may arrive in two parts, so count line ends."""
        rest = b""
        while data := await self._line.read(_CHUNK):
            lines = (rest + data).split(b"\r\n")
            rest = lines.pop()
            self._under_way -= len(lines)
            self._failure = next((str(line) for line in lines if not line.startswith(b"INSERTED")), self._failure)
            self._confirmed.set()
        self._failure = self._failure or "the end of the connection"
        self._confirmed.set()

    async def _until_under_way(self, most: int) -> None:
        while self._under_way > most and not self._failure:
            self._confirmed.clear()
            await self._confirmed.wait()
        if self._failure:
            raise Failed(f"beanstalkd responded {self._failure} to a put")


class _Taker(LongPoll):
    """Reserves many messages at a time: waits for the first, then takes others that are ready.

    A waiting connection processes no other command, so with several waiting reserves the deletes behind them would wait
    for messages too.
    """

    def __init__(self, line: _Line, held: int, record: Record) -> None:
        self._line = line
        self._held = held
        self._record = record

    async def take(self) -> None:
        wanted, done = self._held, list[bytes]()
        while self._record.remaining:
            deletes = b"".join([b"delete %b\r\n" % job for job in done])
            self._line.write(deletes + b"reserve\r\n" + b"reserve-with-timeout 0\r\n" * (wanted - 1))
            await self._deleted(len(done))
            done = []
            for _ in range(wanted):
                answer = await self._line.answer(b"RESERVED", b"TIMED_OUT")
                if answer.startswith(b"RESERVED"):
                    _, job, size = answer.split()
                    self._record.handle(await self._line.body(int(size)))
                    done.append(job)
            # Twice as many as before, so that few requests are in vain and the number still grows fast.
            wanted = min(self._held, 2 * len(done))
        self._line.write(b"".join([b"delete %b\r\n" % job for job in done]))
        await self._deleted(len(done))

    async def _deleted(self, count: int) -> None:
        for _ in range(count):
            await self._line.answer(b"DELETED")
