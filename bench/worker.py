"""Child processes that run clients, so that no client shares an interpreter with a server or with another side."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from bench.errors import Failed

_GRACE_SECONDS = 60.0
"""Seconds that a command may take in addition to its intended time, before the contender counts as hung."""


class Worker:
    """A child process that executes commands one by one."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe = pipe
        self.pid = pid

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


@contextmanager
def worker(commands: Callable[..., Any], *arguments: object, with_uvloop: bool = False) -> Iterator[Worker]:
    """Run a process that makes an instance of a class, and executes its methods as commands.

    Their arguments and results are plain values. `close` is called before the process ends.
    """
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(theirs, commands, arguments, with_uvloop), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Worker(pipe, process.pid or 0)
    finally:
        pipe.close()
        process.join(5)
        process.kill()
        process.join()


def _run(pipe: Connection, commands: Callable[..., Any], arguments: tuple[object, ...], with_uvloop: bool) -> None:  # noqa: FBT001  # a process passes arguments by place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the benchmark, which then ends its processes
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if with_uvloop else None) as runner:
        runner.run(_obey(pipe, commands(*arguments)))


async def _obey(pipe: Connection, commands: Any) -> None:  # noqa: ANN401  # an instance of the class with the commands
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
