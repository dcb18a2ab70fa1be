"""The server's calls as methods.

Methods take and return values, and raise the errors of `queuelet.errors`. Only `call` and `stream`, which make any call
by its name, use the generated classes of `queuelet.v1.queue_pb2`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import grpc
from google.protobuf.message import Message as ProtobufMessage

from queuelet.bounds import UNBOUNDED
from queuelet.client.connection import DEFAULT, Connection, converted, decoded
from queuelet.client.connection_state import ConnectionState, ConnectionWatch, StateListener
from queuelet.client.consume_stream import Consumption, is_cancelled
from queuelet.client.errors import Closed, NotSent
from queuelet.client.forks import check_usable, is_inherited
from queuelet.client.messages import (
    BrowsedMessage,
    Delivery,
    Message,
    NewMessage,
    TailBatch,
    added_from_pb,
    browsed_from_pb,
    checked_tags_to_pb,
    duration_to_pb,
    new_message,
    new_message_to_pb,
    tail_from_pb,
    timestamp_to_pb,
)
from queuelet.client.pending_put import Added
from queuelet.client.retries import UNAVAILABLE, Backoff
from queuelet.client.text import filled, sendable
from queuelet.client.validation import Seconds, seconds_of, timeout_of
from queuelet.definition import DeliverySettings, MessageState, QueueDefinition, StoreKind
from queuelet.errors import InvalidArgument, MessageNotFound, QueueletError, Unreachable
from queuelet.limits import LONGEST_CONSUMER, LONGEST_REASON
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import (
    DeclareResult,
    Queue,
    QueueChanges,
    QueueConsumers,
    QueueDeclaration,
    QueueHistory,
    QueueRemoval,
    QueueStats,
    RedriveProgress,
    RemoveResult,
    ServerStats,
)
from queuelet.wire.errors import SERVICE, errors_from_pb
from queuelet.wire.values import (
    changes_from_pb,
    consumers_from_pb,
    declaration_to_pb,
    declare_result_from_pb,
    delivery_to_pb,
    history_from_pb,
    progress_from_pb,
    queue_from_pb,
    queue_stats_from_pb,
    removal_to_pb,
    remove_result_from_pb,
    server_stats_from_pb,
    states_to_pb,
    store_to_pb,
)

_Response = TypeVar("_Response", bound=ProtobufMessage)

_NOT_OPEN = "the client is not open; use it inside `async with`"

_PING = pb.ListQueuesRequest(page_size=1)
"""The cheapest call there is."""

_REPEATABLE = frozenset(
    {
        "ListQueues",
        "GetQueue",
        "GetHistory",
        "GetStats",
        "ListConsumers",
        "Peek",
        "PeekBatch",
        "Browse",
        "Ack",
        "Extend",
    }
)
"""Idempotent calls: making one twice has the same effect as making it once, whatever other clients do in between.

