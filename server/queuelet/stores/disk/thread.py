"""The writer thread: it runs tasks in order, and passes their results to the event loop."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class WriterThread:
    """A thread that runs one task at a time. It is a daemon thread, so it does not keep the process alive."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="queuelet-disk", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run `work` in the thread, then call `done` on the event loop with what it returned or raised."""

        def task() -> None:
            try:
                result: T | Exception = work()
            except Exception as error:  # noqa: BLE001  # `done` handles it
                result = error
            with suppress(RuntimeError):  # the loop is closed, so there are no waiters
                self._loop.call_soon_threadsafe(done, result)

        self._tasks.put(task)

    def stop(self) -> None:
        """Finish the tasks that were submitted, end the thread, and wait for its end."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
