"""Child processes that run clients, so that no client shares an interpreter with a server or with another side."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

from bench.errors import Failed

_GRACE_SECONDS = 60.0
"""Seconds that a command may take in addition to its intended time, before the contender counts as hung."""


class Worker:
    """A child process, which executes commands that arrive by a pipe.

    It calls `main(pipe, *arguments)`, which passes the pipe to `obey`.
    """

    def __init__(self, main: Callable[..., None], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(main, self._theirs, *arguments), daemon=True)

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
    def pid(self) -> int | None:
        """The process."""
        return self._process.pid

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


class Commands(Protocol):
    """The commands of a worker: its methods, with plain values as arguments and results."""

    async def close(self) -> None:
        """Disconnect. It is called again before the process ends."""


async def obey(pipe: Connection, commands: Commands) -> None:
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


def _run(main: Callable[..., None], pipe: Connection, *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the benchmark, which then ends its processes
    main(pipe, *arguments)
