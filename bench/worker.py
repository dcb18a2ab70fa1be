"""Child processes that run clients, so that no client shares an interpreter with a server or with another side."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

import uvloop

from bench.errors import Failed

_GRACE_SECONDS = 60.0
"""Seconds that a command may take in addition to its intended time, before the contender counts as hung."""


class Commands(Protocol):
    """The commands of a worker: its methods, with plain values as arguments and results."""

    async def close(self) -> None:
        """Disconnect. It is called again before the process ends."""


class Worker:
    """A child process that executes commands one by one."""

    def __init__(self, commands: Callable[..., Commands], *arguments: object, with_uvloop: bool = False) -> None:
        """Take the class with the commands, which is made in the process, its arguments, and the event loop."""
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        arguments = (self._theirs, with_uvloop, commands, arguments)
        self._process = spawn.Process(target=_run, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        """Start the process."""
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid or 0

    def ask(self, command: str, *arguments: object, seconds: float = 0.0) -> Any:  # noqa: ANN401  # as the command says
        """Send a command and return its result; it should take this many seconds."""
        self.send(command, *arguments)
        return self.result(command, seconds)

    def send(self, command: str, *arguments: object) -> None:
        """Send a command."""
        self._pipe.send((command, *arguments))

    def result(self, command: str, seconds: float = 0.0) -> Any:  # noqa: ANN401  # as the command says
        """Return the result of a command that was sent; raise `Failed` if it failed or takes too long."""
        if not self._pipe.poll(seconds + _GRACE_SECONDS):
            raise Failed(f"{command!r} did not end within {seconds + _GRACE_SECONDS:.0f} s")
        try:
            result = self._pipe.recv()
        except EOFError:
            raise Failed(f"a process ended during {command!r}") from None
        if isinstance(result, Failed):
            raise result
        return result


def _run(pipe: Connection, with_uvloop: bool, kind: Callable[..., Commands], arguments: tuple[object, ...]) -> None:  # noqa: FBT001  # a process passes arguments by place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the benchmark, which then ends its processes
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if with_uvloop else None) as runner:
        runner.run(_obey(pipe, kind(*arguments)))


async def _obey(pipe: Connection, commands: Commands) -> None:
    """Execute commands until the pipe closes."""
    try:
        while True:
            try:
                command, *arguments = await asyncio.to_thread(pipe.recv)
            except (EOFError, OSError):
                return
            try:
                result = await getattr(commands, command)(*arguments)
            except Exception as error:  # noqa: BLE001  # report whatever a client raises, and go on with the benchmark
                result = Failed(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            pipe.send(result)
    finally:
        await commands.close()
