"""The consumer: takes leased messages from a queue, and settles each by how its work ends.

    async def handle(order: Received[bytes]) -> None:
        ...                                           # returning acknowledges, raising gives the message back

    await Consumer(client, "orders", handle, concurrency=8).run()

or, one message after the other:

    async with Consumer(client, "orders") as orders:
        async for order in orders:                    # asking for the next one acknowledges this one
            ...

The consumer extends leases while the work lasts. During an outage it waits until the server is back. If a message is
redelivered while its work still goes on here, the work is not started a second time.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, suppress
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

from queuelet.client.client import Client
from queuelet.client.errors import Closed
from queuelet.client.handler_loop import Handler, HandlerLoop
from queuelet.client.inbox import Inbox
from queuelet.client.iteration import Iteration
from queuelet.client.lease_session import SessionSettings
from queuelet.client.options import ConsumerOptions, OnError
from queuelet.client.prefetch import Prefetch
from queuelet.client.received_message import Received
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.settlement import Settlement
from queuelet.client.text import check_text, sendable
from queuelet.client.validation import Seconds, check_at_least, seconds_of, timeout_of
from queuelet.errors import QueueletError
from queuelet.limits import MAX_CONSUMER_BYTES, MAX_HEARTBEAT_SECONDS, MIN_HEARTBEAT_SECONDS

_LOOK = 0.25
"""How often to check whether the queue is empty, in seconds."""

_LAST_OUTCOMES = 2.0
"""How long the server may take to confirm the last outcomes, in seconds."""


class Consumer(Generic[Item]):
    """Consumes messages from one queue."""

    @overload
    def __init__(
        self: Consumer[bytes],
        client: Client,
        queue: str,
        handler: Handler[bytes] | None = ...,
        **options: Unpack[ConsumerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: Client,
        queue: str,
        handler: Handler[Item] | None = ...,
        *,
        serializer: Serializer[Item],
        **options: Unpack[ConsumerOptions],
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # independent settings, all but three keyword-only
        self,
        client: Client,
        queue: str,
        handler: Handler[Any] | None = None,
        *,
        serializer: Serializer[Item] = BYTES,  # type: ignore[assignment]  # the overloads say when
        concurrency: int = 1,
        prefetch: int | None = None,
        prefetch_bytes: int = 16 * 1024 * 1024,
        prefetch_seconds: Seconds | None = None,
        lease: Seconds = 0,
        exclusive: bool = False,
        name: str = "",
        on_error: OnError = OnError.REQUEUE,
        retry_delay: Seconds = 0,
        max_messages: int | None = None,
        until_empty: bool = False,
        close_timeout: Seconds | None = 30.0,
        reach_for: Seconds | None = None,
        missing_for: Seconds = 30.0,
        heartbeat: Seconds = 5.0,
    ) -> None:
        """Set up a consumer. Nothing is sent until it is opened.

        Args:
            client: An open client.
            queue: The queue's name or ID.
            handler: Does the work of a message; None to iterate over the messages instead.
            serializer: Converts bytes to items.
            concurrency: How many messages to handle at a time.
            prefetch: How many more messages to buffer here, so that handlers do not wait; 0 leaves them to other
                consumers. None for as many as are handled in a quarter of a second, by the pace so far, but at most
                1,000.
            prefetch_bytes: The number of buffered bytes from which no more messages are prefetched; 0 for unlimited.
                One message may exceed it.
            prefetch_seconds: How long a prefetched message waits here, in seconds, 0.1 or more. Then it returns to the
                queue, so that another consumer gets it. None for one second, or for any time if `prefetch` is given. An
                exclusive consumer hands nothing back.
            lease: How long leases last, in seconds, 1 or more; 0 for the queue's setting. They are extended while the
                work lasts.
            exclusive: Whether to be the only consumer of the queue. While another exclusive consumer holds it, this one
                waits.
            name: A name for this consumer, which the history of failed messages shows; empty for host name and process
                ID.
            on_error: What happens to a message whose handler raises.
            retry_delay: How long such a message is not delivered again, in seconds.
            max_messages: End after this many messages; None for unlimited.
            until_empty: Whether to end when no message is ready or leased.
            close_timeout: How long work may go on when the consumer is closed, in seconds; None for unlimited.
            reach_for: How long to try to reach a server that was never reached, in seconds; None for unlimited.
            missing_for: How long an existing queue may be missing before `run` raises `QueueNotFound`, in seconds. It
                may be deleted to be declared again, or its server may have restarted without it. A queue that never
                existed is an error at once.
            heartbeat: How long the stream may be silent in either direction, in seconds, 0.1 or more; 0 for any time.
                After three times as long the server counts as gone. So does this consumer for the server, which
                redelivers its messages. The server uses at most a fifth of the lease.

        Raises:
            ValueError: A number is out of range.
            TypeError: `on_error` is not an `OnError`, or a setting has the wrong type.
        """
        check_at_least(1, concurrency=concurrency, max_messages=max_messages)
        check_at_least(0, prefetch=prefetch, prefetch_bytes=prefetch_bytes)
        check_text("queue", queue)
        if not isinstance(on_error, OnError):
            raise TypeError(f"on_error: {on_error!r} is not an OnError; use one of {', '.join(map(str, OnError))}")
        self._client = client
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        retry_delay = seconds_of("retry_delay", retry_delay)
        self._until_empty = until_empty
        self._close_timeout = timeout_of("close_timeout", close_timeout)
        settings = SessionSettings(
            queue=queue,
            consumer=sendable(name or f"{socket.gethostname()}:{os.getpid()}", MAX_CONSUMER_BYTES),
            lease=seconds_of("lease", lease, least=1) if lease else 0,
            concurrency=concurrency,
            is_exclusive=exclusive,
            reach_for=timeout_of("reach_for", reach_for),
            heartbeat=seconds_of("heartbeat", heartbeat, least=MIN_HEARTBEAT_SECONDS, most=MAX_HEARTBEAT_SECONDS)
            if heartbeat
            else 0,
            max_bytes=prefetch_bytes,
            missing_for=seconds_of("missing_for", missing_for, most=inf),
        )
        pace = Prefetch(concurrency, prefetch, prefetch_seconds)
        self._inbox = Inbox(client, settings, serializer, pace, max_messages)
        self._settlement = Settlement(queue, self._inbox, pace, on_error, retry_delay)
        self._session = self._inbox.session
        self._session_task: asyncio.Task[None] | None = None
        self._handler_tasks: list[asyncio.Task[None]] = []
        self._empty_task: asyncio.Task[None] | None = None
        self._is_cancelling = False

    @property
    def done(self) -> int:
        """The number of acknowledged messages that left the queue, as far as the consumer can know.

        An ack that was not confirmed before a reconnect is sent again. If the server does not know its lease any more,
        the message counts as done, because most likely the first ack arrived. But a server that crashed may have lost
        leases of the last second in Disk queues instead, and then that message is redelivered.
        """
        return self._inbox.done

    @property
    def failed(self) -> int:
        """The number of messages whose work failed."""
        return self._inbox.failed

    @property
    def lost(self) -> int:
        """The number of messages that were done but may be redelivered, because their lease had expired."""
        return self._inbox.lost

    @property
    def was_connected(self) -> bool:
        """Whether the server was ever reached."""
        return self._session.was_connected

    @property
    def in_work(self) -> int:
        """The number of messages that are worked on."""
        return len(self._inbox.in_work)

    @property
    def unconfirmed(self) -> int:
        """The number of outcomes that the server has not confirmed."""
        return self._session.unsettled

    # Lifecycle

    async def run(self) -> None:
        """Consume until `stop` is called or a limit of the consumer is reached.

        Raises:
            Closed: The client is not open, or was closed before the consumer.
            QueueNotFound: The queue never existed, or was missing for longer than `missing_for`.
            QueueHeld: An exclusive consumer holds the queue, and this one is not exclusive.
            TypeError: The consumer has no handler.
        """
        if self._handler is None:
            raise TypeError("the consumer has no handler; give it one, or iterate over it")
        async with self:
            await self.wait()

    async def __aenter__(self) -> Self:
        """Start to consume."""
        if self._session_task is not None:
            raise Closed("the consumer was opened before; make a new one")
        self._session_task = asyncio.create_task(self._session.run())
        self._session_task.add_done_callback(lambda _: self._inbox.wake_all())
        if self._handler is not None:
            loop = HandlerLoop(self._handler, self._next, self._settlement, self._is_work_cancelled)
            self._handler_tasks = [asyncio.create_task(loop.run()) for _ in range(self._concurrency)]
            for task in self._handler_tasks:
                task.add_done_callback(lambda _: self._inbox.changed.set())
        if self._until_empty:
            self._empty_task = asyncio.create_task(self._look_for_end())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the consumer, and settle the message at which a loop was left.

        That message is acknowledged, unless it is settled. If an error left the block, the message fails with it. If a
        cancellation did, the message returns to the queue.
        """
        if self._handler is None:
            for received in list(self._inbox.in_work):
                if error is None or isinstance(error, Exception):
                    self._settlement.settle(received, error)
                else:
                    self._inbox.in_work.discard(received)  # the server takes it back when the stream ends
        await self.close(0 if kind is asyncio.CancelledError else self._close_timeout)

    def stop(self) -> None:
        """Take no more messages, and end once the current work is done. Signal handlers may call it."""
        self._inbox.stop()

    async def wait(self) -> None:
        """Wait until the consumer has ended.

        Raises:
            QueueletError: The errors of `run`.
        """
        while not self._is_over:
            self._inbox.changed.clear()
            await self._inbox.changed.wait()
        self._raise_failure()

    async def close(self, timeout: Seconds | None = None) -> None:  # noqa: ASYNC109  # a limit for the work, not for this call
        """Stop, let the current work go on for some time, then cancel it, and report all outcomes to the server.

        Messages whose work is cancelled return to the queue.

        Args:
            timeout: How long work may go on, in seconds; None for unlimited.
        """
        seconds = timeout_of("timeout", timeout)
        if self._session_task is None:
            return
        self.stop()
        try:
            with suppress(TimeoutError, QueueletError):
                async with asyncio.timeout(seconds):
                    await self.wait()
        finally:
            # Cancel the work first, because the server redelivers its messages once the stream ends.
            self._is_cancelling = True
            self._inbox.cancel_timer()
            await _cancel(self._handler_tasks)
            self._session.end()
            with suppress(TimeoutError, QueueletError):
                async with asyncio.timeout(_LAST_OUTCOMES if self._session.is_connected else 0):
                    await asyncio.wait([self._session_task])
            await _cancel(task for task in (self._empty_task, self._session_task) if task is not None)
            # Cancelled work does not end by itself, and another task may wait for it.
            self._inbox.in_work.clear()
            self._inbox.changed.set()

    def __aiter__(self) -> AsyncIterator[Received[Item]]:
        """Iterate over the messages. Taking the next one acknowledges the previous one, unless it is settled.

        In `async with`, waiting for the next message may be cancelled, for example by a timeout, and repeated: no
        message is lost. The message at which you leave the loop is acknowledged when the block ends, unless an error
        ends it.

        Outside of `async with`, the loop opens the consumer, and closes it when you leave it. The message at which you
        leave it returns to the queue unless it is settled, because the loop cannot distinguish a `break` from an error.
        A cancellation ends the loop.

        Returns:
            An iterator over the messages.

        Raises:
            TypeError: The consumer has a handler.
        """
        if self._handler is not None:
            raise TypeError("the consumer has a handler, which gets the messages; iterate over a consumer without one")
        return self._messages() if self._session_task is not None else self._open_and_iterate()

    def _messages(self) -> Iteration[Item]:
        return Iteration(self._next_to_iterate, self._settlement)

    async def _open_and_iterate(self) -> AsyncIterator[Received[Item]]:
        """Iterate in a generator, because only a generator notices that its loop was left."""
        async with AsyncExitStack() as stack:
            # It may have been opened since `__aiter__` was called.
            if self._session_task is None:
                await stack.enter_async_context(self)
            async for each in self._messages():
                yield each

    @property
    def _is_over(self) -> bool:
        """Whether there is nothing left to do, or nothing more can be done."""
        if self._is_disconnected or self._failure is not None:
            return True
        if self._inbox.in_work:
            return False
        if self._inbox.is_stopping:
            return not self._session.unsettled or not self._session.is_connected
        return self._inbox.has_enough and not self._session.unsettled

    @property
    def _is_disconnected(self) -> bool:
        """Whether the lease session has ended for good."""
        return self._session_task is not None and (self._session_task.done() or self._session_task.cancelling() > 0)

    def _is_work_cancelled(self) -> bool:
        """Return whether work is cancelled because the consumer ends."""
        return self._is_cancelling or self._is_disconnected

    @property
    def _failure(self) -> BaseException | None:
        for task in (self._session_task, *self._handler_tasks, self._empty_task):
            if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _look_for_end(self) -> None:
        """Stop once the queue is empty. Leased messages count, because they may return."""
        while True:
            await asyncio.sleep(_LOOK)
            if not self._inbox.is_empty:
                continue
            with suppress(QueueletError):
                counts = (await self._client.get_queue(self._queue)).messages
                if not counts.ready and not counts.leased:
                    self.stop()
                    return

    # Messages

    async def _next(self) -> Received[Item] | None:
        """Wait for the next message to work on. Return None at the end."""
        inbox = self._inbox
        while not inbox.is_stopping and not inbox.has_enough:
            received = inbox.begin_next()
            if received is not None:
                return received
            if self._is_disconnected or self._failure is not None:
                break
            await inbox.wait_for_message()
        return None

    async def _next_to_iterate(self) -> Received[Item]:
        """Wait for the next message. Raise the consumer's failure, or `StopAsyncIteration` at the end."""
        received = await self._next()
        if received is None:
            self._raise_failure()
            raise StopAsyncIteration
        return received


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    if cancelled:
        await asyncio.wait(cancelled)
