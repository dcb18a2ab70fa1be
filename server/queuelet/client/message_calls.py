"""The calls that add, take, read and remove messages, and that make dead ones ready again.

Methods take and return values, and raise the errors of `queuelet.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime

from queuelet.client.calls import Calls
from queuelet.client.connection import converted
from queuelet.client.messages import (
    BrowsedMessage,
    Message,
    NewMessage,
    TailBatch,
    added_from_pb,
    browsed_from_pb,
    duration_to_pb,
    new_message,
    new_message_to_pb,
    tail_from_pb,
)
from queuelet.client.pending_put import Added
from queuelet.client.text import filled
from queuelet.client.validation import Seconds, seconds_of
from queuelet.definition import MessageState
from queuelet.errors import QueueletError
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import RedriveProgress
from queuelet.wire.values import progress_from_pb, states_to_pb


class MessageCalls(Calls):
    """The calls about messages without a lease."""

    async def add(  # noqa: PLR0913  # independent arguments, all but two keyword-only
        self,
        queue: str,
        payload: bytes,
        *,
        tags: Iterable[Tag] = (),
        message_id: str = "",
        priority: int = 0,
        delay: Seconds = 0,
        not_before: datetime | None = None,
        ttl: Seconds = 0,
        wait: bool = False,
    ) -> Message:
        """Add a message.

        A call with a message ID is retried. It adds a second message only if the first has left the queue by then; a
        `Producer` has no such gap, because it sends a request ID.

        Args:
            queue: The queue's name or ID.
            payload: The message's bytes.
            tags: Tags of the message, as pairs of key and value.
            message_id: A UUID for the message; it is not added again while a message of this ID is queued.
            priority: Smaller values are delivered first; -2^31 to 2^31 - 1.
            delay: How long the message is not delivered, in seconds.
            not_before: The time before which the message is not delivered; a time without a zone is local time.
            ttl: How many seconds after it was added the message is dead-lettered if it is still queued; 0 for the
                queue's setting.
            wait: Whether to wait until the queue has room if it is full, until the timeout.

        Returns:
            The message as it is stored.

        Raises:
            QueueNotFound: There is no such queue.
            QueueFull: The queue is full, and stayed so until the timeout if `wait` is set.
            MessageTooLarge: The message is larger than the server allows.
            InvalidArgument: An argument is not valid.
            MessageExists: A message of this ID is queued with another payload or other tags.
            MemoryExhausted, StoreFull: The server has no room for the message.
        """
        message = new_message(
            payload=payload, tags=tags, message_id=message_id, priority=priority, delay=delay, not_before=not_before,
            ttl=ttl,
        )  # fmt: skip
        request = filled(pb.AddRequest, queue_id=queue, message=message, wait=wait)
        return Message((await self.call("Add", request, pb.AddResponse, repeat=bool(message_id))).message)

    async def add_batch(
        self, queue: str, messages: Sequence[NewMessage], *, wait: bool = False, request_id: str = ""
    ) -> list[Added | QueueletError]:
        """Add messages in their order.

        Args:
            queue: The queue's name or ID.
            messages: The messages, at least one.
            wait: Whether to wait until the queue has room if it is full, until the timeout.
            request_id: A text that makes the call idempotent: repeated with it within a minute, the call adds nothing
                and returns the first results.

        Returns:
            For each message, in the same order, what was added, or why it was not added.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: The request is not valid, so none of its messages was added.
        """
        new = list(map(new_message_to_pb, messages))
        request = filled(pb.AddBatchRequest, queue_id=queue, messages=new, wait=wait, request_id=request_id)
        may_repeat = bool(request_id) or all(message.id for message in new)
        return added_from_pb(await self.call("AddBatch", request, pb.AddBatchResponse, repeat=may_repeat))

    async def pop(self, queue: str, *, wait: Seconds = 0, request_id: str = "") -> Message:
        """Remove and return the first ready message.

        Args:
            queue: The queue's name or ID.
            wait: How long to wait for a message if none is ready, in seconds. This is added to the timeout.
            request_id: A text that makes the call idempotent: repeated with it within a minute, the call returns the
                same message.

        Returns:
            The message, which is no longer in the queue.

        Raises:
            QueueEmpty: No message became ready in time.
            QueueNotFound: There is no such queue.
            QueueHeld: An exclusive consumer holds the queue.
        """
        request = filled(pb.PopRequest, queue_id=queue, wait=duration_to_pb(wait, "wait"), request_id=request_id)
        response = await self.call(
            "Pop", request, pb.PopResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return Message(response.message)

    async def pop_batch(
        self, queue: str, maximum: int = 0, *, wait: Seconds = 0, request_id: str = ""
    ) -> list[Message]:
        """Remove and return the first ready messages.

        Args:
            queue: The queue's name or ID.
            maximum: The largest number of messages; 0 for as many as fit into a response.
            wait: How long to wait for the first message if none is ready, in seconds. This is added to the timeout.
            request_id: A text that makes the call idempotent: repeated with it within a minute, the call returns the
                same messages.

        Returns:
            The messages, which are no longer in the queue; empty if none became ready in time.

        Raises:
            QueueNotFound: There is no such queue.
            QueueHeld: An exclusive consumer holds the queue.
        """
        request = filled(
            pb.PopBatchRequest, queue_id=queue, max=maximum, wait=duration_to_pb(wait, "wait"), request_id=request_id
        )
        response = await self.call(
            "PopBatch", request, pb.PopBatchResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return list(map(Message, response.messages))

    async def peek(self, queue: str) -> Message:
        """Return the first ready message and leave it in the queue.

        Args:
            queue: The queue's name or ID.

        Returns:
            The message that Pop would return now.

        Raises:
            QueueEmpty: No message is ready.
            QueueNotFound: There is no such queue.
        """
        return Message((await self.call("Peek", filled(pb.PeekRequest, queue_id=queue), pb.PeekResponse)).message)

    async def peek_batch(self, queue: str, maximum: int = 0) -> list[Message]:
        """Return the first ready messages and leave them in the queue.

        Args:
            queue: The queue's name or ID.
            maximum: The largest number of messages; 0 for as many as fit into a response.

        Returns:
            The messages in the order in which they would be delivered.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.PeekBatchRequest, queue_id=queue, max=maximum)
        return list(map(Message, (await self.call("PeekBatch", request, pb.PeekBatchResponse)).messages))

    async def browse(  # noqa: PLR0913  # independent arguments, all but one keyword-only
        self,
        queue: str,
        *,
        ids: Sequence[str] = (),
        selector: str = "",
        contains: str = "",
        states: Sequence[MessageState] = (),
        newest_first: bool = False,
        payload_bytes: int | None = None,
        page_size: int = 0,
    ) -> AsyncIterator[BrowsedMessage]:
        """Iterate over the messages of a queue in order, page by page, without changing anything.

        A message has to meet all of the conditions that are given.

        Args:
            queue: The queue's name or ID.
            ids: Only the messages with these IDs, at most 10,000; empty for messages with any ID.
            selector: Tags to match, in the syntax of kubectl's selectors; empty matches all messages.
            contains: Only messages whose payload contains this text, of up to 256 bytes in UTF-8. Upper and lower case
                differ. Empty for messages with any payload.
            states: Only messages in these states; empty for all states.
            newest_first: Whether to begin with the message that was added last, instead of first.
            payload_bytes: The largest number of bytes of each payload; a longer one is cut. None for whole payloads.
            page_size: How many messages to ask for at once; 0 for the server's default.

        Yields:
            Each message with its state and its delivery history.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: One of the conditions is not valid.
        """
        request = filled(
            pb.BrowseRequest,
            queue_id=queue,
            ids=ids,
            selector=selector,
            contains=contains,
            states=filled(states_to_pb, states=states),
            descending=newest_first,
            payload_bytes=payload_bytes,
            page_size=page_size,
        )
        while True:
            response = await self.call("Browse", request, pb.BrowseResponse)
            for message in response.messages:
                yield converted("Browse", browsed_from_pb, message)
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def purge(  # noqa: PLR0913  # independent arguments, all but one keyword-only
        self,
        queue: str,
        *,
        ids: Sequence[str] = (),
        selector: str = "",
        everything: bool = False,
        states: Sequence[MessageState] = (),
        dry_run: bool = False,
    ) -> int:
        """Remove messages from a queue by ID, by selector, or all of them.

        Args:
            queue: The queue's name or ID.
            ids: IDs of messages to remove.
            selector: Tags to match, in the syntax of kubectl's selectors.
            everything: Whether to remove all messages.
            states: Only messages in these states; empty for all states.
            dry_run: Whether only to count the messages instead of removing them.

        Returns:
            The number of messages that were removed, or that would be.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: Not exactly one of `ids`, `selector` and `everything` is given, or one is not valid.
        """
        request = filled(
            pb.PurgeRequest,
            queue_id=queue,
            ids=ids,
            selector=selector,
            all=everything,
            states=filled(states_to_pb, states=states),
            dry_run=dry_run,
        )
        return (await self.call("Purge", request, pb.PurgeResponse, repeat=dry_run)).purged

    async def redrive(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        queue: str,
        *,
        ids: Sequence[str] = (),
        selector: str = "",
        everything: bool = False,
        rate: int = 0,
        dry_run: bool = False,
    ) -> AsyncIterator[RedriveProgress]:
        """Make dead messages ready again by ID, by selector, or all of them. It stops when the iteration is left.

        Args:
            queue: The queue's name or ID.
            ids: IDs of messages to redrive.
            selector: Tags to match, in the syntax of kubectl's selectors.
            everything: Whether to redrive all dead messages.
            rate: The largest number of messages per second; 0 for unlimited.
            dry_run: Whether only to count the messages instead of redriving them.

        Yields:
            Progress reports; the last one is the result.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: Not exactly one of `ids`, `selector` and `everything` is given, or one is not valid.
        """
        request = filled(
            pb.RedriveRequest, queue_id=queue, ids=ids, selector=selector, all=everything, rate=rate, dry_run=dry_run
        )
        async for progress in self.stream("Redrive", request, pb.RedriveResponse):
            yield progress_from_pb(progress)

    async def tail(
        self, queue: str, *, selector: str = "", payload_bytes: int | None = None, per_second: int = 0
    ) -> AsyncIterator[TailBatch]:
        """Watch a sample of what happens to the messages of a queue, from now on. It does not slow the queue down.

        Args:
            queue: The queue's name or id.
            selector: Tags of messages to match, in the syntax of kubectl's selectors; empty matches all messages.
            payload_bytes: The most bytes of each payload, at most 65,536; None for 256, 0 for none.
            per_second: The most events a second, at most 1,000; 0 for 20. The others are skipped and counted.

        Yields:
            Batches of events, until the iteration is left. The first one is empty, and comes at once.

        Raises:
            QueueNotFound: There is no such queue, or it was deleted.
            TooMany: The server has as many of these streams as it may.
            InvalidArgument: An argument is not valid.
        """
        request = filled(
            pb.TailRequest, queue_id=queue, selector=selector, payload_bytes=payload_bytes, per_second=per_second
        )
        async for batch in self.stream("Tail", request, pb.TailResponse):
            yield converted("Tail", tail_from_pb, batch)
