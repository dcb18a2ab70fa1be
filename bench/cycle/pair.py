"""A producer process and a consumer process, both on uvloop, because all clients are faster with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic_ns
from types import TracebackType
from typing import Any, NamedTuple, Self

import uvloop

from bench.cycle.contender import Bounds, Contender, LongPoll, Putter
from bench.cycle.record import Record, message
from bench.cycle.systems import contender
from bench.process import cpu_seconds
from bench.system import Failed

_PATIENCE = 60.0
"""Seconds that an action may take in addition to its intended time, before the system counts as hung."""

_LOOK, _LOOKS = 0.05, 200
"""Checks whether a server has removed acknowledged messages: their number, and the seconds between them."""

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

    def __init__(self, target: Contender, address: str, server_pid: int | None) -> None:
        self._producer = _Process(_produce, target, address)
        self._consumer = _Process(_consume, target, address)
        self._server_pid = server_pid
        self._queue = ""

    def __enter__(self) -> Self:
        """Start the processes."""
        self._producer.start()
        self._consumer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._producer.end()
        self._consumer.end()

    def open(self, bounds: Bounds) -> None:
        """Connect both to a new queue."""
        self._queue = self._producer.ask("make_queue", bounds)
        for process in (self._consumer, self._producer):
            process.ask("open", self._queue, bounds)

    def trip(self, count: int, pace: Pace = FULL_SPEED) -> Trip:
        """Have messages put, handled and acknowledged."""
        before = self._cpu()
        seconds = count / pace.rate if pace.rate else 0.0
        self._consumer.ask("expect", count)
        self._consumer.send("take")
        try:
            start = self._producer.ask("put", count, pace, seconds=seconds)
            end, handled, p50, p99 = self._consumer.answer("take", seconds)
        finally:
            used = [after - earlier for after, earlier in zip(self._cpu(), before, strict=True)]
        if handled != count:
            raise Failed(f"{count:,} messages were put but {handled:,} of them handled")
        return Trip(count, handled, (end - start) / 1e9, p50, p99, *used)

    def close(self) -> int:
        """Disconnect both; return how many messages are still in the queue."""
        for process in (self._producer, self._consumer):
            process.ask("close")
        left: int = self._producer.ask("left", self._queue)
        return left

    def _cpu(self) -> list[float]:
        return [cpu_seconds(pid) or 0.0 for pid in (self._producer.pid, self._consumer.pid, self._server_pid)]


class _Process:
    """One of the two processes, and its pipe."""

    def __init__(self, main: Callable[..., Coroutine[Any, Any, None]], target: Contender, address: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        arguments = (self._theirs, main, target.name, target.store, address)
        self._process = spawn.Process(target=_be, args=arguments, daemon=True)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def start(self) -> None:
        self._process.start()
        self._theirs.close()

    def end(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def ask(self, command: str, *arguments: object, seconds: float = 0.0) -> Any:  # noqa: ANN401  # as the command says
        self.send(command, *arguments)
        return self.answer(command, seconds)

    def send(self, command: str, *arguments: object) -> None:
        self._pipe.send((command, *arguments))

    def answer(self, command: str, seconds: float = 0.0) -> Any:  # noqa: ANN401  # as the command says
        if not self._pipe.poll(seconds + _PATIENCE):
            raise Failed(f"{command!r} did not end within {seconds + _PATIENCE:.0f} s")
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise Failed(f"a process ended during {command!r}") from None
        if isinstance(answer, Failed):
            raise answer
        return answer


def _be(pipe: Connection, main: Callable[..., Coroutine[Any, Any, None]], name: str, store: str, address: str) -> None:
    """Run one of the processes, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(pipe, contender(name, store), address))


async def _produce(pipe: Connection, target: Contender, address: str) -> None:
    putter: Putter | None = None
    bounds: Bounds | None = None
    async with AsyncExitStack() as opened:

        async def do(command: str, *arguments: Any) -> object:  # noqa: ANN401  # as the command says
            nonlocal putter, bounds
            match command:
                case "make_queue":
                    return await target.make_queue(address, *arguments)
                case "open":
                    queue, bounds = arguments
                    putter = await opened.enter_async_context(target.putter(address, queue, bounds))
                case "put":
                    assert putter
                    assert bounds
                    return await _put(putter, bounds.batch, *arguments)
                case "close":
                    await opened.aclose()
                case "left":
                    return await _left(target, address, *arguments)
            return None

        await _obey(pipe, do)


async def _consume(pipe: Connection, target: Contender, address: str) -> None:
    taker: LongPoll | None = None
    record = Record()
    async with AsyncExitStack() as opened:

        async def do(command: str, *arguments: Any) -> object:  # noqa: ANN401  # as the command says
            nonlocal taker
            match command:
                case "open":
                    queue, bounds = arguments
                    taker = await opened.enter_async_context(target.taker(address, queue, bounds, record))
                case "expect":
                    record.expect(*arguments)
                case "take":
                    assert taker
                    await taker.take()
                    return monotonic_ns(), record.handled, record.age(0.5), record.age(0.99)
                case "close":
                    await opened.aclose()
            return None

        await _obey(pipe, do)


async def _obey(pipe: Connection, do: Callable[..., Coroutine[Any, Any, object]]) -> None:
    """Execute commands until the pipe closes."""
    while True:
        try:
            command = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError):
            return
        try:
            answer = await do(*command)
        except Exception as error:  # noqa: BLE001  # report whatever a client raises, and go on with the benchmark
            answer = Failed(" ".join(f"{type(error).__name__}: {error}".split())[:200])
        pipe.send(answer)


async def _put(putter: Putter, batch: int, count: int, pace: Pace) -> int:
    """Put messages; return when the first put began."""
    start = monotonic_ns()
    if pace.rate is None:
        await _put_at_once(putter, batch, count)
    else:
        await _put_at_rate(putter, batch, count, pace, start)
    await putter.flush()
    return start


async def _put_at_once(putter: Putter, batch: int, count: int) -> None:
    for first in range(0, count, batch):
        await putter.put([message(number, monotonic_ns()) for number in range(first, min(first + batch, count))])
        await asyncio.sleep(0)  # not every client yields to its connection


async def _put_at_rate(putter: Putter, batch: int, count: int, pace: Pace, start: int) -> None:
    """Put each message when it is due, whether or not earlier puts are confirmed.

    The age of a message that became due while the producer was blocked counts from its due time, so that a pause is not
    lost.
    """
    assert pace.rate
    put = putter.put_awaited if pace.is_awaited else putter.put
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


async def _left(target: Contender, address: str, queue: str) -> int:
    """Return how many messages are in a queue, once it is empty or after a timeout."""
    for _ in range(_LOOKS):
        if not await target.left(address, queue):
            return 0
        await asyncio.sleep(_LOOK)
    return await target.left(address, queue)
