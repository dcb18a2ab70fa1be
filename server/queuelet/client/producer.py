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
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from math import inf
from types import TracebackType
from typing import Generic, Self, Unpack, overload

from queuelet.client.client import Client
from queuelet.client.connection import decoded
from queuelet.client.encoding import encode_message, encode_payload, request_bytes
from queuelet.client.errors import Closed, NotSent
from queuelet.client.messages import new_message
from queuelet.client.options import MessageOptions, ProducerOptions
from queuelet.client.pending_put import Added, Outcome, Sent
from queuelet.client.put_failures import PutFailures
from queuelet.client.retries import FULL, UNAVAILABLE, Backoff
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.text import check_text
from queuelet.client.validation import Seconds, check_at_least, seconds_of, timeout_of
from queuelet.errors import (
    InvalidArgument,
    MessageTooLarge,
    QueueletError,
    QueueNotFound,
    TooManyAnswers,
    Unreachable,
)
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import errors_from_pb

_log = logging.getLogger("queuelet.client")

_PLACE = re.compile(r"messages\[(\d+)\]")
"""How the server names an invalid message of a batch."""

_GRACE = 5.0
"""How much longer than its messages may wait for space a call may take, in seconds, so that it gets a response."""

_LAST_RETRY = 1.0
"""How long the last try may take when a producer is closed, in seconds."""

_LONGEST_WAIT = 3_600.0
"""From this time on, in seconds, a wait for space needs no limit of its own, because the call's is shorter."""

