"""A producer process and a consumer process, both on uvloop, because all clients are faster with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic_ns
from types import TracebackType
from typing import NamedTuple, Self

import uvloop

from bench.contender import Bounds, Consumer, Contender, Producer
from bench.contenders import contender
from bench.errors import Failed
from bench.process import RunningServer, cpu_seconds
from bench.record import Record, message
from bench.worker import Commands, Worker, obey

_LOOK_SECONDS, _LOOKS = 0.05, 200
"""Checks whether a server has removed acknowledged messages: the seconds between two, and their number."""

_ON_TIME = 2_000_000
"""Nanoseconds that a paced put may be late before it counts as delayed, because timers are no more precise."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How to put messages: at full speed, or at a rate."""

    rate: float | None = None
    """Messages a second; None for full speed."""
    is_awaited: bool = True
    """Whether puts are awaited, if the client makes a difference."""


FULL_SPEED = Pace(is_awaited=False)


class Trip(NamedTuple):
    """Results of messages that were put and handled."""

    put: int
    handled: int
    """How many distinct messages were handled."""
    seconds: float
    """Seconds from the first put until the server had the last acknowledgement."""
    p50: float
    """Milliseconds from put to handler."""
    p99: float
    producer_cpu: float
    """Seconds of CPU."""
    consumer_cpu: float
    server_cpu: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.put / self.seconds


class Pair:
    """Both processes, connected to one server."""

    def __init__(self, target: Contender, server: RunningServer) -> None:
        arguments = (target.name, target.store, server.address)
        self._producer = Worker(_run, _ProducerCommands, *arguments)
        self._consumer = Worker(_run, _ConsumerCommands, *arguments)
        self._server_pid = server.pid
        self._queue = ""
        self._running = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes."""
        self._running.enter_context(self._producer)
        self._running.enter_context(self._consumer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._running.close()

    def open(self, bounds: Bounds) -> None:
        """Connect both to a new queue."""
        self._queue = self._producer.ask("make_queue")
        for process in (self._consumer, self._producer):
            process.ask("open", self._queue, bounds)

    def trip(self, count: int, pace: Pace = FULL_SPEED) -> Trip:
        """Have messages put, handled and acknowledged."""
        before = self._cpu()
        seconds = count / pace.rate if pace.rate else 0.0
        self._consumer.ask("expect", count)
        self._consumer.send("consume")
        try:
            start = self._producer.ask("put", count, pace, seconds=seconds)
            end, handled, p50, p99 = self._consumer.result("consume", seconds)
        finally:
            used = [after - earlier for after, earlier in zip(self._cpu(), before, strict=True)]
        if handled != count:
            raise Failed(f"{count:,} messages were put but {handled:,} of them handled")
        return Trip(count, handled, (end - start) / 1e9, p50, p99, *used)

    def close(self) -> int:
        """Disconnect both; return how many messages are still in the queue."""
        for process in (self._producer, self._consumer):
            process.ask("close")
        left: int = self._producer.ask("count_left", self._queue)
        return left

    def _cpu(self) -> list[float]:
        return [cpu_seconds(pid) or 0.0 for pid in (self._producer.pid, self._consumer.pid, self._server_pid)]


def _run(pipe: Connection, commands: Callable[[Contender, str], Commands], name: str, store: str, address: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(obey(pipe, commands(contender(name, store), address)))


class _ProducerCommands:
    """The commands of the producer process."""

    def __init__(self, target: Contender, address: str) -> None:
        self._target = target
        self._address = address
        self._opened = AsyncExitStack()
        self._producer: Producer | None = None
        self._batch = 0

    async def make_queue(self) -> str:
        return await self._target.make_queue(self._address)

    async def open(self, queue: str, bounds: Bounds) -> None:
        self._batch = bounds.batch
        self._producer = await self._opened.enter_async_context(self._target.producer(self._address, queue, bounds))

    async def put(self, count: int, pace: Pace) -> int:
        """Put messages; return when the first put began."""
        assert self._producer
        start = monotonic_ns()
        if pace.rate is None:
            await _put_at_once(self._producer, self._batch, count)
        else:
            await _put_at_rate(self._producer, self._batch, count, pace, start)
        await self._producer.flush()
        return start

    async def close(self) -> None:
        await self._opened.aclose()

    async def count_left(self, queue: str) -> int:
        """Return how many messages are in a queue, once it is empty or after a timeout."""
        for _ in range(_LOOKS):
            if not await self._target.count_messages(self._address, queue):
                return 0
            await asyncio.sleep(_LOOK_SECONDS)
        return await self._target.count_messages(self._address, queue)


class _ConsumerCommands:
    """The commands of the consumer process."""

    def __init__(self, target: Contender, address: str) -> None:
        self._target = target
        self._address = address
        self._opened = AsyncExitStack()
        self._record = Record()
        self._consumer: Consumer | None = None

    async def open(self, queue: str, bounds: Bounds) -> None:
        opening = self._target.consumer(self._address, queue, bounds, self._record)
        self._consumer = await self._opened.enter_async_context(opening)

    async def expect(self, count: int) -> None:
        self._record.expect(count)

    async def consume(self) -> tuple[int, int, float, float]:
        assert self._consumer
        await self._consumer.consume()
        return monotonic_ns(), self._record.handled, self._record.age(0.5), self._record.age(0.99)

    async def close(self) -> None:
        await self._opened.aclose()


async def _put_at_once(producer: Producer, batch: int, count: int) -> None:
    for first in range(0, count, batch):
        await producer.put([message(number, monotonic_ns()) for number in range(first, min(first + batch, count))])
        await asyncio.sleep(0)  # not every client yields to its connection


async def _put_at_rate(producer: Producer, batch: int, count: int, pace: Pace, start: int) -> None:
    """Put each message when it is due, whether or not earlier puts are confirmed.

    The age of a message that became due while the producer was blocked counts from its due time, so that a pause is not
    lost.
    """
    assert pace.rate
    put = producer.put_awaited if pace.is_awaited else producer.put
    apart = 1e9 / pace.rate
    done = 0
    while done < count:
        now = monotonic_ns()
        due = min(count, done + batch, int((now - start) / apart) + 1)
        if due <= done:
            await asyncio.sleep((start + done * apart - now) / 1e9)
            continue
        times = (int(start + number * apart) for number in range(done, due))
        payloads = [
            message(number, now if now - time < _ON_TIME else time) for number, time in enumerate(times, start=done)
        ]
        await put(payloads)
        done = due
