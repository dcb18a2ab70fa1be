"""The producer: messages go out in batches that make themselves, in order, and each has an outcome.

    async with Producer(client, "orders") as producer:
        await producer.put(b"an order")          # it is kept when this returns
        sent = await producer.send(b"another")   # it is on its way, and more can follow
        print((await sent).id)

One batch is under way at a time. What is put meanwhile gathers, and is the next one: so messages arrive in the order in
which they were put, whatever breaks in between, and batches grow with the load. A message alone is sent at once where
somebody waits for it, and after `linger` where nobody does.

When a server goes away with a batch, the same batch is sent again when it is back, under the same request id: what had
arrived is not added a second time, if that takes less than the minute for which a server remembers.
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
from queuelet.client.encoding import encoded, plain, request_bytes
from queuelet.client.errors import Closed, NotSent
from queuelet.client.messages import new_message
from queuelet.client.options import MessageOptions, ProducerOptions
from queuelet.client.pending_put import Added, Outcome, Sent
from queuelet.client.put_failures import PutFailures
from queuelet.client.retries import AWAY, CROWDED, Backoff
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.text import check_text
from queuelet.client.validation import Seconds, check_at_least, patience_of, seconds_of
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
"""How the server names the message of a batch that breaks a rule."""

_GRACE = 5.0
"""How long an answer may take when the time for it is over, in seconds."""

_LAST_WORD = 1.0
"""How long the server may take to say what became of messages when a producer is closed, in seconds."""

_LONGEST_WAIT = 3_600.0
"""A wait for room that needs no bound, in seconds: the call's own is shorter."""

_NEVER = float("inf")

_CLIENT_CLOSED = (
    "the client was closed under the producer, or was not opened, before the message was sent: it is not in the queue"
)


