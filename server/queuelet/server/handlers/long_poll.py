"""Calls that take messages: Pop, PopBatch and Receive wait for one alike, and get the same answer when repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from queuelet.clock import now_ns
from queuelet.core.queue import Queue
from queuelet.core.waiting import Waiter
from queuelet.errors import InvalidArgument
from queuelet.server.endpoint import Call
from queuelet.server.lifecycle import Lifecycle

_MARGIN = 0.1
"""A call that waits answers this long before its deadline, in seconds, or a tenth of its time if that is less."""

_LONGEST_REQUEST_ID = 64
"""In bytes."""


class LongPoll:
    """Takes messages for calls."""

    def __init__(self, running: Lifecycle) -> None:
        """Take whether the server runs."""
        self._running = running
        self._repeated: dict[tuple[str, bytes], list[Callable[[], None]]] = {}
        """What wakes calls with a request id that wait, by queue and key."""

    def take(  # noqa: PLR0913, PLR0917  # what a call asks for
        self, queue: Queue, wait: float, call: Call, kind: bytes, request_id: str, take: Callable[[], bytes]
    ) -> bytes | Awaitable[bytes]:
        """Return what `take` returns, at once or when there is a message within `wait` seconds.

        With a request id, a call of the same kind repeated with it gets the same answer. An answer without a message
        is not kept: who asks again may find one.
        """
        key = request_key(kind, request_id) if request_id else b""
        must_wait = wait and not queue.has_ready(now_ns()) and not queue.is_held
        if key:
            if must_wait and (kept := queue.answers.lookup_or_admit(key, now_ns())) is not None:
                return kept
            take = _first_time(queue, key, take)
        return self._wait(queue, wait, call, key, take) if must_wait else take()

    async def _wait(self, queue: Queue, seconds: float, call: Call, key: bytes, take: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        left = wait_budget(call)
        peer = call.peer_host
        deadline = loop.time() + (seconds if left is None else min(seconds, left))
        came_too_late = False
        taken = queue.taken
        try:
            while not (queue.has_ended or queue.is_held or queue.has_ready(now_ns())) and loop.time() < deadline:
                self._running.check()
                if key and queue.answers.lookup_or_admit(key, now_ns()) is not None:
                    break
                await self._until_woken(queue, peer, deadline, key, first=came_too_late)
                came_too_late = True
                taken = queue.taken
            self._running.check()
            queue.check_exists()
            taken = queue.taken
            return take()
        finally:
            if queue.taken == taken:
                # It got a kept answer, was refused or cancelled: the message for which it was woken is another's.
                queue.pass_turn()
            for wake in self._repeated.get((queue.id, key), ()):
                wake()

    async def _until_woken(self, queue: Queue, peer: str, deadline: float, key: bytes, *, first: bool) -> None:
        """Wait for a message, or until a call that this one repeats has got its answer."""
        woken = asyncio.Event()
        waiter = Waiter(woken.set, peer)
        queue.wait_for_message(waiter, first=first)
        repeated = self._repeated.setdefault((queue.id, key), []) if key else []
        repeated.append(waiter.wake)
        try:
            async with asyncio.timeout_at(deadline):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            queue.stop_waiting(waiter)
            repeated.remove(waiter.wake)
            if key and not repeated:
                del self._repeated[queue.id, key]


def wait_budget(call: Call) -> float | None:
    """Return how long a call may wait so that its answer still comes in time, in seconds; None for ever."""
    left = call.seconds_left
    return None if left is None else max(0.0, left - min(_MARGIN, left / 10))


def _first_time(queue: Queue, key: bytes, take: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return what takes messages and keeps the answer, unless the call was repeated and answered by now."""

    def take_once() -> bytes:
        return queue.take_once(key, take, now_ns())

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