_NEVER = float("inf")

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
            queue: The queue's name or id.
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
        self._client = client
        self._queue = queue
        self._serializer = serializer
        self._batch_messages = batch_messages
        self._batch_bytes = batch_bytes
        self._linger = seconds_of("linger", linger)
        self._buffer_messages = buffer_messages
        self._buffer_bytes = buffer_bytes
        self._wait_for_room = wait_for_room
        self._timeout = timeout_of("timeout", timeout)
        self._close_timeout = timeout_of("close_timeout", close_timeout)
        self._missing_for = seconds_of("missing_for", missing_for, most=inf)
        self._was_there = False
        """Whether the queue ever existed."""
        self._missing_since: float | None = None
        self._name = secrets.token_urlsafe(12)
        self._calls = 0
        self._settled_request = ""
        self._request: pb.AddBatchRequest | None = None
        """The request for the batch in flight, once there is one."""
        self._doubt: QueueletError | None = None
        """Why it is unknown whether the batch in flight was added; None while it certainly was not."""
        self._is_busy = False
        """Whether the caller of `put` sends the batch itself."""
        self._delivery_here = asyncio.Timeout(None)
        """The timeout that cancels that."""
        self._waiting: deque[Sent] = deque()
        self._count = self._bytes = 0
        self._in_line: deque[object] = deque()
        """The waiting calls of `send`, in FIFO order."""
        self._in_flight: list[Sent] = []
        self._added: list[Sent] = []
        """The messages of the last call, all added, if they are not settled yet."""
        self._added_response = pb.AddBatchResponse()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._is_hurried = False
        self._is_open = False
        self._why_closed = "the producer is not open; use it in `async with`"
        self._task: asyncio.Task[None] | None = None
        self._was_unavailable = False
        self._last_error: QueueletError | None = None
        self._failures = PutFailures()

    async def __aenter__(self) -> Self:
        """Open the producer."""
        if self._task is not None:
            raise Closed("the producer was opened before; make a new one")
        self._is_open = True
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
            self._failures.raise_unawaited()

    async def close(self) -> None:
        """Send the buffered messages, for at most `close_timeout` seconds, and accept no more. May be called again."""
        if self._task is None or not self._is_open:
            return
        self._is_open = False
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
            QueueFull: There was no space for the message in time.
            MessageTooLarge: The message is larger than the server allows.
            Unreachable: The server went away during the call, so the message may or may not be in the queue.
            Closed: The producer or its client is closed; the message is not in the queue.
            QueueletError: Any other error with which the server refused the message.
        """
        sent = await self.send(
            item, tags=tags, message_id=message_id, priority=priority, delay=delay, not_before=not_before, ttl=ttl,
            timeout=timeout,
        )  # fmt: skip
        sent.is_asked_after = True
        try:
            if not self._is_busy and not self._in_flight and len(self._waiting) == 1:
                await self._deliver_here()
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
        timeout: Seconds | None = None,  # noqa: ASYNC109  # as `put`
        **options: Unpack[MessageOptions],
    ) -> Sent:
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
        if not self._is_open:
            raise Closed(self._why_closed)
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
        deadline = _NEVER if seconds is None else loop.time() + seconds
        sent = Sent(message, deadline, self._hurry)
        if self._in_line or self._is_full(sent.size):
            await self._until_room(sent.size, deadline)
        if timeout is not None:
            # Other deadlines are checked when their batch is built, which is soon enough for the producer's timeout.
            loop.call_at(deadline, self._expire, sent)
        self._waiting.append(sent)
        self._count += 1
        self._bytes += sent.size
        if len(self._waiting) in {1, self._batch_messages}:
            self._changed.set()
        return sent

    async def flush(self, timeout: Seconds | None = None) -> bool:  # noqa: ASYNC109  # it returns False instead of raising
        """Wait until all puts so far have an outcome.

        Args:
            timeout: How long to wait, in seconds; None for unlimited.

        Returns:
            Whether all have one.
        """
        seconds = timeout_of("timeout", timeout)
        self._settle_added()
        self._hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for put in (*self._in_flight, *self._waiting):
                    while not put.done():
                        self._settled.clear()
                        await self._settled.wait()
                return True
        return False

    @property
    def unsettled(self) -> int:
        """The number of puts that have no outcome yet."""
        return self._count

    # Buffer

    def _hurry(self) -> None:
        """Send what is buffered without waiting for more messages."""
        self._is_hurried = True
        self._changed.set()

    def _is_full(self, size: int) -> bool:
        count = self._count
        return count >= self._buffer_messages or (count > 0 and self._bytes + size > self._buffer_bytes)

    async def _until_room(self, size: int, deadline: float) -> None:
        """Wait for space in the buffer, in FIFO order, so that one busy task does not starve others."""
        self._hurry()
        place = object()
        self._in_line.append(place)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if deadline == _NEVER else deadline):
                    while self._is_open and (self._in_line[0] is not place or self._is_full(size)):
                        self._settled.clear()
                        await self._settled.wait()
        finally:
            self._in_line.remove(place)
            self._settled.set()
        if not self._is_open:
            raise Closed(self._why_closed)
        if self._is_full(size):
            raise self._why_late()

    def _expire(self, put: Sent) -> None:
        """Fail a message that has timed out, unless it is in flight, because then the response decides."""
        if not put.done() and put in self._waiting:
            self._waiting.remove(put)
            self._settle(put, self._why_late())

    def _why_late(self) -> QueueletError:
        """Return why a message that is not in the queue has timed out."""
        if self._last_error is not None and not isinstance(self._last_error, (*UNAVAILABLE, NotSent)):
            return self._last_error
        reason = f" ({self._last_error.message})" if self._last_error else ""
        return NotSent(f"the message could not be sent in time and is not in queue {self._queue}{reason}")

    def _settle(self, put: Sent, outcome: Outcome) -> None:
        """Set the outcome of a message, unless it has one."""
        if put.outcome is not None:
            return
        put.settle(outcome)
        self._count -= 1
        self._bytes -= put.size
        self._settled.set()
        if isinstance(outcome, QueueletError) and not put.is_withdrawn:
            self._failures.note(put, outcome)

    async def _retry_last(self) -> None:
        """Repeat the call in flight once more without waiting for space, to learn its outcome."""
        if self._task is None or self._request is None or not self._request.request_id:
            return
        now = self._loop.time()
        for put in (*self._in_flight, *self._waiting):
            put.deadline = now
        if self._is_busy:
            self._delivery_here.reschedule(now)
        else:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = asyncio.create_task(self._guard(self._run))
        await self.flush(_LAST_RETRY)

    def _end(self, why: QueueletError) -> None:
        """Accept no more messages, and set an outcome for all that are here."""
        self._is_open, self._why_closed = False, why.message
        self._settle_added()
        for put in self._in_flight:
            self._settle(put, self._doubt or why)
        for put in self._waiting:
            self._settle(put, why)
        self._in_flight = []
        self._waiting.clear()
        self._settled.set()
        if self._is_busy:
            self._delivery_here.reschedule(self._loop.time())
        if self._task is not None:
            self._task.cancel()

    # Batches

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine. An unexpected error becomes the outcome of all messages, so that nothing waits forever."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # the outcome of each message
            self._doubt = _unexpected(error)
            self._end(self._doubt)

    async def _run(self) -> None:
        """Send batch after batch. Only `close` ends this regularly; anything else leaves messages behind."""
        try:
            await self._send_batches()
        except asyncio.CancelledError:
            if self._is_open and self._count:
                _log.warning(
                    "a producer of queue %s was not closed; %d of its messages were not sent, or their outcome is not "
                    "known; use it in `async with`",
                    self._queue,
                    self._count,
                )
            raise

    async def _send_batches(self) -> None:
        last = 0.0
        while True:
            while self._is_busy or not (self._waiting or self._in_flight):
                self._is_hurried = self._is_hurried and bool(self._waiting)
                self._changed.clear()
                await self._changed.wait()
            if not self._in_flight:
                await self._gather_until(last + self._linger)
                if self._is_busy:
                    continue
                last = self._loop.time()
                self._in_flight = self._next_batch(last)
            await self._deliver()

    async def _deliver_here(self) -> None:
        """Send the only message in the task of its caller, which saves up to two turns of the event loop.

        If the caller is cancelled, the message stays in flight, and `_run` takes over.
        """
        self._is_busy = True
        try:
            self._in_flight = self._next_batch(self._loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._delivery_here:
                    await self._guard(self._deliver)
        finally:
            self._is_busy = False
            if self._waiting or self._in_flight:
                self._changed.set()

    async def _gather_until(self, end: float) -> None:
        """Give other messages time to join, unless a caller awaits one or the batch is full."""
        if self._is_gathered or end <= self._loop.time():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while not self._is_gathered:
                    self._changed.clear()
                    await self._changed.wait()

    @property
    def _is_gathered(self) -> bool:
        return self._is_hurried or len(self._waiting) >= self._batch_messages

    def _next_batch(self, now: float) -> list[Sent]:
        batch: list[Sent] = []
        size = 0
        while self._waiting and len(batch) < self._batch_messages:
            put = self._waiting[0]
            if batch and size + put.size > self._batch_bytes:
                break
            self._waiting.popleft()
            if put.deadline <= now or put.is_withdrawn:
                self._settle(put, self._why_late())
                continue
            batch.append(put)
            size += put.size
        return batch

    async def _deliver(self) -> None:
        """Send a batch, with retries, until each of its messages has an outcome."""
        backoff = Backoff()
        while self._in_flight:
            request = self._request = self._request or self._new_request()
            try:
                response = await self._call(request)
            except TooManyAnswers:
                # Many producers put at the same time, so the queue can remember no more request IDs. Put without one.
                request.request_id = ""
                continue
            except Closed:
                self._end(Closed(_CLIENT_CLOSED))
            except QueueletError as error:
                if not self._may_pass(error):
                    self._take_refusal(error)
                    self._request = None
                    continue
                self._last_error = error
            else:
                self._was_unavailable, self._last_error = False, None
                self._was_there, self._missing_since = True, None
                self._settled_request, self._request = request.request_id, None
                self._take_results(response)
            if self._in_flight:
                await asyncio.sleep(min(backoff.next_delay(), self._time_left))
                self._give_up_late()
        self._request = self._doubt = None

    async def _call(self, request: pb.AddBatchRequest) -> pb.AddBatchResponse:
        """Call the server for the batch in flight, and keep track of whether its messages may have been added."""
        time_left = self._time_left
        if time_left < _LONGEST_WAIT:
            request.wait_at_most.FromNanoseconds(int(time_left * 1e9))
        data = request_bytes(request, [put.message for put in self._in_flight])
        before = self._doubt
        self._doubt = before or Unreachable("the message was sent, but its outcome is not known")
        try:
            # Longer than the server waits for space, so that there is a response.
            response = await self._client.call_once("AddBatch", data, at_most=time_left + _GRACE)
        except (NotSent, Closed):
            self._doubt = before
            raise
        except UNAVAILABLE as error:
            self._doubt = error
            raise
        except QueueletError:
            self._doubt = None
            raise
        self._doubt = None
        return decoded("AddBatch", pb.AddBatchResponse, response)

    def _new_request(self) -> pb.AddBatchRequest:
        """Return the request for the batch in flight. Retries do not change it, because its ID stands for the batch."""
        self._calls += 1
        return pb.AddBatchRequest(
            queue_id=self._queue,
            wait=self._wait_for_room,
            request_id=f"{self._name}/{self._calls}",
            settled_request_id=self._settled_request,
        )

    @property
    def _time_left(self) -> float:
        """The time until the first message of the batch times out, in seconds."""
        now = self._loop.time()
        return max(0.0, min((put.deadline for put in self._in_flight if not put.done()), default=now) - now)

    def _take_results(self, response: pb.AddBatchResponse) -> None:
        """Settle the messages that were added or refused. Those that did not fit stay in the batch, in order.

        If all were added and more messages wait, the next call is sent first, so that the server works while these are
        settled.
        """
        if len(response.results) != len(self._in_flight):
            counts = f"{len(response.results)} results for {len(self._in_flight)} messages"
            raise Unreachable(f"the server returned {counts}")
        self._settle_added()
        if not any(result.HasField("error") for result in response.results):
            self._added, self._added_response, self._in_flight = self._in_flight, response, []
            if self._waiting:
                # The next call begins in the next turn of the loop, and these are settled in the one after it.
                self._loop.call_soon(self._loop.call_soon, self._settle_added)
            else:
                self._settle_added()
            return
        rest: list[Sent] = []
        errors = errors_from_pb(response.results)
        for put, result, error in zip(self._in_flight, response.results, errors, strict=True):
            if isinstance(error, FULL) and self._wait_for_room and not put.done():
                self._last_error = error
                rest.append(put)
            else:
                self._settle(put, error or Added(result.id, result.duplicate, _is_durable(response)))
        self._in_flight = rest

    def _settle_added(self) -> None:
        """Settle the messages that were added by the last call, if that is still to be done."""
        added, self._added = self._added, []
        is_durable = _is_durable(self._added_response)
        for put, result in zip(added, self._added_response.results, strict=bool(added)):
            self._settle(put, Added(result.id, result.duplicate, is_durable))

    def _may_pass(self, error: QueueletError) -> bool:
        """Return whether a retry of the same call may succeed."""
        if isinstance(error, QueueNotFound):
            return self._is_awaited()
        is_unavailable = isinstance(error, (*UNAVAILABLE, NotSent))
        self._was_unavailable = self._was_unavailable or is_unavailable
        if is_unavailable and not self._client.connection.retry_for:
            return False
        return is_unavailable or (isinstance(error, FULL) and self._wait_for_room)

    def _is_awaited(self) -> bool:
        """Return whether a missing queue may still appear, because it existed or the server was unavailable."""
        if self._missing_since is None:
            self._missing_since = self._loop.time()
        if self._was_unavailable and self._client.connection.retry_for:
            return True
        return self._was_there and self._loop.time() - self._missing_since < self._missing_for

    def _take_refusal(self, error: QueueletError) -> None:
        """Fail the messages that an error is about: the one that it names by its place in the batch, or all of them.

        If the server only accepts smaller batches, the following batches are smaller.
        """
        named = _PLACE.match(str(error.facts.get("field", ""))) if isinstance(error, InvalidArgument) else None
        if named:
            self._settle(self._in_flight.pop(int(named[1])), _without_place(error))
        elif isinstance(error, InvalidArgument) and len(self._in_flight) > 1:
            self._send_in_parts(error)
        else:
            for put in self._in_flight:
                self._settle(put, error)
            self._in_flight = []

    def _send_in_parts(self, error: InvalidArgument) -> None:
        """Split a batch that was too large, and make the following batches smaller."""
        if isinstance(error, MessageTooLarge):
            self._batch_bytes = sum(put.size for put in self._in_flight) // 2
        else:
            self._batch_messages = len(self._in_flight) // 2
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight = self._next_batch(self._loop.time())

    def _give_up_late(self) -> None:
        """Fail messages that have timed out.

        They stay in a batch that may have arrived, because its retries have to be the same.
        """
        now = self._loop.time()
        for put in self._in_flight:
            if put.deadline <= now:
                self._settle(put, self._doubt or self._why_late())
        left = [put for put in self._in_flight if not put.done()]
        if not left or not self._doubt:
            self._in_flight = left


def _is_durable(response: pb.AddBatchResponse) -> bool:
    return response.durability == pb.DURABILITY_DISK


def _without_place(error: QueueletError) -> QueueletError:
    """Return an error without the place in the batch, which means nothing to the caller of a put."""
    field = _without_index(str(error.facts["field"]))
    return type(error)(_without_index(error.message), **{**error.facts, "field": field})


def _without_index(text: str) -> str:
    return _PLACE.sub("message", text).removeprefix("message.")


def _unexpected(error: Exception) -> QueueletError:
    failure = QueueletError(f"the producer ended with an unexpected error: {error!r}")
    failure.__cause__ = error
    return failure
