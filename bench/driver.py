"""Driver processes: they generate the load instead of tasks, so that a server shares no interpreter with clients."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.system import Caller, Failed, Load
from bench.systems import system

ANSWER_SECONDS = 60.0
"""Seconds that a driver may take in addition to the time it should work, before the system counts as hung."""


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
    """The driver processes of one system."""

    def __init__(self, name: str, address: str, count: int) -> None:
        self._name = name
        self._address = address
        self._count = count
        self._open = 0
        self._pipes: list[Any] = []
        self._processes: list[Any] = []

    def __enter__(self) -> Self:
        """Start the processes."""
        spawn = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_drive, args=(theirs, self._name, self._address), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def open(self, load: Load) -> None:
        """Connect the callers of a load, distributed evenly, to a new queue."""
        self._open = min(self._count, load.callers)
        (queue,) = self._ask([("make_queue",)])
        share, rest = divmod(load.callers, self._open)
        self._ask([("open", queue, replace(load, callers=share + (place < rest))) for place in range(self._open)])

    def add(self, seconds: float) -> Span:
        """Add messages for this many seconds."""
        return _together(self._ask([("add", seconds)] * self._open, seconds))

    def pop(self) -> Span:
        """Pop messages until the queue is empty."""
        return _together(self._ask([("pop",)] * self._open))

    def close(self) -> None:
        """Disconnect the callers."""
        self._ask([("close",)] * self._open)

    def _ask(self, commands: Sequence[tuple[Any, ...]], seconds: float = 0) -> list[Any]:
        """Send one command to each of the first drivers, and return their responses."""
        pipes = self._pipes[: len(commands)]
        for pipe, command in zip(pipes, commands, strict=True):
            pipe.send(command)
        answers = []
        for pipe, command in zip(pipes, commands, strict=True):
            if not pipe.poll(seconds + ANSWER_SECONDS):
                raise Failed(f"{command[0]!r} did not end within {seconds + ANSWER_SECONDS:.0f} s")
            try:
                answer = pipe.recv()
            except EOFError:
                raise Failed(f"a driver process ended during {command[0]!r}") from None
            if isinstance(answer, Failed):
                raise answer
            answers.append(answer)
        return answers


def _together(spans: Sequence[Span]) -> Span:
    """Merge the results of drivers that worked at the same time."""
    messages = sum(span.messages for span in spans)
    return Span(messages, min(span.start for span in spans), max(span.end for span in spans))


def _drive(pipe: Connection, name: str, address: str) -> None:
    """Run a driver process: execute commands until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_obey(pipe, name, address))


async def _obey(pipe: Connection, name: str, address: str) -> None:
    target = system(name)
    callers: Sequence[Caller] = ()
    load = Load(1, 1, 1)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    async with AsyncExitStack() as opened:
        while True:
            try:
                command, *arguments = await asyncio.to_thread(pipe.recv)
            except (EOFError, OSError):
                return
            answer: Any = None
            try:
                match command:
                    case "make_queue":
                        answer = await target.make_queue(address)
                    case "open":
                        queue, load = arguments
                        callers = await opened.enter_async_context(target.callers(address, queue, load))
                    case "add":
                        answer = await _add(callers, load.batch, *arguments)
                    case "pop":
                        answer = await _pop(callers)
                    case "close":
                        callers = ()
                        await opened.aclose()
            except Exception as error:  # noqa: BLE001  # report whatever a client raises, and go on with the benchmark
                answer = Failed(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            pipe.send(answer)


async def _add(callers: Sequence[Caller], batch: int, seconds: float) -> Span:
    start = perf_counter()
    until = start + seconds

    async def one(caller: Caller) -> int:
        messages = 0
        while perf_counter() < until:
            await caller.add()
            messages += batch
        return messages

    messages = sum(await asyncio.gather(*map(one, callers)))
    return Span(messages, start, perf_counter())


async def _pop(callers: Sequence[Caller]) -> Span:
    start = perf_counter()

    async def one(caller: Caller) -> tuple[int, float]:
        messages, last = 0, start
        while taken := await caller.pop():
            messages += taken
            last = perf_counter()
        return messages, last

    done = await asyncio.gather(*map(one, callers))
    return Span(sum(messages for messages, _ in done), start, max(last for _, last in done))
