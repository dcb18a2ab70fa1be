"""The calls of the server as methods: queues and messages as plain values, refusals as the errors it raised."""

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
from queuelet.client.connection import DEFAULT, Connection, decoded
from queuelet.client.connection_state import ConnectionState, ConnectionWatch, StateListener
from queuelet.client.consume_stream import Consumption, is_cancelled
from queuelet.client.errors import Closed, NotSent
from queuelet.client.forks import check_usable, is_lost
from queuelet.client.messages import Delivery, Message, duration_to_pb, new_message, tags_to_pb
from queuelet.client.retries import AWAY, Backoff
from queuelet.client.text import LONGEST_CONSUMER, LONGEST_REASON, filled, sendable
from queuelet.client.validation import Seconds, patience_of, seconds_of
from queuelet.errors import MessageNotFound, QueueletError, Unreachable
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE, errors_from_pb

_Answer = TypeVar("_Answer", bound=ProtobufMessage)

_NOT_OPEN = "the client is closed, or was not opened: use it in `async with`, around whatever needs it"

_REPEATABLE = frozenset({"ListQueues", "GetQueue", "GetStats", "Peek", "PeekBatch", "Browse", "Ack", "Extend"})
"""Calls that come to the same whether they are made once or twice, whatever others do between the two.

A second Purge would remove what was added since, a second DeleteQueue a queue that was made anew. A token is of one
lease only, so Ack and Extend cannot touch another's.
"""


