"""What calls cost one of our servers. The callers are in this process, and the CPU is the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple

import grpc

from bench.processes import cpu_seconds
from queuelet.wire.errors import SERVICE


class Cost(NamedTuple):
    """The cost of this many messages."""

    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def each(self) -> float:
        """Microseconds per message."""
        return self.seconds / self.messages * 1e6

    @property
    def cpu(self) -> float:
        """Microseconds of CPU per message."""
        return self.cpu_seconds / self.messages * 1e6


class Calls:
    """Calls to a server, with requests that are serialized in advance."""

    def __init__(self, channel: grpc.aio.Channel, pid: int) -> None:
        self.channel = channel
        self._pid = pid
        self._methods: dict[str, Any] = {}

    async def __call__(self, method: str, request: bytes) -> bytes:
        """Make a call."""
        if method not in self._methods:
            self._methods[method] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        response: bytes = await self._methods[method](request)
        return response

    async def cost(self, messages: int, callers: int, batch: int, once: Callable[[], Awaitable[object]]) -> Cost:
        """Distribute this many messages over callers, `batch` per call."""
        turns = iter(range(messages // batch))

        async def caller() -> None:
            for _ in turns:
                await once()

        before, began = cpu_seconds(self._pid), perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return Cost(messages, perf_counter() - began, cpu_seconds(self._pid) - before)
