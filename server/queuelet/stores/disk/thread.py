"""The one thread that writes: it does what it is given in order, and tells the event loop."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """A thread beside the event loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Start it. It does not keep the process from ending."""
        self._loop = loop
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="queuelet-disk", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Do some work in the thread, then call `done` on the loop with what it returned or raised."""

        def task() -> None:
            try:
                result: T | Exception = work()
            except Exception as error:  # noqa: BLE001  # whatever it is, the loop decides what it means
                result = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(done, result)

        self._tasks.put(task)

    def stop(self) -> None:
        """End the thread once it has done what it was given, and wait for that."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
