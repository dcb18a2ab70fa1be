"""The producer: sends messages in batches, in order, and reports the outcome of each.

    async with Producer(client, "orders") as producer:
        await producer.put(b"an order")          # the server has committed it when this returns
        sent = await producer.send(b"another")   # it is in flight, and more can follow
        print((await sent).id)

One batch is in flight at a time. Messages that are put meanwhile form the next one. So messages arrive in the order in
which they were put, even across outages, and batches grow with the load. A single message is sent at once if its caller
awaits the outcome, otherwise after `linger`.

If the server goes away during a call, then the same batch is sent again with the same request ID once the server is
back. So nothing is added twice, unless the outage is longer than the minute for which the server remembers request IDs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from math import inf
from types import TracebackType
from typing import Generic, Self, Unpack, overload

from queuelet.client.batch_call import BatchCall
from queuelet.client.client import Client
from queuelet.client.encoding import encode_message, encode_payload
from queuelet.client.errors import Closed
from queuelet.client.messages import new_message
from queuelet.client.options import MessageOptions, ProducerOptions
from queuelet.client.pending_put import Added, PendingPut
from queuelet.client.send_buffer import NEVER, SendBuffer
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.text import check_text
from queuelet.client.validation import Seconds, check_at_least, seconds_of, timeout_of
from queuelet.errors import QueueletError
from queuelet.tags import Tag

_log = logging.getLogger("queuelet.client")

_LAST_RETRY = 1.0
"""How long the last try may take when a producer is closed, in seconds."""

_CLIENT_CLOSED = "the client was closed or not opened before the message was sent; it is not in the queue"


class Producer(Generic[Item]):
    """Puts messages into one queue. Use it in `async with`: leaving it sends the messages that are buffered."""

    @overload
    def __init__(self: Producer[bytes], client: Client, queue: str, **options: Unpack[ProducerOptions]) -> None: ...

    @overload
    def __init__(
        self, client: Client, queue: str, serializer: Serializer[Item], **options: Unpack[ProducerOptions]
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # independent settings, all but three keyword-only
        self,
        client: Client,
        queue: str,
        serializer: Serializer[Item] = BYTES,  # type: ignore[assignment]  # the overloads say when
        *,
        batch_messages: int = 1_000,
        batch_bytes: int = 1024 * 1024,
        linger: Seconds = 0.002,
        buffer_messages: int = 10_000,
        buffer_bytes: int = 64 * 1024 * 1024,
        wait_for_room: bool = True,
        timeout: Seconds | None = 60.0,
        close_timeout: Seconds | None = 5.0,
        missing_for: Seconds = 30.0,
    ) -> None:
        """Set up a producer. Nothing is sent until it is opened.

        Args:
            client: An open client.
            queue: The queue's name or ID.
            serializer: Converts items to bytes.
            batch_messages: The largest number of messages in one call.
            batch_bytes: About the largest number of bytes in one call; a larger message is sent alone.
            linger: How long to hold back a message that nothing awaits, so that others join its batch, in seconds.
            buffer_messages: The number of unsettled messages from which `send` blocks.
            buffer_bytes: The number of unsettled bytes from which `send` blocks.
            wait_for_room: Whether to wait while the queue or the server is full. Otherwise that is an error at once.
            timeout: How long a put may take, in seconds, unless it has its own timeout; None for unlimited.
            close_timeout: How long leaving `async with` may wait for unsettled messages, in seconds; None for
                unlimited.
            missing_for: How long an existing queue may be missing before puts raise `QueueNotFound`, in seconds, if
                they do not time out before. It may be deleted to be declared again. A queue that never existed is an
                error at once.

        Raises:
            ValueError: A number is out of range.
            TypeError: A setting has the wrong type.
        """
        check_at_least(1, batch_messages=batch_messages, batch_bytes=batch_bytes)
        check_at_least(1, buffer_messages=buffer_messages, buffer_bytes=buffer_bytes)
        check_text("queue", queue)
        self._queue = queue
        self._serializer = serializer
        self._linger = seconds_of("linger", linger)
        self._timeout = timeout_of("timeout", timeout)
        self._close_timeout = timeout_of("close_timeout", close_timeout)
        self._buffer = SendBuffer(
            queue,
            batch_messages=batch_messages,
            batch_bytes=batch_bytes,
            buffer_messages=buffer_messages,
            buffer_bytes=buffer_bytes,
        )
        missing_for = seconds_of("missing_for", missing_for, most=inf)
        self._batch = BatchCall(client, queue, self._buffer, wait_for_room=wait_for_room, missing_for=missing_for)
        self._task: asyncio.Task[None] | None = None
        self._is_sent_by_caller = False
        """Whether a caller of `put` sends the batch in its own task."""
        self._caller_timeout = asyncio.Timeout(None)
        """The timeout that cancels that."""

    async def __aenter__(self) -> Self:
        """Open the producer."""
        if self._task is not None:
            raise Closed("the producer was opened before; make a new one")
        self._buffer.is_open = True
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._guard(self._run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the buffered messages, for at most `close_timeout` seconds, and accept no more.

        Raises:
            PutsFailed: Messages were not added, and the program never awaited their outcome. Not raised if another
                error leaves the block.
        """
        await self.close()
        if kind is None:
            self._buffer.failures.raise_unawaited()

    async def close(self) -> None:
        """Send the buffered messages, for at most `close_timeout` seconds, and accept no more. May be called again."""
        if self._task is None or not self._buffer.is_open:
            return
        self._buffer.is_open = False
        try:
            if not await self.flush(self._close_timeout):
                await self._retry_last()
        finally:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._end(Closed("the producer was closed before the message was sent; it is not in the queue"))

    # Putting

    async def put(  # noqa: PLR0913  # independent arguments, all but one keyword-only
        self,
        item: Item,
        *,
        tags: Iterable[Tag] = (),
        message_id: str = "",
        priority: int = 0,
        delay: Seconds = 0,
        not_before: datetime | None = None,
        ttl: Seconds = 0,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # it decides the outcome of the message, not only the wait
    ) -> Added:
        """Put an item into the queue, and return once the server has committed it.

        Args:
            item: The item to put.
            tags: Tags of the message, as pairs of key and value.
            message_id: A UUID for the message; it is not added again while a message of this ID is queued.
            priority: Smaller values are delivered first; -2^31 to 2^31 - 1.
            delay: How long the message is not delivered, in seconds.
            not_before: The time before which the message is not delivered; a time without a zone is local time.
            ttl: After how many seconds the message is dead-lettered if it is still queued; 0 for the queue's setting.
            timeout: How long to try, in seconds; None for the producer's setting.

        Returns:
            What was added: the ID, whether it is a duplicate, and whether it is durable.

        Raises:
            NotSent: The message could not be sent in time, and is not in the queue.
            QueueFull: There was no room for the message in time.
            MessageTooLarge: The message is larger than the server allows.
            Unreachable: The server went away during the call, so the message may or may not be in the queue.
            Closed: The producer or its client is closed; the message is not in the queue.
            QueueletError: Any other error with which the server refused the message.
        """
        sent = await self.send(
            item, tags=tags, message_id=message_id, priority=priority, delay=delay, not_before=not_before, ttl=ttl,
            timeout=timeout,
        )  # fmt: skip
        sent.was_awaited = True
        try:
            if not self._is_sent_by_caller and not self._batch.in_flight and len(self._buffer.buffered) == 1:
                await self._send_here()
            return await sent
        except asyncio.CancelledError:
            sent.is_withdrawn = True
            raise

    async def put_many(self, items: Iterable[Item]) -> list[Added]:
        """Put items in their order, and return once the server has committed all of them.

        Args:
            items: The items to put.

        Returns:
            What was added, for each item.

        Raises:
            QueueletError: The error of the first item that failed; see `put`.
        """
        sent = [await self.send(item) for item in items]
        return [await each for each in sent]

    async def send(
        self,
        item: Item,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # it decides the outcome of the message, not only the wait
        **options: Unpack[MessageOptions],
    ) -> PendingPut:
        """Put an item into the queue, and return before it is sent. Blocks while too many messages are unsettled.

        Await the returned put for its outcome, or leave it: closing the producer raises errors that were never awaited.

        Args:
            item: The item to put.
            timeout: How long to try, in seconds; None for the producer's setting.
            **options: Settings of the message, as for `put`.

        Returns:
            The put in flight, to be awaited for its outcome.

        Raises:
            Closed: The producer or its client is closed.
            NotSent: The message could not be buffered in time.
            InvalidArgument: An argument is not valid.
            TypeError: The serializer did not return bytes.
        """
        buffer = self._buffer
        if not buffer.is_open:
            raise Closed(buffer.why_closed)
        seconds = timeout_of("timeout", timeout)
        payload = self._serializer.dump(item)
        if not isinstance(payload, bytes):
            raise TypeError(
                f"item: the serializer returned {type(payload).__name__} for {type(item).__name__} instead of bytes; "
                "give the producer TEXT, JSON or your own serializer as its third argument"
            )
        # Building a generated message is expensive, and most messages only have a payload.
        has_more = any(options.values())
        message = encode_message(new_message(payload=payload, **options)) if has_more else encode_payload(payload)
        loop = self._loop
        seconds = self._timeout if seconds is None else seconds
        deadline = NEVER if seconds is None else loop.time() + seconds
        sent = PendingPut(message, deadline, buffer.hurry)
        if buffer.callers or buffer.is_full(sent.size):
            await buffer.wait_for_room(sent.size, deadline)
        if timeout is not None:
            # Other deadlines are checked when their batch is built, which is soon enough for the producer's timeout.
            loop.call_at(deadline, buffer.expire, sent)
        buffer.append(sent)
        return sent

    async def flush(self, timeout: Seconds | None = None) -> bool:  # noqa: ASYNC109  # it returns False instead of raising
        """Wait until all puts so far have an outcome.

        Args:
            timeout: How long to wait, in seconds; None for unlimited.

        Returns:
            Whether all have one.
        """
        seconds = timeout_of("timeout", timeout)
        self._batch.settle_added()
        self._buffer.hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._buffer.wait_until_settled((*self._batch.in_flight, *self._buffer.buffered))
                return True
        return False

    @property
    def unsettled(self) -> int:
        """The number of puts that have no outcome yet."""
        return self._buffer.unsettled

    # Sending

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine. If it fails, its error is the outcome of all messages, so that nothing waits forever."""
        try:
            await work()
        except Closed:
            self._end(Closed(_CLIENT_CLOSED))
        except Exception as error:  # noqa: BLE001  # the outcome of each message
            self._batch.doubt = _unexpected(error)
            self._end(self._batch.doubt)

    async def _run(self) -> None:
        """Send batch after batch. Only `close` ends this regularly; anything else leaves messages behind."""
        try:
            await self._send_batches()
        except asyncio.CancelledError:
            if self._buffer.is_open and self.unsettled:
                _log.warning(
                    "a producer of queue %s was not closed; %d of its messages were not sent, or their outcome is not "
                    "known; use it in `async with`",
                    self._queue,
                    self.unsettled,
                )
            raise

    async def _send_batches(self) -> None:
        buffer, batch = self._buffer, self._batch
        last = 0.0
        while True:
            while self._is_sent_by_caller or not (buffer.buffered or batch.in_flight):
                await buffer.wait_for_change()
            if not batch.in_flight:
                await buffer.gather_until(last + self._linger)
                if self._is_sent_by_caller:
                    continue
                last = self._loop.time()
                batch.in_flight = buffer.next_batch(last)
            await batch.deliver()

    async def _send_here(self) -> None:
        """Send the only message in the task of its caller, which saves up to two turns of the event loop.

        If the caller is cancelled, the message stays in flight, and `_run` takes over.
        """
        buffer, batch = self._buffer, self._batch
        self._is_sent_by_caller = True
        try:
            batch.in_flight = buffer.next_batch(self._loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._caller_timeout:
                    await self._guard(batch.deliver)
        finally:
            self._is_sent_by_caller = False
            if buffer.buffered or batch.in_flight:
                buffer.wake()

    # Closing

    async def _retry_last(self) -> None:
        """Repeat the call in flight once more without waiting for room, to learn its outcome."""
        if self._task is None or not self._batch.is_idempotent:
            return
        now = self._loop.time()
        for put in (*self._batch.in_flight, *self._buffer.buffered):
            put.deadline = now
        if self._is_sent_by_caller:
            self._caller_timeout.reschedule(now)
        else:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = asyncio.create_task(self._guard(self._run))
        await self.flush(_LAST_RETRY)

    def _end(self, why: QueueletError) -> None:
        """Accept no more messages, and set an outcome for all that are here."""
        self._buffer.is_open, self._buffer.why_closed = False, why.message
        self._batch.fail_all(why)
        self._buffer.fail_all(why)
        if self._is_sent_by_caller:
            self._caller_timeout.reschedule(self._loop.time())
        if self._task is not None:
            self._task.cancel()


def _unexpected(error: Exception) -> QueueletError:
    failure = QueueletError(f"the producer ended with an unexpected error: {error!r}")
    failure.__cause__ = error
    return failure