class Producer(Generic[Item]):
    """Puts messages into one queue. Use it in `async with`: leaving that sends what is still here."""

    @overload
    def __init__(self: Producer[bytes], client: Client, queue: str, **options: Unpack[ProducerOptions]) -> None: ...

    @overload
    def __init__(
        self, client: Client, queue: str, serializer: Serializer[Item], **options: Unpack[ProducerOptions]
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # each is a choice of its own, and all but three are named
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
        """Take where the messages go.

        Args:
            client: an open client.
            queue: the queue's name or id.
            serializer: what makes bytes of what is put.
            batch_messages: the most messages in one call.
            batch_bytes: about the most bytes in one call; a message that is larger goes alone.
            linger: how long a message that nobody waits for may be kept so that others can join it, in seconds.
            buffer_messages: how many messages may be on their way; past that `send` waits.
            buffer_bytes: how many bytes may be.
            wait_for_room: whether to wait while the queue or the server is full. Otherwise that is an error at once.
            timeout: how long a message may take to be added, in seconds, unless a put says otherwise; None for ever.
            close_timeout: how long leaving `async with` may wait for messages on their way, in seconds; None for ever.
            missing_for: how long a queue that was there may be missing until puts raise `QueueNotFound`, in seconds, if
                their `timeout` is not over before: it may be deleted to be declared again. A queue that was never there
                is an error at once.
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
        self._timeout = patience_of("timeout", timeout)
        self._close_timeout = patience_of("close_timeout", close_timeout)
        self._missing_for = seconds_of("missing_for", missing_for, most=inf)
        self._was_there = False
        """Whether the queue was ever there."""
        self._missing_since: float | None = None
        self._name = secrets.token_urlsafe(12)
        self._calls = 0
        self._settled_request = ""
        self._request: pb.AddBatchRequest | None = None
        """The call for the messages under way, once it was made."""
        self._doubt: QueueletError | None = None
        """Why nobody knows whether the messages under way were added; None while it is known that they were not."""
        self._is_busy = False
        """Whether whoever puts sends it, too."""
        self._delivery_here = asyncio.Timeout(None)
        """What cuts that off."""
        self._waiting: deque[Sent] = deque()
        self._count = self._bytes = 0
        """How many messages are on their way, and how many bytes they are."""
        self._in_line: deque[object] = deque()
        """Who waits for room here, first come first served."""
        self._under_way: list[Sent] = []
        self._added: list[Sent] = []
        """Those of the last call, all added, and not told so yet."""
        self._added_answer = pb.AddBatchResponse()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._is_hurried = False
        self._is_open = False
        self._why_closed = "the producer is closed, or was not opened: use it in `async with`"
        self._task: asyncio.Task[None] | None = None
        self._was_away = False
        self._trouble: QueueletError | None = None
        self._failures = PutFailures()

    async def __aenter__(self) -> Self:
        """Begin: messages may be put."""
        if self._task is not None:
            raise Closed("the producer was opened before: make a new one")
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._guard(self._run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is still here, for `close_timeout` seconds at most, and take no more.

        Raises:
            PutsFailed: messages could not be put, and nobody waited for them. Not where another error ends it.
        """
        await self.close()
        if kind is None:
            self._failures.tell()

    async def close(self) -> None:
        """Send what is still here, for `close_timeout` seconds at most, and take no more. Twice is once."""
        if self._task is None or not self._is_open:
            return
        self._is_open = False
        try:
            if not await self.flush(self._close_timeout):
                await self._ask_once_more()
        finally:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._end(Closed("the producer was closed before the message was sent: it is not in the queue"))

    # Putting

    async def put(  # noqa: PLR0913  # each is a fact of its own, and all but one are named
        self,
        item: Item,
        *,
        tags: Iterable[Tag] = (),
        message_id: str = "",
        priority: int = 0,
        delay: Seconds = 0,
        not_before: datetime | None = None,
        ttl: Seconds = 0,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # what becomes of the message hangs on it, not the wait alone
    ) -> Added:
        """Put an item into the queue, and return when it is kept there.

        Args:
            item: what to put.
            tags: the message's tags.
            message_id: a UUID of yours; adding one that is still queued adds nothing.
            priority: smaller comes first.
            delay: how long it is not delivered, in seconds.
            not_before: or until when it is not.
            ttl: how long it may wait for its end before it is dead, in seconds; 0 for what the queue says.
            timeout: how long to try, in seconds; None for what the producer was told.

        Raises:
            NotSent: it could not be sent in time, and is not in the queue.
            QueueFull: there was no room for it in time.
            MessageTooLarge: it is larger than the server takes.
            Unreachable: the server went away with it, so it may be in the queue or not.
            Closed: the producer was closed, or its client; it is not in the queue.
            and whatever else the server refuses it with.
        """
        sent = await self.send(
            item, tags=tags, message_id=message_id, priority=priority, delay=delay, not_before=not_before, ttl=ttl,
            timeout=timeout,
        )  # fmt: skip
        sent.is_asked_after = True
        try:
            if not self._is_busy and not self._under_way and len(self._waiting) == 1:
                await self._deliver_here()
            return await sent
        except asyncio.CancelledError:
            sent.is_withdrawn = True
            raise

    async def put_many(self, items: Iterable[Item]) -> list[Added]:
        """Put items in their order, and return when all are kept. Raises what kept the first of them from that."""
        sent = [await self.send(item) for item in items]
        return [await each for each in sent]

    async def send(
        self,
        item: Item,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # as `put`
        **options: Unpack[MessageOptions],
    ) -> Sent:
        """Take an item to be put, and return before it is: at once, unless too much is on its way already.

        Await what is returned for the outcome, or leave it: what fails and is asked after by nobody is raised when the
        producer is closed. Arguments and errors are those of `put`.
        """
        if not self._is_open:
            raise Closed(self._why_closed)
        own_patience = patience_of("timeout", timeout)
        payload = self._serializer.dump(item)
        if not isinstance(payload, bytes):
            raise TypeError(
                f"a payload is bytes, and the serializer made {type(payload).__name__} of {type(item).__name__}: "
                "give the producer TEXT, JSON or a serializer of yours, as its third argument"
            )
        # To make a generated message costs a lot, and most messages are a payload alone.
        has_more = any(options.values())
        message = encoded(new_message(payload=payload, **options)) if has_more else plain(payload)
        loop = self._loop
        patience = self._timeout if own_patience is None else own_patience
        deadline = _NEVER if patience is None else loop.time() + patience
        sent = Sent(message, deadline, self._hurry)
        if self._in_line or self._is_crowded(sent.size):
            await self._until_room(sent.size, deadline)
        if timeout is not None:
            # Others are looked at when it is their turn, which is soon enough for the usual patience.
            loop.call_at(deadline, self._expire, sent)
        self._waiting.append(sent)
        self._count += 1
        self._bytes += sent.size
        if len(self._waiting) in {1, self._batch_messages}:
            self._changed.set()
        return sent

    async def flush(self, timeout: Seconds | None = None) -> bool:  # noqa: ASYNC109  # its end is an answer, no error
        """Wait until all that was put so far has an outcome; return whether it has, within so many seconds."""
        patience = patience_of("timeout", timeout)
        self._tell_added()
        self._hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for put in (*self._under_way, *self._waiting):
                    while not put.done():
                        self._settled.clear()
                        await self._settled.wait()
                return True
        return False

    @property
    def unsettled(self) -> int:
        """How many messages are on their way."""
        return self._count

    # Inside, here

    def _hurry(self) -> None:
        """Send what is here without waiting for more."""
        self._is_hurried = True
        self._changed.set()

    def _is_crowded(self, size: int) -> bool:
        count = self._count
        return count >= self._buffer_messages or (count > 0 and self._bytes + size > self._buffer_bytes)

    async def _until_room(self, size: int, deadline: float) -> None:
        """Wait until fewer messages are on their way: in line, so that a busy task leaves room to others."""
        self._hurry()
        place = object()
        self._in_line.append(place)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if deadline == _NEVER else deadline):
                    while self._is_open and (self._in_line[0] is not place or self._is_crowded(size)):
                        self._settled.clear()
                        await self._settled.wait()
        finally:
            self._in_line.remove(place)
            self._settled.set()
        if not self._is_open:
            raise Closed(self._why_closed)
        if self._is_crowded(size):
            raise self._why_late()

    def _expire(self, put: Sent) -> None:
        """Fail a message whose time is over, unless it is on its way: then the answer tells what became of it."""
        if not put.done() and put in self._waiting:
            self._waiting.remove(put)
            self._settle(put, self._why_late())

    def _why_late(self) -> QueueletError:
        """Return what kept a message from being added that is not in the queue."""
        if self._trouble is not None and not isinstance(self._trouble, (*AWAY, NotSent)):
            return self._trouble
        reason = f" ({self._trouble.message})" if self._trouble else ""
        return NotSent(f"the message could not be sent in time, and is not in queue {self._queue}{reason}")

    def _settle(self, put: Sent, outcome: Outcome) -> None:
        """Give a message its outcome, unless it has one."""
        if put.outcome is not None:
            return
        put.settle(outcome)
        self._count -= 1
        self._bytes -= put.size
        self._settled.set()
        if isinstance(outcome, QueueletError) and not put.is_withdrawn:
            self._failures.note(put, outcome)

    async def _ask_once_more(self) -> None:
        """Hear what becomes of the messages under way: their call is repeated, and waits no more for room."""
        if self._task is None or self._request is None or not self._request.request_id:
            return
        now = self._loop.time()
        for put in (*self._under_way, *self._waiting):
            put.deadline = now
        if self._is_busy:
            self._delivery_here.reschedule(now)
        else:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = asyncio.create_task(self._guard(self._run))
        await self.flush(_LAST_WORD)

    def _end(self, why: QueueletError) -> None:
        """Take no more, and give an outcome to all that is here."""
        self._is_open, self._why_closed = False, why.message
        self._tell_added()
        for put in self._under_way:
            self._settle(put, self._doubt or why)
        for put in self._waiting:
            self._settle(put, why)
        self._under_way = []
        self._waiting.clear()
        self._settled.set()
        if self._is_busy:
            self._delivery_here.reschedule(self._loop.time())
        if self._task is not None:
            self._task.cancel()

    # Inside, on the way

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work. Whatever breaks in it is the outcome of all that is here, so that nobody waits for ever."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # whoever awaits a message is told
            self._doubt = _unforeseen(error)
            self._end(self._doubt)

    async def _run(self) -> None:
        """Send batch after batch. Whatever ends this but `close` leaves messages behind."""
        try:
            await self._send_batches()
        except asyncio.CancelledError:
            if self._is_open and self._count:
                _log.warning(
                    "a producer of queue %s was not closed: %d of its messages were not sent, or it is not known what "
                    "became of them; use it in `async with`",
                    self._queue,
                    self._count,
                )
            raise

    async def _send_batches(self) -> None:
        last = 0.0
        while True:
            while self._is_busy or not (self._waiting or self._under_way):
                self._is_hurried = self._is_hurried and bool(self._waiting)
                self._changed.clear()
                await self._changed.wait()
            if not self._under_way:
                await self._gather_until(last + self._linger)
                if self._is_busy:
                    continue
                last = self._loop.time()
                self._under_way = self._next_batch(last)
            await self._deliver()

    async def _deliver_here(self) -> None:
        """Send the one message that waits, for its caller who waits too: that is a turn of the loop or two less.

        Where the caller is cancelled, the message stays under way, and `_run` sees to it.
        """
        self._is_busy = True
        try:
            self._under_way = self._next_batch(self._loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._delivery_here:
                    await self._guard(self._deliver)
        finally:
            self._is_busy = False
            if self._waiting or self._under_way:
                self._changed.set()

    async def _gather_until(self, end: float) -> None:
        """Give others the time to join, unless somebody waits or the batch is full."""
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
        """Send a batch until each of its messages has an outcome."""
        backoff = Backoff()
        while self._under_way:
            request = self._request = self._request or self._new_request()
            try:
                answer = await self._call(request)
            except TooManyAnswers:
                # So many producers put at the same time: this one then does without being remembered.
                request.request_id = ""
                continue
            except Closed:
                self._end(Closed(_CLIENT_CLOSED))
            except QueueletError as error:
                if not self._may_pass(error):
                    self._take_refusal(error)
                    self._request = None
                    continue
                self._trouble = error
            else:
                self._was_away, self._trouble = False, None
                self._was_there, self._missing_since = True, None
                self._settled_request, self._request = request.request_id, None
                self._take_results(answer)
            if self._under_way:
                await asyncio.sleep(min(backoff.next_delay(), self._patience))
                self._give_up_late()
        self._request = self._doubt = None

    async def _call(self, request: pb.AddBatchRequest) -> pb.AddBatchResponse:
        """Make the call for the messages under way, and keep account of whether they may have been added."""
        patience = self._patience
        if patience < _LONGEST_WAIT:
            request.wait_at_most.FromNanoseconds(int(patience * 1e9))
        data = request_bytes(request, [put.message for put in self._under_way])
        before = self._doubt
        self._doubt = before or Unreachable("the message was sent, and what became of it is not known")
        try:
            # Longer than the server is to wait, so that there is an answer.
            answer = await self._client.call_once("AddBatch", data, at_most=patience + _GRACE)
        except (NotSent, Closed):
            self._doubt = before
            raise
        except AWAY as error:
            self._doubt = error
            raise
        except QueueletError:
            self._doubt = None
            raise
        self._doubt = None
        return decoded("AddBatch", pb.AddBatchResponse, answer)

    def _new_request(self) -> pb.AddBatchRequest:
        """Return the call for the messages under way. It is repeated as it is: its id stands for these messages."""
        self._calls += 1
        return pb.AddBatchRequest(
            queue_id=self._queue,
            wait=self._wait_for_room,
            request_id=f"{self._name}/{self._calls}",
            settled_request_id=self._settled_request,
        )

    @property
    def _patience(self) -> float:
        """How long the most impatient message of the batch has left, in seconds."""
        now = self._loop.time()
        return max(0.0, min((put.deadline for put in self._under_way if not put.done()), default=now) - now)

    def _take_results(self, answer: pb.AddBatchResponse) -> None:
        """Settle what was added or refused. What has no room yet stays, in order.

        Where all were added and more wait, the next call goes first: the server works on it while these are told.
        """
        if len(answer.results) != len(self._under_way):
            raise Unreachable(f"the server answered {len(answer.results)} results to {len(self._under_way)} messages")
        self._tell_added()
        if not any(result.HasField("error") for result in answer.results):
            self._added, self._added_answer, self._under_way = self._under_way, answer, []
            if self._waiting:
                # The call begins in the next turn of the loop.
                self._loop.call_soon(self._loop.call_soon, self._tell_added)
            else:
                self._tell_added()
            return
        rest: list[Sent] = []
        errors = errors_from_pb(answer.results)
        for put, result, error in zip(self._under_way, answer.results, errors, strict=True):
            if isinstance(error, CROWDED) and self._wait_for_room and not put.done():
                self._trouble = error
                rest.append(put)
            else:
                self._settle(put, error or Added(result.id, result.duplicate, _is_durable(answer)))
        self._under_way = rest

    def _tell_added(self) -> None:
        """Settle what was added, if anything was that was not told yet."""
        added, self._added = self._added, []
        is_durable = _is_durable(self._added_answer)
        for put, result in zip(added, self._added_answer.results, strict=bool(added)):
            self._settle(put, Added(result.id, result.duplicate, is_durable))

    def _may_pass(self, error: QueueletError) -> bool:
        """Return whether the same call may do later."""
        if isinstance(error, QueueNotFound):
            return self._is_awaited()
        is_away = isinstance(error, (*AWAY, NotSent))
        self._was_away = self._was_away or is_away
        if is_away and not self._client.connection.retry_for:
            return False
        return is_away or (isinstance(error, CROWDED) and self._wait_for_room)

    def _is_awaited(self) -> bool:
        """Return whether a queue that is missing may still come, because it was there or the server was away."""
        if self._missing_since is None:
            self._missing_since = self._loop.time()
        if self._was_away and self._client.connection.retry_for:
            return True
        return self._was_there and self._loop.time() - self._missing_since < self._missing_for

    def _take_refusal(self, error: QueueletError) -> None:
        """Fail the messages that an error is about: the one it names by its place in the batch, or all.

        Where the server takes smaller batches only, they are smaller from here on.
        """
        named = _PLACE.match(str(error.facts.get("field", ""))) if isinstance(error, InvalidArgument) else None
        if named:
            self._settle(self._under_way.pop(int(named[1])), _without_place(error))
        elif isinstance(error, InvalidArgument) and len(self._under_way) > 1:
            self._send_in_parts(error)
        else:
            for put in self._under_way:
                self._settle(put, error)
            self._under_way = []

    def _send_in_parts(self, error: InvalidArgument) -> None:
        """Make smaller batches from here on, of what the server found too much, too."""
        if isinstance(error, MessageTooLarge):
            self._batch_bytes = sum(put.size for put in self._under_way) // 2
        else:
            self._batch_messages = len(self._under_way) // 2
        self._waiting.extendleft(reversed(self._under_way))
        self._under_way = self._next_batch(self._loop.time())

    def _give_up_late(self) -> None:
        """Fail messages whose time is over with what kept them from being added.

        They stay in a batch that may have arrived, whose call must be repeated as it was.
        """
        now = self._loop.time()
        for put in self._under_way:
            if put.deadline <= now:
                self._settle(put, self._doubt or self._why_late())
        left = [put for put in self._under_way if not put.done()]
        if not left or not self._doubt:
            self._under_way = left


def _is_durable(answer: pb.AddBatchResponse) -> bool:
    return answer.durability == pb.DURABILITY_DISK


def _without_place(error: QueueletError) -> QueueletError:
    """Return an error as whoever put the message knows it, to whom its place in a batch says nothing."""
    field = _in_own_words(str(error.facts["field"]))
    return type(error)(_in_own_words(error.message), **{**error.facts, "field": field})


def _in_own_words(text: str) -> str:
    return _PLACE.sub("message", text).removeprefix("message.")


def _unforeseen(error: Exception) -> QueueletError:
    failure = QueueletError(f"the producer ended with an error that nobody foresaw: {error!r}")
    failure.__cause__ = error
    return failure
