"""The callers of a load, in processes of their own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

from bench.contender import MEMORY, Caller, Load, RunningServer
from bench.contenders import contender
from bench.worker import Worker, worker


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
    """The processes that run the callers of one contender."""

    def __init__(self, server: RunningServer, workers: Sequence[Worker]) -> None:
        self.server = server
        self._workers = workers
        self._open: Sequence[Worker] = ()
        """Those that have callers of the current load."""

    def open(self, load: Load) -> None:
        """Connect the callers of a load, distributed evenly, to a new queue, and pass a few messages through."""
        self._open = self._workers[: load.callers]
        queue = self._workers[0].ask("make_queue")
        share, rest = divmod(load.callers, len(self._open))
        for place, each in enumerate(self._open):
            each.send("open", queue, replace(load, callers=share + (place < rest)))
        for each in self._open:
            each.result("open")
        self.add(0.02)
        self.pop()

    def add(self, seconds: float) -> Span:
        """Add messages for this many seconds."""
        return self._together("add", seconds, seconds=seconds)

    def pop(self) -> Span:
        """Pop messages until the queue is empty."""
        return self._together("pop")

    def close(self) -> None:
        """Disconnect the callers."""
        for each in self._open:
            each.ask("close")

    def _together(self, command: str, *arguments: object, seconds: float = 0.0) -> Span:
        """Run a command in all processes at the same time, and merge their results."""
        for each in self._open:
            each.send(command, *arguments)
        spans: list[Span] = [each.result(command, seconds) for each in self._open]
        messages = sum(span.messages for span in spans)
        return Span(messages, min(span.start for span in spans), max(span.end for span in spans))


@contextmanager
def drivers(name: str, server: RunningServer, count: int) -> Iterator[Drivers]:
    """Run processes for the callers of a contender."""
    with ExitStack() as running:
        yield Drivers(server, [running.enter_context(worker(_Driver, name, server.address)) for _ in range(count)])


class _Driver:
    """The commands of a process."""

    def __init__(self, name: str, address: str) -> None:
        self._contender = contender(name, MEMORY, address)
        self._callers: Sequence[Caller] = ()
        self._batch = 1
        self.make_queue = self._contender.make_queue
        self.close = self._contender.close
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def open(self, queue: str, load: Load) -> None:
        self._batch = load.batch
        self._callers = await self._contender.open_callers(queue, load)

    async def add(self, seconds: float) -> Span:
        until = perf_counter() + seconds

        async def fill(caller: Caller) -> tuple[int, float]:
            messages = 0
            while perf_counter() < until:
                await caller.add()
                messages += self._batch
            return messages, perf_counter()

        return await self._all(fill)

    async def pop(self) -> Span:
        async def empty(caller: Caller) -> tuple[int, float]:
            messages, last = 0, perf_counter()
            while popped := await caller.pop():
                messages += popped
                last = perf_counter()
            return messages, last

        return await self._all(empty)

    async def _all(self, do: Callable[[Caller], Awaitable[tuple[int, float]]]) -> Span:
        """Do the same with all callers. Each returns its number of messages, and when it moved the last."""
        start = perf_counter()
        done = await asyncio.gather(*map(do, self._callers))
        return Span(sum(messages for messages, _ in done), start, max(last for _, last in done))
