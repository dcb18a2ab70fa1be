"""Long polls: how Pop, PopBatch and Receive wait for a message, and how a retried call gets the same response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from queuelet.clock import now_ns
from queuelet.core.queue import Queue
from queuelet.core.storage import NotLoaded
from queuelet.core.waiting import Consumer, Describe, Taker
from queuelet.errors import InvalidArgument
from queuelet.limits import MAX_REQUEST_ID_BYTES
from queuelet.server.endpoint import Call
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.loading import loaded, until_loaded

_MARGIN = 0.1
"""A waiting call responds this many seconds before its deadline, or a tenth of its remaining time if that is less."""


class LongPoll:
    """Takes messages for calls, now or once there are some."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._repeated: dict[tuple[str, bytes], list[Callable[[], None]]] = {}
        """Functions that wake waiting calls with a request ID, by queue and key."""

    def take(  # noqa: PLR0913, PLR0917  # the parameters of a call
        self,
        queue: Queue,
        wait: float,
        call: Call,
        kind: bytes,
        request_id: str,
        take: Callable[[], bytes],
        consumer: str | None = None,
    ) -> bytes | Awaitable[bytes]:
        """Return the result of `take`, now or once there is a message, but after at most `wait` seconds.

        With a request ID the call is idempotent: a retry with the same ID gets the same response. A response without a
        message is not cached, because a retry may find one.

        Args:
            queue: the queue to take from.
            wait: seconds to wait for a message; 0 to not wait.
            call: the call, for its address and deadline.
            kind: a letter for the RPC, because calls of different RPCs may have the same request ID.
            request_id: the request ID; empty if the call has none.
            take: takes messages and returns the response.
            consumer: the name of the consumer, which is listed while it waits; None for a call that is not listed.
        """
        key = request_key(kind, request_id) if request_id else b""
        must_wait = wait and not queue.has_ready(now_ns()) and not queue.claims.is_held
        if key:
            if must_wait and (cached := queue.responses.lookup_or_admit(key, now_ns())) is not None:
                return cached
            take = _first_time(queue, key, take)
        if not must_wait:
            return take()
        describe = None if consumer is None else partial(Consumer, since=now_ns(), peer=call.peer, name=consumer)
        return self._wait(queue, wait, call, key, take, describe)

    async def _wait(  # noqa: PLR0913, PLR0917  # as `take`
        self,
        queue: Queue,
        seconds: float,
        call: Call,
        key: bytes,
        take: Callable[[], bytes],
        describe: Describe | None,
    ) -> bytes:
        loop = asyncio.get_running_loop()
        left = wait_budget(call)
        deadline = loop.time() + (seconds if left is None else min(seconds, left))
        came_too_late = False
        has_taken = False
        try:
            while not await loaded(partial(self._is_over, queue)) and loop.time() < deadline:
                self._lifecycle.check()
                if key and self._has_response(queue, key):
                    break
                woken = asyncio.Event()
                taker = Taker(woken.set, call.peer_host, describe)
                await self._until_woken(queue, taker, woken, deadline, key, first=came_too_late)
                came_too_late = True
            while True:
                self._lifecycle.check()
                queue.check_exists()
                before = queue.taken
                try:
                    response = take()
                except NotLoaded as missing:
                    await until_loaded(missing)
                else:
                    has_taken = queue.taken != before
                    return response
        finally:
            if not has_taken:
                # It took no message: it got a cached response, was refused or cancelled. Wake the next taker instead.
                queue.waiters.pass_turn()
            for wake in self._repeated.get((queue.id, key), ()):
                wake()

    @staticmethod
    def _has_response(queue: Queue, key: bytes) -> bool:
        """Return whether a response is stored under a key. It does not wait, so that no message arrives meanwhile."""
        try:
            return queue.responses.lookup_or_admit(key, now_ns()) is not None
        except NotLoaded:
            return True

    @staticmethod
    def _is_over(queue: Queue) -> bool:
        """Return whether a call need not wait any longer: it gets a message or an error."""
        return queue.has_ended or queue.claims.is_held or queue.has_ready(now_ns())

    async def _until_woken(  # noqa: PLR0913  # as `take`
        self, queue: Queue, taker: Taker, woken: asyncio.Event, deadline: float, key: bytes, *, first: bool
    ) -> None:
        """Wait for a message, or until another call with the same request ID has its response."""
        queue.waiters.wait_for_message(taker, first=first)
        repeated = self._repeated.setdefault((queue.id, key), []) if key else []
        repeated.append(taker.wake)
        try:
            async with asyncio.timeout_at(deadline):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            queue.waiters.stop_waiting(taker)
            repeated.remove(taker.wake)
            if key and not repeated:
                del self._repeated[queue.id, key]


def wait_budget(call: Call) -> float | None:
    """Return how many seconds a call may wait so that its response is in time; None if it has no deadline."""
    left = call.seconds_left
    return None if left is None else max(0.0, left - min(_MARGIN, left / 10))


def _first_time(queue: Queue, key: bytes, take: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return a `take` that caches its response, or returns the cached one if there is one by then."""

    def take_once() -> bytes:
        return queue.responses.take_once(key, take, now_ns())

    return take_once


def request_key(kind: bytes, request_id: str) -> bytes:
    """Return the key under which a call's response is cached: its kind and its request ID.

    Raises:
        InvalidArgument: the request ID is too long.
    """
    key = request_id.encode()
    if len(key) > MAX_REQUEST_ID_BYTES:
        raise InvalidArgument(
            f"request_id: {len(key):,} bytes are too many; use at most {MAX_REQUEST_ID_BYTES}, such as a UUID",
            field="request_id",
        )
    return kind + key