class Client:
    """A connection to a server. Every call raises the errors of `queuelet.errors`.

    `Unreachable` means that the server could not be reached or went away; what became of the call is then not known.
    Before it is raised, a call that may be made twice is made again for `Connection.retry_for` seconds: what only
    reads, Ack and Extend, and a call with a request id, which the server answers as the first. An Add with an id of
    yours is too: it adds nothing while the first is queued.
    """

    def __init__(self, connection: Connection | str = DEFAULT) -> None:
        """Take how to reach the server, or just its address. Nothing is sent yet."""
        self._connection = Connection(server=connection) if isinstance(connection, str) else connection
        self._timeout = patience_of("timeout", self._connection.timeout)
        self._retry_for = seconds_of("retry_for", self._connection.retry_for, most=inf)
        self._lost_after = seconds_of("lost_after", self._connection.lost_after, most=inf)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._watch: ConnectionWatch | None = None
        self._was_reached = False
        self._is_parked = False
        self._under_way = 0
        """How many calls are made now."""
        self._streams: WeakSet[Consumption] = WeakSet()

    async def __aenter__(self) -> Self:
        """Open the connection."""
        self._connect()
        return self

    def _connect(self) -> grpc.aio.Channel:
        self._is_parked = False
        self._channel = channel = self._connection.open_channel()
        self._watch = ConnectionWatch(channel, self._lost_after)
        return channel

    async def park(self) -> None:
        """Close the connection of a client that does nothing now. The next call opens one."""
        if self._channel is None or self._watch is None or self._is_busy:
            return
        channel, self._channel, self._watch, self._is_parked = self._channel, None, None, True
        self._calls.clear()
        await channel.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        channel, watch = self._channel, self._watch
        self._channel, self._watch, self._is_parked = None, None, False
        self._calls.clear()
        if channel and is_lost(channel):
            return  # to close what is the parent's waits for threads that are not here
        if watch:
            await watch.close()
        if channel:
            await channel.close()

    @property
    def _is_busy(self) -> bool:
        """Whether the connection is needed now."""
        is_watched = self._watch is not None and self._watch.is_watching
        return bool(self._under_way) or is_watched or any(stream.is_in_use for stream in self._streams)

    # The connection

    @property
    def connection(self) -> Connection:
        """How the server is reached."""
        return self._connection

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Have a function called at each change of the connection's state; return what ends that.

        It is called in the event loop and must not block. The client connects at once, and not with its first call.
        """
        self._open_channel()
        assert self._watch  # noqa: S101  # it is there while the channel is
        return self._watch.listen(listener)

    @property
    def state(self) -> ConnectionState | None:
        """The latest state of the connection; None before there was one, and where nobody listens."""
        return self._watch.state if self._watch else None

    # Queues

    async def list_queues(self, selector: str = "", page_size: int = 0) -> list[pb.Queue]:
        """Return all queues that the selector picks, in order of creation."""
        queues: list[pb.Queue] = []
        token = ""
        while True:
            request = filled(pb.ListQueuesRequest, selector=selector, page_size=page_size, page_token=token)
            answer = await self.call("ListQueues", request, pb.ListQueuesResponse)
            queues += answer.queues
            token = answer.next_page_token
            if not token:
                return queues

    async def new_queue(
        self,
        *,
        store: pb.Queue.Store | str = "MEMORY",
        limit: int = UNBOUNDED,
        tags: Iterable[Tag] = (),
        name: str = "",
        delivery: pb.DeliverySettings | None = None,
    ) -> pb.Queue:
        """Make a queue and return it."""
        request = filled(
            pb.NewQueueRequest, store=store, limit=limit, tags=tags_to_pb(tags), name=name, delivery=delivery
        )
        return (await self.call("NewQueue", request, pb.NewQueueResponse)).queue

    async def get_queue(self, queue: str) -> pb.Queue:
        """Return a queue."""
        return (await self.call("GetQueue", filled(pb.GetQueueRequest, queue_id=queue), pb.GetQueueResponse)).queue

    async def delete_queue(self, queue: str) -> None:
        """Drop a queue and its messages; one that is not there is no error."""
        await self.call("DeleteQueue", filled(pb.DeleteQueueRequest, queue_id=queue), pb.DeleteQueueResponse)

    async def tag_queue(self, queue: str, tag: Tag) -> None:
        """Add a tag to a queue."""
        request = filled(pb.AddQueueTagRequest, queue_id=queue, tag=tags_to_pb([tag])[0])
        await self.call("AddQueueTag", request, pb.AddQueueTagResponse)

    async def untag_queue(self, queue: str, tag: Tag) -> None:
        """Take a tag from a queue."""
        request = filled(pb.DeleteQueueTagRequest, queue_id=queue, tag=tags_to_pb([tag])[0])
        await self.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)

    async def declare_queues(self, declarations: Sequence[pb.QueueDeclaration]) -> list[pb.DeclareResult]:
        """Make queues what their declarations say; return what became of each."""
        request = filled(pb.DeclareQueuesRequest, queues=declarations)
        return list((await self.call("DeclareQueues", request, pb.DeclareQueuesResponse)).results)

    async def remove_queues(self, removals: Sequence[pb.QueueRemoval]) -> list[pb.RemoveResult]:
        """Drop queues of an owner; return what became of each."""
        request = filled(pb.RemoveQueuesRequest, queues=removals)
        return list((await self.call("RemoveQueues", request, pb.RemoveQueuesResponse)).results)

    async def watch_queues(self, selector: str = "") -> AsyncIterator[pb.WatchQueuesResponse]:
        """Yield batches: first a snapshot of the queues, then their changes."""
        request = filled(pb.WatchQueuesRequest, selector=selector)
        async for batch in self.stream("WatchQueues", request, pb.WatchQueuesResponse):
            yield batch

    async def stats(self, queue: str = "") -> pb.GetStatsResponse:
        """Return what the server counts, of itself or of one queue."""
        return await self.call("GetStats", filled(pb.GetStatsRequest, queue_id=queue), pb.GetStatsResponse)

    # Messages

    async def add(  # noqa: PLR0913  # each is a fact of its own, and all but two are named
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
        """Add a message and return it as it is stored. With `wait`, wait for room until the timeout.

        Times are in seconds. With an id of yours the call may be made twice; a second message comes of that only if
        the first is out of the queue by then. A `Producer` has no such gap.
        """
        message = new_message(
            payload=payload, tags=tags, message_id=message_id, priority=priority, delay=delay, not_before=not_before,
            ttl=ttl,
        )  # fmt: skip
        request = filled(pb.AddRequest, queue_id=queue, message=message, wait=wait)
        return Message((await self.call("Add", request, pb.AddResponse, repeat=bool(message_id))).message)

    async def add_batch(
        self, queue: str, messages: Sequence[pb.NewMessage], *, wait: bool = False, request_id: str = ""
    ) -> list[pb.AddResult]:
        """Add messages in their order; return what became of each.

        Repeated within a minute with the same request id, it adds nothing and returns the same.
        """
        request = filled(pb.AddBatchRequest, queue_id=queue, messages=messages, wait=wait, request_id=request_id)
        may_repeat = bool(request_id) or all(message.id for message in messages)
        return list((await self.call("AddBatch", request, pb.AddBatchResponse, repeat=may_repeat)).results)

    async def pop(self, queue: str, *, wait: Seconds = 0, request_id: str = "") -> Message:
        """Remove and return the first ready message, waiting up to `wait` seconds for one.

        Repeated within a minute with the same request id, it returns the same message.
        """
        request = filled(pb.PopRequest, queue_id=queue, wait=duration_to_pb(wait, "wait"), request_id=request_id)
        answer = await self.call(
            "Pop", request, pb.PopResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return Message(answer.message)

    async def pop_batch(
        self, queue: str, maximum: int = 0, *, wait: Seconds = 0, request_id: str = ""
    ) -> list[Message]:
        """Remove and return the first ready messages, at most `maximum`, waiting up to `wait` seconds for one."""
        request = filled(
            pb.PopBatchRequest, queue_id=queue, max=maximum, wait=duration_to_pb(wait, "wait"), request_id=request_id
        )
        answer = await self.call(
            "PopBatch", request, pb.PopBatchResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return list(map(Message, answer.messages))

    async def peek(self, queue: str) -> Message:
        """Return the first ready message and leave it."""
        return Message((await self.call("Peek", filled(pb.PeekRequest, queue_id=queue), pb.PeekResponse)).message)

    async def peek_batch(self, queue: str, maximum: int = 0) -> list[Message]:
        """Return the first ready messages and leave them."""
        request = filled(pb.PeekBatchRequest, queue_id=queue, max=maximum)
        return list(map(Message, (await self.call("PeekBatch", request, pb.PeekBatchResponse)).messages))

    async def browse(
        self, queue: str, *, selector: str = "", states: Sequence[pb.MessageState] = (), page_size: int = 0
    ) -> AsyncIterator[pb.BrowsedMessage]:
        """Yield the messages of a queue in order, page by page, and touch nothing."""
        token = ""
        while True:
            request = filled(
                pb.BrowseRequest,
                queue_id=queue,
                selector=selector,
                states=states,
                page_size=page_size,
                page_token=token,
            )
            answer = await self.call("Browse", request, pb.BrowseResponse)
            for message in answer.messages:
                yield message
            token = answer.next_page_token
            if not token:
                return

    async def purge(
        self,
        queue: str,
        *,
        ids: Sequence[str] = (),
        selector: str = "",
        everything: bool = False,
        states: Sequence[pb.MessageState] = (),
    ) -> int:
        """Remove messages by id, by selector, or all; only those in these states, if any are given. Return how many."""
        request = filled(pb.PurgeRequest, queue_id=queue, ids=ids, selector=selector, all=everything, states=states)
        return (await self.call("Purge", request, pb.PurgeResponse)).purged

    # Leases

    async def receive(  # noqa: PLR0913  # each is a choice of its own, and all but two are named
        self,
        queue: str,
        maximum: int = 0,
        *,
        wait: Seconds = 0,
        lease: Seconds = 0,
        consumer: str = "",
        request_id: str = "",
    ) -> list[Delivery]:
        """Lease the first ready messages, at most `maximum`, waiting up to `wait` seconds for one.

        A lease lasts so many seconds, 0 for what the queue says. `consumer` is what you call yourself: it stands in the
        history of messages that fail. Repeated within a minute with the same request id, it returns the same answer.
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
        answer = await self.call(
            "Receive", request, pb.ReceiveResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return list(map(Delivery, answer.deliveries))

    async def ack(self, queue: str, tokens: Sequence[int]) -> list[QueueletError | None]:
        """Remove the messages of these leases: their work is done. Return for each what was wrong, None for nothing."""
        request = filled(pb.AckRequest, queue_id=queue, tokens=tokens)
        answer, tries = await self._call("Ack", request, pb.AckResponse, repeat=True)
        errors = errors_from_pb(answer.results)
        if tries == 1:
            return errors
        # What is gone was most likely acknowledged by a try whose answer was lost.
        return [None if isinstance(error, MessageNotFound) else error for error in errors]

    async def nack(  # noqa: PLR0913  # as `receive`
        self,
        queue: str,
        tokens: Sequence[int],
        *,
        delay: Seconds = 0,
        reason: str = "",
        dead: bool = False,
        unused: bool = False,
    ) -> list[QueueletError | None]:
        """Give the messages of these leases back, after so many seconds. Return for each what was wrong.

        With `dead` they are dead at once, since another try would not help; with `unused` these deliveries do not
        count, since nobody has begun to work on the messages.
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
        """Have these leases last so many seconds from now, 0 for what the queue says.

        Return when they end now, and for each what was wrong.
        """
        request = filled(pb.ExtendRequest, queue_id=queue, tokens=tokens, lease=duration_to_pb(lease, "lease"))
        answer = await self.call("Extend", request, pb.ExtendResponse)
        return answer.deadline.ToDatetime(UTC), errors_from_pb(answer.results)

    def consume(  # noqa: PLR0913  # as `receive`
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
        """Return a stream of messages, as many as the server is given credit for: use it in `async with`.

        One answer holds at most `maximum` messages, 0 for as many as the server sees fit. An exclusive consumer is the
        only one who takes messages from the queue; whoever else asks for that stands in line. `concurrency` says on how
        many messages you work at a time, 0 for all: what the stream has beyond them when it ends was not delivered.

        `heartbeat` says for how long either side may be silent, 0 for any time: the stream then sends a sign of life
        itself, and raises `Unreachable` where the server is silent for three times as long. `max_bytes` bounds the
        bytes of the messages that are here, beyond as many messages as you work on; 0 for no bound.
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

    async def redrive(  # noqa: PLR0913  # as `receive`
        self,
        queue: str,
        *,
        ids: Sequence[str] = (),
        selector: str = "",
        everything: bool = False,
        rate: int = 0,
        dry_run: bool = False,
    ) -> AsyncIterator[pb.RedriveResponse]:
        """Make dead messages ready by id, by selector, or all, at most `rate` a second. Yield how far it is.

        It goes on only as long as it is iterated over. The last response is the result.
        """
        request = filled(
            pb.RedriveRequest, queue_id=queue, ids=ids, selector=selector, all=everything, rate=rate, dry_run=dry_run
        )
        async for answer in self.stream("Redrive", request, pb.RedriveResponse):
            yield answer

    # Any call

    async def call(  # as `receive`
        self,
        name: str,
        request: ProtobufMessage,
        answer: type[_Answer],
        *,
        extra: float = 0,
        repeat: bool = False,
    ) -> _Answer:
        """Make a call by its name and return the answer as the wire has it.

        It may take `extra` seconds longer than others. `repeat` says that this call may be made twice, though not every
        call of the name may.
        """
        return (await self._call(name, request, answer, extra=extra, repeat=repeat))[0]

    async def call_once(self, name: str, request: bytes, *, at_most: float) -> bytes:
        """Make a call once, with bytes as the wire has them, and return its answer so too.

        Raises:
            NotSent: the server could not be reached, so it has not got the request.
        """
        usual = self._timeout
        longest = min(at_most, float("inf") if usual is None else usual)
        timeout = None if longest == float("inf") else longest
        await self._reach(timeout)
        return await self._ask(name, request, timeout)

    async def stream(self, name: str, request: ProtobufMessage, answer: type[_Answer]) -> AsyncIterator[_Answer]:
        """Make a call that has many answers, and yield them."""
        call = self._method(name, stream=True)(request.SerializeToString(), metadata=self._connection.metadata)
        try:
            with self._translated():
                async for data in call:
                    yield decoded(name, answer, data)
        finally:
            call.cancel()

    # Inside

    async def _call(  # as `call`
        self,
        name: str,
        request: ProtobufMessage,
        answer: type[_Answer],
        *,
        extra: float = 0,
        repeat: bool = False,
    ) -> tuple[_Answer, int]:
        """Make a call, more than once if it may be; return the answer and how often it was made."""
        backoff = Backoff()
        end = monotonic() + self._retry_for
        may_repeat = repeat or name in _REPEATABLE
        data = request.SerializeToString()
        timeout = None if self._timeout is None else self._timeout + extra
        tries = 0
        while True:
            tries += 1
            try:
                found = await self._ask(name, data, timeout)
            except AWAY:
                delay = backoff.next_delay()
                if not (may_repeat and self._was_reached) or monotonic() + delay > end:
                    raise
                await asyncio.sleep(delay)
            else:
                return decoded(name, answer, found), tries

    async def _reach(self, timeout: float | None) -> None:  # noqa: ASYNC109  # as `_ask`
        """Have a connection to the server, or raise `NotSent`.

        A call that found no connection fails just as one does whose answer was lost. So, where there is no connection
        yet, the server is asked for something else first, which may be lost without harm.
        """
        if self._open_channel().get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            await self._ask("ListQueues", filled(pb.ListQueuesRequest, page_size=1).SerializeToString(), timeout)
        except AWAY as error:
            raise NotSent(f"there is no connection: {error.message}") from None

    async def _ask(self, name: str, request: bytes, timeout: float | None) -> bytes:  # noqa: ASYNC109  # gRPC's own
        """Make a call once."""
        try:
            with self._translated():
                metadata = self._connection.metadata
                answer: bytes = await self._method(name)(request, timeout=timeout, metadata=metadata)
        except QueueletError as error:
            self._was_reached = self._was_reached or not isinstance(error, (*AWAY, Closed))
            raise
        self._was_reached = True
        return answer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what gRPC does as one of our errors."""
        self._under_way += 1
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._connection.error_of(error) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            raise Closed(_NOT_OPEN) from None
        except asyncio.CancelledError:
            # gRPC cancels the calls of a channel that is closed, and says no more of it.
            if is_cancelled():
                raise
            raise Unreachable("the client was closed before the server answered") from None
        finally:
            self._under_way -= 1

    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._is_parked:
                return self._connect()
            raise Closed(_NOT_OPEN)
        check_usable()
        return self._channel

    def _method(self, name: str, *, stream: bool = False) -> Any:  # noqa: ANN401  # two kinds of callable, awaited or iterated
        channel = self._open_channel()
        call = self._calls.get(name)
        if call is None:
            make = channel.unary_stream if stream else channel.unary_unary
            call = self._calls[name] = make(f"/{SERVICE}/{name}")
        return call
