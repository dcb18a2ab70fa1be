"""What calls cost one of our servers. The callers are in this process, and the CPU is the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import grpc

from bench.processes import cpu_seconds
from bench.requests import requests
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

PAYLOAD = b"x" * 1_024

_HOUR = 3_600
_FILL = 1_000
"""Messages per call while a queue is filled."""


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


class CalledQueue:
    """A queue, and calls on it with 1 KB messages."""

    def __init__(self, calls: Calls, queue: str, batch: int) -> None:
        self._calls = calls
        self._id = queue
        made = requests(queue, [PAYLOAD]) | requests(queue, [PAYLOAD] * batch)
        self.add_one = partial(calls, "Add", made["Add"])
        add, pop = ("Add", "Pop") if batch == 1 else ("AddBatch", "PopBatch")
        self.add = partial(calls, add, made[add])
        self.pop = partial(calls, pop, made[pop])
        self._receive = pb.ReceiveRequest(queue_id=queue, max=batch).SerializeToString()

    async def lease_and_ack(self) -> None:
        """Receive a batch and acknowledge it."""
        leased = pb.ReceiveResponse.FromString(await self._calls("Receive", self._receive))
        tokens = [delivery.token for delivery in leased.deliveries]
        await self._calls("Ack", pb.AckRequest(queue_id=self._id, tokens=tokens).SerializeToString())

    async def fill(self, depth: int) -> None:
        """Fill it; of its messages, a tenth are leased and a tenth delayed."""
        plain, late = pb.NewMessage(payload=PAYLOAD), pb.NewMessage(payload=PAYLOAD)
        late.delay.FromSeconds(_HOUR)
        tenth = depth // 10
        for new, count in ((plain, depth - tenth), (late, tenth)):
            request = pb.AddBatchRequest(queue_id=self._id, messages=[new] * _FILL).SerializeToString()
            for _ in range(count // _FILL):
                await self._calls("AddBatch", request)
        receive = pb.ReceiveRequest(queue_id=self._id, max=_FILL)
        receive.lease.FromSeconds(_HOUR)
        for _ in range(tenth // _FILL):
            await self._calls("Receive", receive.SerializeToString())
