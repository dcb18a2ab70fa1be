"""A producer process and a consumer process, both on uvloop, because all clients are faster with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import NamedTuple

from bench.contender import Bounds, Consume, Contender, Producer, RunningServer
from bench.contenders import contender
from bench.errors import Failed
from bench.processes import cpu_seconds
from bench.record import Record, message
from bench.worker import Worker, worker

_FIRST = 200
"""Messages of the first trip, which gives a first estimate of a system's speed."""

_MAX_TRIP = 500_000
"""Messages of a trip at most, because all of them may be in the queue at once."""

_WARM_SHARE = 0.3
"""The shortest last trip of a warm-up, as a share of a round's time."""

_ON_TIME = 2_000_000
"""Nanoseconds that a paced put may be late before it counts as delayed, because timers are no more precise."""


class Trip(NamedTuple):
    """Results of messages that were put and handled."""

    put: int
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
    """Both processes, connected to a new queue of one server."""

    def __init__(self, target: Contender, server: RunningServer, producer: Worker, consumer: Worker) -> None:
        self.versions = target.versions
        self.put = 0
        """Total number of messages that were put."""
        self.handled = 0
        """Total number of distinct messages that were handled."""
        self.left: int | None = None
        """Messages still in the queue at the end: not acknowledged, as far as the server knows."""
        self._speed = 0.0
        self._producer = producer
        self._consumer = consumer
        self._pids = (producer.pid, consumer.pid, server.pid)
        self._queue = producer.ask("make_queue")
        for process in (consumer, producer):
            process.ask("open", self._queue)

    def trip(self, count: int, rate: float | None = None) -> Trip:
        """Have messages put, handled and acknowledged: at a rate a second, or at full speed."""
        before = self._cpu()
        seconds = count / rate if rate else 0.0
        self._consumer.ask("expect", count)
        self._consumer.send("consume")
        try:
            start = self._producer.ask("put", count, rate, seconds=seconds)
            end, handled, p50, p99 = self._consumer.result("consume", seconds)
        finally:
            used = [after - earlier for after, earlier in zip(self._cpu(), before, strict=True)]
        self.put += count
        self.handled += handled
        if handled != count:
            raise Failed(f"{count:,} messages were put but {handled:,} of them handled")
        return Trip(count, (end - start) / 1e9, p50, p99, *used)

    def warm_up(self, seconds: float) -> None:
        """Run longer and longer trips until the speed is known, for rounds of this many seconds."""
        count = _FIRST
        trip = self.trip(count)
        while trip.seconds < seconds * _WARM_SHARE and count < _MAX_TRIP:
            count = min(_MAX_TRIP, 2 * count)
            trip = self.trip(count)
        self._speed = trip.rate

    def full_speed(self, seconds: float) -> Trip:
        """Run a round that takes about this many seconds, or more, by the highest speed so far."""
        trip = self.trip(max(_FIRST, min(_MAX_TRIP, int(self._speed * seconds))))
        self._speed = max(self._speed, trip.rate)
        return trip

    def finish(self) -> None:
        """Disconnect both; raise `Failed` if messages are still in the queue."""
        for process in (self._producer, self._consumer):
            process.ask("close")
        self.left = self._producer.ask("count_left", self._queue)
        if self.left:
            raise Failed(f"{self.left:,} messages are still in the queue")

    def _cpu(self) -> list[float]:
        return [cpu_seconds(pid) for pid in self._pids]


@contextmanager
def pair(target: Contender, server: RunningServer) -> Iterator[Pair]:
    """Run both processes, connected to a new queue."""
    arguments = (target.name, target.store, server.address, target.bounds)
    with (
        worker(_ProducerCommands, *arguments, with_uvloop=True) as producer,
        worker(_ConsumerCommands, *arguments, with_uvloop=True) as consumer,
    ):
        yield Pair(target, server, producer, consumer)


class _ProducerCommands:
    """The commands of the producer process."""

    def __init__(self, name: str, store: str, address: str, bounds: Bounds) -> None:
        self._target = contender(name, store, address, bounds)
        self._producer: Producer | None = None
        self.make_queue = self._target.make_queue
        self.count_left = self._target.count_left
        self.close = self._target.close

    async def open(self, queue: str) -> None:
        self._producer = await self._target.open_producer(queue)

    async def put(self, count: int, rate: float | None) -> int:
        """Put messages; return when the first put began."""
        assert self._producer
        start = monotonic_ns()
        if rate is None:
            await _put_at_once(self._producer, count, self._target.bounds.batch)
        else:
            await _put_at_rate(self._producer, count, rate, start, self._target.bounds.batch)
        await self._producer.flush()
        return start


class _ConsumerCommands:
    """The commands of the consumer process."""

    def __init__(self, name: str, store: str, address: str, bounds: Bounds) -> None:
        self._target = contender(name, store, address, bounds)
        self._record = Record()
        self._consume: Consume | None = None
        self.close = self._target.close

    async def open(self, queue: str) -> None:
        self._consume = await self._target.open_consumer(queue, self._record)

    async def expect(self, count: int) -> None:
        self._record.expect(count)

    async def consume(self) -> tuple[int, int, float, float]:
        assert self._consume
        await self._consume()
        return monotonic_ns(), self._record.handled, self._record.age(0.5), self._record.age(0.99)


async def _put_at_once(producer: Producer, count: int, batch: int) -> None:
    for first in range(0, count, batch):
        await producer.put([message(number, monotonic_ns()) for number in range(first, min(first + batch, count))])
        await asyncio.sleep(0)  # not every client yields to its connection


async def _put_at_rate(producer: Producer, count: int, rate: float, start: int, batch: int) -> None:
    """Put each message when it is due, whether or not earlier puts are confirmed.

    The age of a message that became due while the producer was blocked counts from its due time, so that a pause is not
    lost.
    """
    apart = 1e9 / rate
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
        await producer.put_awaited(payloads)
        done = due
