"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from inspect import CORO_CREATED, getcoroutinestate
from math import inf
from queue import Empty, SimpleQueue
from threading import RLock, Thread, current_thread
from time import monotonic
from typing import Any, Generic, ParamSpec, TypeVar, cast

from queuelet.client import forks
from queuelet.client.errors import Closed

_log = logging.getLogger("queuelet.client")

_START = 30.0
"""How long a thread may take to start, in seconds."""

_END = 30.0
"""How long the thread of a client may take to end, in seconds."""

_PARKING = 1.0
"""How long a fork waits for a client to close its connection, in seconds."""

_LOOK_UP = 0.5
"""How often a waiting thread checks for signals, in seconds: one that comes just before it waits does not wake it."""

_THREAD_ENDED = "the client's thread has ended; open another client"

P = ParamSpec("P")
R = TypeVar("R")


class LoopThread:
    """An event loop in a thread of its own, and another one in each forked process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._left: list[object] = []
        """Loops of other processes. They are kept, because closing one here would affect the other process."""
        # A call is passed to the loop before it ends, or refused. Reentrant, because a signal handler may interrupt the
        # holder in the same thread.
        self._call_lock = RLock()

    def start(self) -> None:
        """Start the thread. It is a daemon, so that a client left open does not keep the program from ending."""
        _refuse_in_a_loop()
        if self._thread is not None:
            raise Closed("the client was opened before; make a new one")
        self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        started = SimpleQueue[asyncio.AbstractEventLoop]()
        self._thread = Thread(target=_serve, args=[started], name="queuelet-client", daemon=True)
        self._thread.start()
        self._loop = started.get(timeout=_START)
        return self._loop

    def stop(self) -> None:
        """End the thread, and cancel whatever still runs there."""
        with self._call_lock:
            loop, thread, self._loop = self._loop, self._thread, None
            if loop is None or thread is None:
                return
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(loop.stop)
        thread.join(_END)
        if not loop.is_closed():
            _log.error("the thread of a client did not end within %g seconds and was abandoned", _END)

    def run(self, call: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a coroutine in the thread and return its result. Ctrl-C here cancels it there.

        Raises:
            Closed: The client is not open, or the thread has ended.
            Forked: A client of the parent process was in use when this process was forked.
        """
        _refuse_in_a_loop()
        pending_call = PendingCall(call(*args, **kwargs))
        try:
            with self._call_lock:
                pending_call.begin(self._running())
            return pending_call.result()
        except asyncio.CancelledError:
            raise Closed("the client was closed during the call") from None
        except BaseException:
            pending_call.cancel()
            raise

    def iterate(self, items: AsyncIterator[R]) -> Iterator[R]:
        """Iterate in this thread over an async iterator of that one."""
        nothing = object()
        turn = asyncio.Lock()  # a generator cannot be closed while it is asked for the next item

        async def next_item() -> R | object:
            async with turn:
                return await anext(items, nothing)

        async def close() -> None:
            async with turn:
                if isinstance(items, AsyncGenerator):
                    await items.aclose()

        try:
            while (item := self.run(next_item)) is not nothing:
                yield cast("R", item)
        finally:
            with suppress(Closed):
                self.run(close)

    @property
    def is_here(self) -> bool:
        """Whether the thread belongs to this process, and not to its parent."""
        return self._thread is not None or not self._left

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call a function in the thread, without waiting for it."""
        with self._call_lock:
            self._running().call_soon_threadsafe(call)

    def _running(self) -> asyncio.AbstractEventLoop:
        forks.check_usable()
        if self._left and self._loop is None and self._thread is None:
            self._start()
        if self._loop is None or self._thread is None:
            raise Closed("the client is not open; use it in `with`")
        if self._loop.is_closed():
            raise Closed(_THREAD_ENDED)
        return self._loop

    # Around a fork

    def hold(self, park: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Let no call begin until `release`, and have the client close its connection if it is idle.

        Return whether calls are held up. If anything takes too long, the child raises `Forked` when it uses a client.
        """
        if not self._call_lock.acquire(timeout=_PARKING):
            return False
        if self._loop is not None and current_thread() is not self._thread:
            parking = PendingCall(park())
            with suppress(Exception, asyncio.CancelledError):
                parking.begin(self._loop)
                parking.result(_PARKING)
        return True

    def release(self) -> None:
        """Let calls begin again."""
        self._call_lock.release()

    def begin_child(self) -> None:
        """Leave the loop and the thread to the parent. The next call starts new ones."""
        self._call_lock = RLock()
        if self._loop is not None:
            self._left.append(self._loop)
            self._loop = self._thread = None


class PendingCall(Generic[R]):
    """A coroutine that runs in the event loop of another thread while this thread waits for its result.

    This is not a `concurrent.futures.Future`, because that one's lock is taken in Python code: Ctrl-C at the wrong
    moment leaves it locked, and then the event loop waits for it forever, and every call for the event loop.
    """

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[R] | None = None
        self._is_cancelled = False
        self._outcome = SimpleQueue[tuple[R, None] | tuple[None, BaseException]]()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass the coroutine to the loop. Raises `Closed` if the loop is closed."""
        self._loop = loop
        try:
            loop.call_soon_threadsafe(self._begin, loop)
        except RuntimeError:
            self._work.close()
            raise Closed(_THREAD_ENDED) from None

    def result(self, seconds: float = inf) -> R:
        """Return the coroutine's result, raise its exception, or raise `Closed` if the loop is closed.

        Raises TimeoutError after this many seconds. It does not ask whether the thread is alive, because Ctrl-C within
        `Thread.is_alive` makes a living thread count as ended.
        """
        end = monotonic() + seconds
        while True:
            is_closed = self._loop is None or self._loop.is_closed()
            with suppress(Empty):
                left = 0.0 if is_closed else min(_LOOK_UP, max(0.0, end - monotonic()))
                value, error = self._outcome.get(timeout=left)
                if error is not None:
                    raise error
                return cast("R", value)
            if is_closed:
                # Also one that became a task in the loop's last turn has never begun.
                if getcoroutinestate(self._work) == CORO_CREATED:
                    self._work.close()
                raise Closed(_THREAD_ENDED)
            if monotonic() >= end:
                raise TimeoutError

    def cancel(self) -> None:
        """Cancel the coroutine, unless it or its thread has ended."""
        if self._loop is None:
            self._work.close()
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_cancelled:
            self._work.close()
            return
        self._task = loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[R]) -> None:
        # The other thread gets no task, because freeing one runs Python code, in which a Ctrl-C is ignored.
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._outcome.put((None, error) if error is not None else (task.result(), None))

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()


def _serve(started: SimpleQueue[asyncio.AbstractEventLoop]) -> None:
    """Run an event loop until it is stopped, then cancel the tasks that are left."""
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            asyncio.set_event_loop(loop)
            loop.call_soon(started.put, loop)
            loop.run_forever()
    except BaseException:  # noqa: BLE001  # the end of a thread, which has no caller
        # For example, SystemExit from a listener. Calls that wait for this thread raise Closed.
        _log.exception("the thread of a client ended with an error")


def _refuse_in_a_loop() -> None:
    """Raise if this thread runs an event loop, because blocking it could wait for itself forever."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "queuelet.client.blocking was called in an event loop, which it would block; "
        "await queuelet.client there, or call this in another thread with asyncio.to_thread"
    )
