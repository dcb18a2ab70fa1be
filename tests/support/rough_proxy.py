"""A proxy that treats connections badly: it delays, stalls, half-closes and cuts them, at random."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024
_LIFE = (0.05, 2.0)
"""Seconds that a connection is left alone."""


class RoughProxy:
    """Forwards connections on loopback to a port, roughly until it is set to be gentle.

    Each connection has a delay of its own, which changes now and then, so that responses on one overtake those on
    another.
    """

    def __init__(self, port: int, seed: int) -> None:
        """Take the port of the server, and the seed of the random generator."""
        self._target = port
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._is_gentle = asyncio.Event()
        self.port = 0
        """Its address, once it is open."""
        self.done: Counter[str] = Counter()
        """How often it did each action."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and close all connections."""
        assert self._server
        self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._server.wait_closed()

    def be_gentle(self) -> None:
        """Leave connections alone from now on. Those that were mistreated end."""
        self._is_gentle.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine, because asyncio logs cancelled handlers.
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self.done["connections"] += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                await self._forward(reader, writer)
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pipes = [
            asyncio.ensure_future(self._pipe(reader, onward_writer)),
            asyncio.ensure_future(self._pipe(onward_reader, writer)),
        ]
        fate = asyncio.ensure_future(self._mistreat(pipes, writer, onward_writer))
        try:
            await asyncio.wait([*pipes, fate], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*pipes, fate):
                each.cancel()
            await asyncio.gather(*pipes, fate, return_exceptions=True)
            onward_writer.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if not self._is_gentle.is_set() and self._random.random() < 0.1:  # now and then
                await asyncio.sleep(self._random.uniform(0, 0.05))
            writer.write(data)
            await writer.drain()

    async def _mistreat(
        self, pipes: list[asyncio.Task[None]], inward: asyncio.StreamWriter, onward: asyncio.StreamWriter
    ) -> None:
        """Leave a connection alone for a while, then end it in a random way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(*_LIFE)):
                await self._is_gentle.wait()
        if self._is_gentle.is_set():
            await asyncio.Event().wait()
        way = self._random.choice(["cut", "stall", "swallow", "half-close"])
        self.done[way] += 1
        if way == "stall":
            for pipe in pipes:
                pipe.cancel()
        elif way == "swallow":
            # Responses of the server are lost, but requests are not.
            pipes[1].cancel()
        elif way == "half-close":
            writer = self._random.choice([inward, onward])
            with suppress(OSError):
                writer.write_eof()
        if way != "cut":
            await asyncio.sleep(self._random.uniform(0.05, 1))
