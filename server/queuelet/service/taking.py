"""Calls that take messages: Pop, PopBatch and Receive wait for one alike, and get the same answer when repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import time_ns

from queuelet.errors import InvalidArgument
from queuelet.queue import Queue
from queuelet.rpc import Call
from queuelet.running import Running

_MARGIN = 0.1
"""A call that waits answers this long before its deadline, in seconds, or a tenth of its time if that is less."""

_LONGEST_REQUEST_ID = 64
"""In bytes."""


class Taker:
    """Takes messages for calls."""

    def __init__(self, running: Running) -> None:
        """Take whether the server runs."""
        self._running = running

    def take(  # noqa: PLR0913, PLR0917  # what a call asks for
        self, queue: Queue, wait: float, call: Call, kind: bytes, request_id: str, take: Callable[[], bytes]
    ) -> bytes | Awaitable[bytes]:
        """Return what `take` returns, at once or when there is a message within `wait` seconds.

        With a request id, a call of the same kind repeated with it gets the same answer. An answer without a message
        is not kept: who asks again may find one.
        """
        must_wait = wait and not queue.ready and not queue.is_held
        if request_id:
            key = request_key(kind, request_id)
            if must_wait and (kept := queue.answers.find(key, time_ns())) is not None:
                return kept
            take = _first_time(queue, key, take)
        return self._wait(queue, wait, call, take) if must_wait else take()

    async def _wait(self, queue: Queue, seconds: float, call: Call, take: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        left = patience(call)
        deadline = loop.time() + (seconds if left is None else min(seconds, left))
        came_too_late = False
        while not (queue.ready or queue.is_held or queue.has_ended) and loop.time() < deadline:
            self._running.check()
            woken = asyncio.Event()
            queue.wait_for_message(woken.set, first=came_too_late)
            try:
                async with asyncio.timeout_at(deadline):
                    await woken.wait()
            except TimeoutError:
                queue.give_up_waiting(woken.set)
            except asyncio.CancelledError:
                queue.give_up_waiting(woken.set)
                raise
            came_too_late = True
        self._running.check()
        queue.check_exists()
        return take()


def patience(call: Call) -> float | None:
    """Return how long a call may wait so that its answer still comes in time, in seconds; None for ever."""
    left = call.seconds_left
    return None if left is None else max(0.0, left - min(_MARGIN, left / 10))


def _first_time(queue: Queue, key: bytes, take: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return what takes messages and keeps the answer, unless the call was repeated and answered by now."""

    def take_once() -> bytes:
        return queue.take_once(key, take, time_ns())

    return take_once


def request_key(kind: bytes, request_id: str) -> bytes:
    """Return under what the answer of a call is kept: calls of different kinds may have the same id.

    Raises:
        InvalidArgument: the id is too long.
    """
    key = request_id.encode()
    if len(key) > _LONGEST_REQUEST_ID:
        raise InvalidArgument(
            f"request_id: {len(key):,} bytes are too many; use at most {_LONGEST_REQUEST_ID}, a UUID for one",
            field="request_id",
        )
    return kind + key
