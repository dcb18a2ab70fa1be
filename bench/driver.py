"""Driver processes, which run the callers of a load."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self

from bench.contender import Caller, Load
from bench.contenders import contender
from bench.worker import Worker, obey


class Span(NamedTuple):
    """The number of messages and the times, on the clock that all processes share."""

    messages: int
    start: float
    end: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / (self.end - self.start)


class Drivers:
    """The driver processes of one contender."""

    def __init__(self, name: str, address: str, count: int) -> None:
        self._workers = [Worker(_drive, name, address) for _ in range(count)]
        self._open: list[Worker] = []
        """Those that have callers of the current load."""
        self._running = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes."""
        for worker in self._workers:
            self._running.enter_context(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._running.close()

    def open(self, load: Load) -> None:
        """Connect the callers of a load, distributed evenly, to a new queue."""
        self._open = self._workers[: load.callers]
        queue = self._workers[0].ask("make_queue")
        share, rest = divmod(load.callers, len(self._open))
        for place, worker in enumerate(self._open):
            worker.send("open", queue, replace(load, callers=share + (place < rest)))
        for worker in self._open:
            worker.result("open")

    def add(self, seconds: float) -> Span:
        """Add messages for this many seconds."""
        return self._together("add", seconds, seconds=seconds)

    def pop(self) -> Span:
        """Pop messages until the queue is empty."""
        return self._together("pop")

    def close(self) -> None:
        """Disconnect the callers."""
        for worker in self._open:
            worker.ask("close")

    def _together(self, command: str, *arguments: object, seconds: float = 0.0) -> Span:
        """Run a command in all drivers at the same time, and merge their results."""
        for worker in self._open:
            worker.send(command, *arguments)
        spans: list[Span] = [worker.result(command, seconds) for worker in self._open]
        messages = sum(span.messages for span in spans)
        return Span(messages, min(span.start for span in spans), max(span.end for span in spans))


def _drive(pipe: Connection, name: str, address: str) -> None:
    driver = _Driver(name, address)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    asyncio.run(obey(pipe, driver))


class _Driver:
    """The commands of a driver process."""

    def __init__(self, name: str, address: str) -> None:
        self._contender = contender(name)
        self._address = address
        self._opened = AsyncExitStack()
        self._callers: Sequence[Caller] = ()
        self._batch = 1

    async def make_queue(self) -> str:
        return await self._contender.make_queue(self._address)

    async def open(self, queue: str, load: Load) -> None:
        self._batch = load.batch
        self._callers = await self._opened.enter_async_context(self._contender.callers(self._address, queue, load))

    async def add(self, seconds: float) -> Span:
        start = perf_counter()
        until = start + seconds

        async def fill(caller: Caller) -> int:
            messages = 0
            while perf_counter() < until:
                await caller.add()
                messages += self._batch
            return messages

        messages = sum(await asyncio.gather(*map(fill, self._callers)))
        return Span(messages, start, perf_counter())

    async def pop(self) -> Span:
        start = perf_counter()

        async def empty(caller: Caller) -> tuple[int, float]:
            messages, last = 0, start
            while popped := await caller.pop():
                messages += popped
                last = perf_counter()
            return messages, last

        done = await asyncio.gather(*map(empty, self._callers))
        return Span(sum(messages for messages, _ in done), start, max(last for _, last in done))

    async def close(self) -> None:
        self._callers = ()
        await self._opened.aclose()