Purge and DeleteQueue are not here: a second Purge would remove messages added since, and a second DeleteQueue a new
queue of the same name. Ack and Extend are, because a token belongs to one lease only.
"""


class Client:
    """A connection to a server. Use it in `async with`.

    Every call raises the errors of `queuelet.errors`. `Unreachable` means that the server could not be reached or went
    away during the call, so the call may or may not have had an effect.

    The client retries an idempotent call for `Connection.retry_for` seconds before it raises `Unreachable`. Idempotent
    are calls that only read, Ack, Extend, calls with a request ID (the server repeats its first response), and an Add
    with a message ID (it adds nothing while the first message is queued).

    Args:
        connection: How to reach the server, or just its address. Nothing is sent until the client is used.

    Raises:
        InvalidArgument: A time in the connection is out of range.
    """

    def __init__(self, connection: Connection | str = DEFAULT) -> None:
        self._connection = Connection(server=connection) if isinstance(connection, str) else connection
        self._timeout = timeout_of("timeout", self._connection.timeout)
        self._retry_for = seconds_of("retry_for", self._connection.retry_for, most=inf)
        self._lost_after = seconds_of("lost_after", self._connection.lost_after, most=inf)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._watch: ConnectionWatch | None = None
        self._was_reached = False
        self._is_parked = False
        self._in_flight = 0
        """The number of calls in flight."""
        self._streams: WeakSet[Consumption] = WeakSet()

    async def __aenter__(self) -> Self:
        """Open the connection. It connects with the first call."""
        self._connect()
        return self

    def _connect(self) -> grpc.aio.Channel:
        self._is_parked = False
        self._channel = channel = self._connection.open_channel()
        self._watch = ConnectionWatch(channel, self._lost_after)
        return channel

    async def park(self) -> None:
        """Close the connection if the client is idle. The next call opens a new one."""
        if self._channel is None or self._watch is None or self._is_busy:
            return
        channel, self._channel, self._watch, self._is_parked = self._channel, None, None, True
        self._calls.clear()
        await channel.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection. Calls that are in flight raise `Unreachable`."""
        channel, watch = self._channel, self._watch
        self._channel, self._watch, self._is_parked = None, None, False
        self._calls.clear()
        if channel and is_inherited(channel):
            return  # closing a channel of the parent process waits for threads that do not exist here
        if watch:
            await watch.close()
        if channel:
            await channel.close()

    @property
    def _is_busy(self) -> bool:
        """Whether a call, a stream or a listener needs the connection."""
        is_watched = self._watch is not None and self._watch.is_watching
        return bool(self._in_flight) or is_watched or any(stream.is_in_use for stream in self._streams)

    # The connection

    @property
    def connection(self) -> Connection:
        """How the client reaches the server."""
        return self._connection

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Call a function at each change of the connection's state.

        The client connects at once instead of with its first call.

        Args:
            listener: Called with each new state, in the event loop, so it must not block.

        Returns:
            A function that stops the notifications.

        Raises:
            Closed: The client is not open.
        """
        self._open_channel()
        assert self._watch  # noqa: S101  # set together with the channel
        return self._watch.listen(listener)

    @property
    def state(self) -> ConnectionState | None:
        """The latest state of the connection; None before the first change and without a listener."""
        return self._watch.state if self._watch else None

    async def ping(self) -> None:
        """Make a call that changes nothing, to find out whether the server responds.

        Raises:
            Unreachable: The server could not be reached, or went away during the call.
            DeadlineExceeded: The server did not respond within the timeout.
        """
        await self.call("ListQueues", _PING, pb.ListQueuesResponse)

    # Queues

    async def list_queues(self, selector: str = "", page_size: int = 0) -> list[Queue]:
        """Return the queues that match a selector, in order of creation.

        Args:
            selector: Tags to match, in the syntax of kubectl's selectors; empty matches all queues.
            page_size: How many queues to ask for at once; 0 for the server's default. All pages are fetched in any
                case.

        Returns:
            The queues with their settings and message counts.

        Raises:
            InvalidArgument: The selector is not valid.
        """
        queues: list[Queue] = []
        token = ""
        while True:
            request = filled(pb.ListQueuesRequest, selector=selector, page_size=page_size, page_token=token)
            response = await self.call("ListQueues", request, pb.ListQueuesResponse)
            queues += [converted("ListQueues", queue_from_pb, each) for each in response.queues]
            token = response.next_page_token
            if not token:
                return queues

    async def new_queue(
        self,
        *,
        store: StoreKind | str = "MEMORY",
        limit: int = UNBOUNDED,
        tags: Iterable[Tag] = (),
        name: str = "",
        delivery: DeliverySettings | None = None,
    ) -> Queue:
        """Create a queue.

        Args:
            store: Where messages are stored, a `StoreKind` or its name: `MEMORY`, `DISK` or `POSTGRES`.
            limit: The largest number of messages in the queue; -1 for unlimited.
            tags: Tags of the queue, as pairs of key and value.
            name: A unique name; empty for a queue that has only an ID.
            delivery: Leases, number of deliveries and time to live; None for the server's defaults.

        Returns:
            The new queue.

        Raises:
            QueueExists: Another queue has the name.
            InvalidArgument: A setting is not valid.
            StoreUnavailable: The server runs without this store.
            TooMany: The server has as many queues as it may.
        """
        request = filled(
            pb.NewQueueRequest,
            store=store_to_pb(store) if isinstance(store, StoreKind) else store,
            limit=limit,
            tags=checked_tags_to_pb(tags),
            name=name,
            delivery=filled(delivery_to_pb, delivery=delivery) if delivery else None,
        )
        response = await self.call("NewQueue", request, pb.NewQueueResponse)
        return converted("NewQueue", queue_from_pb, response.queue)

    async def get_queue(self, queue: str) -> Queue:
        """Return a queue with its settings and message counts.

        Args:
            queue: The queue's name or ID.

        Returns:
            The queue as it is now.

        Raises:
            QueueNotFound: There is no such queue.
        """
        response = await self.call("GetQueue", filled(pb.GetQueueRequest, queue_id=queue), pb.GetQueueResponse)
        return converted("GetQueue", queue_from_pb, response.queue)

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue and its messages. Do nothing if there is no such queue.

        Args:
            queue: The queue's name or ID.
        """
        await self.call("DeleteQueue", filled(pb.DeleteQueueRequest, queue_id=queue), pb.DeleteQueueResponse)

    async def tag_queue(self, queue: str, tag: Tag) -> None:
        """Add a tag to a queue.

        Args:
            queue: The queue's name or ID.
            tag: A pair of key and value.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.AddQueueTagRequest, queue_id=queue, tag=checked_tags_to_pb([tag])[0])
        await self.call("AddQueueTag", request, pb.AddQueueTagResponse)

    async def untag_queue(self, queue: str, tag: Tag) -> None:
        """Remove a tag from a queue.

        Args:
            queue: The queue's name or ID.
            tag: A pair of key and value.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.DeleteQueueTagRequest, queue_id=queue, tag=checked_tags_to_pb([tag])[0])
        await self.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)

    async def declare_queues(self, declarations: Sequence[QueueDefinition | QueueDeclaration]) -> list[DeclareResult]:
        """Create or update queues so that they match their declarations.

        A `QueueDeclaration` can also set the ID of a new queue, and adopt a queue of another owner.

        Args:
            declarations: The desired queues, at least one, by their definitions, which need a name.

        Returns:
            The result of each declaration, in the same order: what changed, or an error.

        Raises:
            InvalidArgument: There are no declarations, or too many.
            StoreFailed: A store failed before the changes were committed.
        """
        desired = [
            QueueDeclaration(definition=each) if isinstance(each, QueueDefinition) else each for each in declarations
        ]
        queues = [filled(declaration_to_pb, declaration=each) for each in desired]
        request = filled(pb.DeclareQueuesRequest, queues=queues)
        response = await self.call("DeclareQueues", request, pb.DeclareQueuesResponse)
        return [converted("DeclareQueues", declare_result_from_pb, each) for each in response.results]

    async def remove_queues(self, removals: Sequence[QueueRemoval]) -> list[RemoveResult]:
        """Delete queues, each only if it belongs to the given owner.

        Args:
            removals: The queues to delete, at least one.

        Returns:
            The result of each removal, in the same order: the number of messages deleted with the queue, or an error.

        Raises:
            InvalidArgument: There are no removals, or too many.
            StoreFailed: A store failed before the removals were committed.
        """
        queues = [filled(removal_to_pb, removal=each) for each in removals]
        request = filled(pb.RemoveQueuesRequest, queues=queues)
        response = await self.call("RemoveQueues", request, pb.RemoveQueuesResponse)
        return [converted("RemoveQueues", remove_result_from_pb, each) for each in response.results]

    async def watch_queues(self, selector: str = "", *, counts_apart: bool = False) -> AsyncIterator[QueueChanges]:
        """Watch queues for changes.

        Args:
            selector: Tags to match, in the syntax of kubectl's selectors; empty matches all queues.
            counts_apart: Whether to get changed counts as `QueueChanges.counts`, with totals, instead of as whole
                queues. It is cheaper for many busy queues. A server that does not know it sends whole queues.

        Yields:
            Batches of changes: first a snapshot of the queues, then their changes, until the iteration is left.

        Raises:
            InvalidArgument: The selector is not valid.
        """
        request = filled(pb.WatchQueuesRequest, selector=selector, counts_apart=counts_apart)
        async for batch in self.stream("WatchQueues", request, pb.WatchQueuesResponse):
            yield converted("WatchQueues", changes_from_pb, batch)

    async def stats(self, queue: str) -> QueueStats:
        """Return the statistics of a queue.

        Args:
            queue: The queue's name or ID.

        Returns:
            The queue's counters and gauges.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: The name is empty.
        """
        if not queue:
            raise InvalidArgument("queue: empty; give a name or an ID, or use server_stats", field="queue")
        response = await self.call("GetStats", filled(pb.GetStatsRequest, queue_id=queue), pb.GetStatsResponse)
        return converted("GetStats", queue_stats_from_pb, response.queue)

    async def history(self, queue: str, *, after: datetime | None = None, max_points: int = 0) -> QueueHistory:
        """Return how the numbers of a queue changed: every 10 seconds for an hour, every 2 minutes for 24 hours.

        The server keeps it in memory, as far as its memory for histories allows. A restart begins a new history.

        Args:
            queue: The queue's name or id.
            after: Only points after this time; None for all.
            max_points: The most points, at most 10,000; more points are joined into longer steps. 0 for 360.

        Returns:
            The points, and when the history begins.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: The time or the number is not valid.
        """
        request = filled(
            pb.GetHistoryRequest,
            queue_id=queue,
            after=None if after is None else timestamp_to_pb(after, "after"),
            max_points=max_points,
        )
        return converted("GetHistory", history_from_pb, await self.call("GetHistory", request, pb.GetHistoryResponse))

    async def list_consumers(self, queue: str) -> QueueConsumers:
        """List who takes messages from a queue now: the open streams, and the Receive calls that wait.

        Args:
            queue: The queue's name or id.

        Returns:
            The consumers, and the numbers of calls that wait.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.ListConsumersRequest, queue_id=queue)
        response = await self.call("ListConsumers", request, pb.ListConsumersResponse)
        return converted("ListConsumers", consumers_from_pb, response)

    async def server_stats(self) -> ServerStats:
        """Return the statistics of the server.

        Returns:
            The server's counters and gauges.
        """
        response = await self.call("GetStats", pb.GetStatsRequest(), pb.GetStatsResponse)
        return converted("GetStats", server_stats_from_pb, response.server)

    # Messages

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

    async def browse(  # noqa: PLR0913  # as `receive`
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

    async def purge(  # noqa: PLR0913  # as `receive`
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

    # Leases

    async def receive(  # noqa: PLR0913  # independent arguments, all but two keyword-only
        self,
        queue: str,
        maximum: int = 0,
        *,
        wait: Seconds = 0,
        lease: Seconds = 0,
        consumer: str = "",
        request_id: str = "",
    ) -> list[Delivery]:
        """Lease the first ready messages.

        Args:
            queue: The queue's name or ID.
            maximum: The largest number of messages; 0 for as many as fit into a response.
            wait: How long to wait for the first message if none is ready, in seconds. This is added to the timeout.
            lease: How long the leases last, in seconds; 0 for the queue's setting.
            consumer: A name for this consumer, which the history of failed messages shows.
            request_id: A text that makes the call idempotent: repeated with it within a minute, the call returns the
                same deliveries.

        Returns:
            The messages with their leases; empty if none became ready in time.

        Raises:
            QueueNotFound: There is no such queue.
            QueueHeld: An exclusive consumer holds the queue.
            InvalidArgument: An argument is not valid.
        """
        request = filled(
            pb.ReceiveRequest,
            queue_id=queue,
            max=maximum,
            wait=duration_to_pb(wait, "wait"),
            lease=duration_to_pb(lease, "lease"),
            consumer=sendable(consumer, LONGEST_CONSUMER),
            request_id=request_id,
        )
        response = await self.call(
            "Receive", request, pb.ReceiveResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return list(map(Delivery, response.deliveries))

    async def ack(self, queue: str, tokens: Sequence[int]) -> list[QueueletError | None]:
        """Acknowledge messages: their work is done, so the queue removes them.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of their leases.

        Returns:
            For each token None, or why the message could not be acknowledged: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.AckRequest, queue_id=queue, tokens=tokens)
        response, tries = await self._call("Ack", request, pb.AckResponse, repeat=True)
        errors = errors_from_pb(response.results)
        if tries == 1:
            return errors
        # A message that is gone was most likely acknowledged by an earlier try whose response was lost.
        return [None if isinstance(error, MessageNotFound) else error for error in errors]

    async def nack(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        queue: str,
        tokens: Sequence[int],
        *,
        delay: Seconds = 0,
        reason: str = "",
        dead: bool = False,
        unused: bool = False,
    ) -> list[QueueletError | None]:
        """Give leased messages back to the queue.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of their leases.
            delay: How long the messages are not delivered again, in seconds.
            reason: Why they failed, which their history shows.
            dead: Whether to dead-letter the messages at once, because another try would not help.
            unused: Whether not to count this delivery, because the work on the messages has not begun.

        Returns:
            For each token None, or why the message could not be given back: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: An argument is not valid.
        """
        request = filled(
            pb.NackRequest,
            queue_id=queue,
            tokens=tokens,
            delay=duration_to_pb(delay, "delay"),
            reason=sendable(reason, LONGEST_REASON),
            dead=dead,
            unused=unused,
        )
        return errors_from_pb((await self.call("Nack", request, pb.NackResponse)).results)

    async def extend(
        self, queue: str, tokens: Sequence[int], *, lease: Seconds = 0
    ) -> tuple[datetime, list[QueueletError | None]]:
        """Extend leases.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of the leases.
            lease: How long the leases last from now, in seconds; 0 for the queue's setting.

        Returns:
            The time at which the leases expire, by the server's clock, and for each token None, or why its lease could
            not be extended: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.ExtendRequest, queue_id=queue, tokens=tokens, lease=duration_to_pb(lease, "lease"))
        response = await self.call("Extend", request, pb.ExtendResponse)
        return response.deadline.ToDatetime(UTC), errors_from_pb(response.results)

    def consume(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        queue: str,
        *,
        credit: int = 0,
        lease: Seconds = 0,
        maximum: int = 0,
        consumer: str = "",
        exclusive: bool = False,
        concurrency: int = 0,
        heartbeat: Seconds = 0,
        max_bytes: int = 0,
    ) -> Consumption:
        """Return a stream of leased messages. Use it in `async with`.

        A `Consumer` does this for you, reconnects, and extends leases.

        Args:
            queue: The queue's name or ID.
            credit: How many messages the server may send before it gets more credit.
            lease: How long leases last, in seconds; 0 for the queue's setting.
            maximum: The largest number of messages in one response; 0 lets the server choose.
            consumer: A name for this consumer, which the history of failed messages shows.
            exclusive: Whether to be the only consumer of the queue. Other exclusive consumers wait for their turn.
            concurrency: How many messages you work on at a time; 0 for all. When the stream ends, the server does not
                count the deliveries beyond that number, because the work on them has not begun.
            heartbeat: How long either side may be silent, in seconds; 0 for any time. The stream sends heartbeats
                itself, and raises `Unreachable` after three times as long without a response.
            max_bytes: The largest number of bytes of messages to buffer here beyond those you work on; 0 for unlimited.

        Returns:
            The stream, which is not open yet.

        Raises:
            Closed: The client is not open.
            InvalidArgument: An argument is not valid.
        """
        start = filled(
            pb.ConsumeStart,
            queue_id=queue,
            lease=duration_to_pb(lease, "lease"),
            max=maximum,
            consumer=sendable(consumer, LONGEST_CONSUMER),
            exclusive=exclusive,
            concurrency=concurrency,
            heartbeat=duration_to_pb(heartbeat, "heartbeat"),
            max_bytes=max_bytes,
        )
        make: Any = self._open_channel().stream_stream(f"/{SERVICE}/Consume")
        stream = Consumption(make, filled(pb.ConsumeRequest, start=start, credit=credit), self._connection)
        self._streams.add(stream)
        return stream

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

    # Any call

    async def call(
        self,
        name: str,
        request: ProtobufMessage,
        response: type[_Response],
        *,
        extra: float = 0,
        repeat: bool = False,
    ) -> _Response:
        """Make a call by its name, with generated classes, for what the other methods do not offer.

        Args:
            name: The RPC, such as `GetQueue`.
            request: The request, one of `queuelet.v1.queue_pb2`.
            response: The class of the response, one of `queuelet.v1.queue_pb2`.
            extra: How much longer than other calls this one may take, in seconds.
            repeat: Whether this call is idempotent, though not every call of this RPC is.

        Returns:
            The response.

        Raises:
            Unreachable: The server could not be reached, or went away during the call.
            BadResponse: The response could not be decoded.
        """
        return (await self._call(name, request, response, extra=extra, repeat=repeat))[0]

    async def call_once(self, name: str, request: bytes, *, at_most: float) -> bytes:
        """Make a call without retries, with an encoded request, and return the encoded response.

        Args:
            name: The RPC, such as `AddBatch`.
            request: The encoded request.
            at_most: The timeout in seconds, if it is shorter than the client's own.

        Returns:
            The encoded response.

        Raises:
            NotSent: There was no connection, so the request was not sent.
        """
        usual = self._timeout
        longest = min(at_most, float("inf") if usual is None else usual)
        timeout = None if longest == float("inf") else longest
        await self._ensure_connected(timeout)
        return await self._call_once(name, request, timeout)

    async def stream(self, name: str, request: ProtobufMessage, response: type[_Response]) -> AsyncIterator[_Response]:
        """Make a call with a stream of responses by its name, with generated classes.

        Args:
            name: The RPC, such as `WatchQueues`.
            request: The request, one of `queuelet.v1.queue_pb2`.
            response: The class of the responses, one of `queuelet.v1.queue_pb2`.

        Yields:
            Each response.

        Raises:
            Unreachable: The server could not be reached, or went away during the call.
            BadResponse: A response could not be decoded.
        """
        call = self._method(name, stream=True)(request.SerializeToString(), metadata=self._connection.metadata)
        try:
            with self._translated():
                async for data in call:
                    yield decoded(name, response, data)
        finally:
            call.cancel()

    # Internals

    async def _call(
        self,
        name: str,
        request: ProtobufMessage,
        response: type[_Response],
        *,
        extra: float = 0,
        repeat: bool = False,
    ) -> tuple[_Response, int]:
        """Make a call, with retries if it is idempotent. Return the response and the number of tries."""
        backoff = Backoff()
        end = monotonic() + self._retry_for
        may_repeat = repeat or name in _REPEATABLE
        encoded = request.SerializeToString()
        timeout = None if self._timeout is None else self._timeout + extra
        tries = 0
        while True:
            tries += 1
            try:
                data = await self._call_once(name, encoded, timeout)
            except UNAVAILABLE:
                delay = backoff.next_delay()
                if not (may_repeat and self._was_reached) or monotonic() + delay > end:
                    raise
                await asyncio.sleep(delay)
            else:
                return decoded(name, response, data), tries

    async def _ensure_connected(self, timeout: float | None) -> None:  # noqa: ASYNC109  # gRPC's own
        """Connect if there is no connection, or raise `NotSent`.

        gRPC reports a call that found no connection in the same way as one whose response was lost. So, without a
        connection, another call goes first that may be lost without harm.
        """
        if self._open_channel().get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            await self._call_once("ListQueues", _PING.SerializeToString(), timeout)
        except UNAVAILABLE as error:
            raise NotSent(f"no connection to the server: {error.message}") from None

    async def _call_once(self, name: str, request: bytes, timeout: float | None) -> bytes:  # noqa: ASYNC109  # gRPC's own
        try:
            with self._translated():
                metadata = self._connection.metadata
                response: bytes = await self._method(name)(request, timeout=timeout, metadata=metadata)
        except QueueletError as error:
            self._was_reached = self._was_reached or not isinstance(error, (*UNAVAILABLE, Closed))
            raise
        self._was_reached = True
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate the errors of gRPC to those of `queuelet.errors`, and count the call as in flight."""
        self._in_flight += 1
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._connection.error_of(error) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            raise Closed(_NOT_OPEN) from None
        except asyncio.CancelledError:
            # gRPC cancels the calls of a channel that is closed, without an error.
            if is_cancelled():
                raise
            raise Unreachable("the client was closed before the server answered") from None
        finally:
            self._in_flight -= 1

    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._is_parked:
                return self._connect()
            raise Closed(_NOT_OPEN)
        check_usable()
        return self._channel

    def _method(self, name: str, *, stream: bool = False) -> Any:  # noqa: ANN401  # gRPC has two types for this: awaited or iterated
        channel = self._open_channel()
        call = self._calls.get(name)
        if call is None:
            make = channel.unary_stream if stream else channel.unary_unary
            call = self._calls[name] = make(f"/{SERVICE}/{name}")
        return call
