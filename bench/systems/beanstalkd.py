"""A tube of beanstalkd: put, and reserve with delete.

Its protocol has one line per command, so the few lines of client code here cost less than the blocking sockets and
threads of a client library.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from bench.process import HOST, free_port, program, started, wait_for_port
from bench.system import Caller, Failed, Lifecycle, Load, System


class Beanstalkd(System):
    """One tube per queue, one connection per caller, no log on disk. It has no batches."""

    def can(self, load: Load) -> bool:
        """Return whether the load has single messages only."""
        return load.batch == 1

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run beanstalkd."""
        port = free_port()
        binary = program("beanstalkd", "apt-get install beanstalkd")
        with started([binary, "-l", HOST, "-p", str(port)], folder) as process:
            wait_for_port(port, process, folder)
            yield Lifecycle(f"{HOST}:{port}", process.pid)

    async def make_queue(self, address: str) -> str:  # noqa: ARG002  # using a tube creates it
        """Return an unused tube."""
        return f"bench-{uuid4()}"

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect each caller."""
        host, port = address.split(":")
        callers: list[_Caller] = []
        try:
            for _ in range(load.callers):
                callers.append(_Caller(*await asyncio.open_connection(host, int(port)), load.payload))
                await callers[-1].use(queue)
            yield callers
        finally:
            for caller in callers:
                caller.close()


class _Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._put = b"put 0 0 60 %d\r\n%b\r\n" % (len(payload), payload)

    async def use(self, tube: str) -> None:
        """Put to this tube, and reserve only from it."""
        await self._ask(b"use %b\r\n" % tube.encode(), b"USING")
        await self._ask(b"watch %b\r\n" % tube.encode(), b"WATCHING")
        await self._ask(b"ignore default\r\n", b"WATCHING")

    async def add(self) -> None:
        await self._ask(self._put, b"INSERTED")

    async def pop(self) -> int:
        self._writer.write(b"reserve-with-timeout 0\r\n")
        line = await self._reader.readuntil(b"\r\n")
        if line == b"TIMED_OUT\r\n":
            return 0
        _, job, size = line.split()
        await self._reader.readexactly(int(size) + 2)
        await self._ask(b"delete %b\r\n" % job, b"DELETED")
        return 1

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _ask(self, command: bytes, expected: bytes) -> None:
        self._writer.write(command)
        answer = await self._reader.readuntil(b"\r\n")
        if not answer.startswith(expected):
            raise Failed(f"beanstalkd responded {answer!r} to {command[:40]!r}")


BEANSTALKD = Beanstalkd("beanstalkd")
