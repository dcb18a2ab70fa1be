"""The client: queues and messages as plain values, refusals as the errors the server raised.

    async with Client("localhost:10002") as client:
        await client.new_queue(name="orders", limit=1_000)
        await client.add("orders", b"hello")
        message = await client.pop("orders")

Whoever must not lose a message takes it under a lease, and says when its work is done:

    async with client.consume("orders", credit=1) as stream:
        async for news in stream:
            for delivery in news.deliveries:
                await work(delivery.message)
                await stream.ack(delivery.token, credit=1)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtobufMessage

from queuelet.bounds import UNBOUNDED
from queuelet.errors import QueueletError, Unreachable
from queuelet.status import SERVICE, STATUS_DETAILS, error_from_pb, error_of, errors_from_pb
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb

_Answer = TypeVar("_Answer", bound=ProtobufMessage)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message as it came out of a queue."""

    id: str
    created: datetime
    payload: bytes
    tags: Tags = ()

    priority: int = 0
    """Smaller comes first."""

    not_before: datetime | None = None
    """When it might be delivered first, if it was added with a delay."""

    ttl: timedelta | None = None
    """Its own time to live, if it was added with one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A message and the lease on it: the message is yours until you settle it, or the deadline."""

    message: Message

    token: int
    """The lease: what `ack`, `nack` and `extend` take. A later delivery of any message has a larger one."""

    deadline: datetime
    """When the lease ends, by the server's clock."""

    count: int
    """How often the message was delivered, this time included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What the server told on a stream of `Client.consume`."""

    deliveries: Sequence[Delivery] = ()

    settled: Sequence[int] = ()
    """Tokens of the leases that were acknowledged, given back or extended as they should."""

    refused: Mapping[int, QueueletError]
    """Tokens of the leases that were not, and why."""

    holder_token: int = 0
    """Told once, when the stream has become the queue's exclusive consumer; larger for each holder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """How to reach a server."""

    server: str = "localhost:10002"
    """`host:port`; `:port` means this machine."""

    tls_ca: Path | None = None
    """The authority that signed the server's certificate. Any of the three files turns TLS on."""

    tls_cert: Path | None = None
    """The client's own certificate, for mutual TLS."""

    tls_key: Path | None = None
    """The key of that certificate."""

    token_file: Path | None = None
    """A file with the bearer token; read at each call."""

    timeout: float | None = 30.0
    """How long a call may take, in seconds; None for ever. A long poll's wait comes on top."""


class Client:
    """A connection to a server. Every call raises the errors of `queuelet.errors`.

    `Unreachable` means that the server could not be reached or went away; what became of the call is then not known.
    """

    def __init__(self, connection: Connection | str = Connection()) -> None:
        """Take how to reach the server, or just its address. Nothing is sent yet."""
        self._connection = Connection(server=connection) if isinstance(connection, str) else connection
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Open the connection."""
        self._channel = _channel(self._connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._channel:
            await self._channel.close()
            self._channel = None

    # Queues

    async def list_queues(self, selector: str = "", page_size: int = 0) -> list[pb.Queue]:
        """Return all queues that the selector picks, in order of creation."""
        queues: list[pb.Queue] = []
        token = ""
        while True:
            request = pb.ListQueuesRequest(selector=selector, page_size=page_size, page_token=token)
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
    ) -> pb.Queue:
        """Make a queue and return it."""
        request = pb.NewQueueRequest(store=store, limit=limit, tags=_tags(tags), name=name)
        return (await self.call("NewQueue", request, pb.NewQueueResponse)).queue

    async def get_queue(self, queue: str) -> pb.Queue:
        """Return a queue."""
        return (await self.call("GetQueue", pb.GetQueueRequest(queue_id=queue), pb.GetQueueResponse)).queue

    async def delete_queue(self, queue: str) -> None:
        """Drop a queue and its messages; one that is not there is no error."""
        await self.call("DeleteQueue", pb.DeleteQueueRequest(queue_id=queue), pb.DeleteQueueResponse)

    async def tag_queue(self, queue: str, tag: Tag) -> None:
        """Add a tag to a queue."""
        request = pb.AddQueueTagRequest(queue_id=queue, tag=pb.Tag(key=tag.key, value=tag.value))
        await self.call("AddQueueTag", request, pb.AddQueueTagResponse)

    async def untag_queue(self, queue: str, tag: Tag) -> None:
        """Take a tag from a queue."""
        request = pb.DeleteQueueTagRequest(queue_id=queue, tag=pb.Tag(key=tag.key, value=tag.value))
        await self.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)

    async def declare_queues(self, declarations: Sequence[pb.QueueDeclaration]) -> list[pb.DeclareResult]:
        """Make queues what their declarations say; return what became of each."""
        request = pb.DeclareQueuesRequest(queues=declarations)
        return list((await self.call("DeclareQueues", request, pb.DeclareQueuesResponse)).results)

    async def remove_queues(self, removals: Sequence[pb.QueueRemoval]) -> list[pb.RemoveResult]:
        """Drop queues of an owner; return what became of each."""
        request = pb.RemoveQueuesRequest(queues=removals)
        return list((await self.call("RemoveQueues", request, pb.RemoveQueuesResponse)).results)

    async def watch_queues(self, selector: str = "") -> AsyncIterator[pb.WatchQueuesResponse]:
        """Yield batches: first a snapshot of the queues, then their changes."""
        request = pb.WatchQueuesRequest(selector=selector)
        async for batch in self.stream("WatchQueues", request, pb.WatchQueuesResponse):
            yield batch

    async def stats(self, queue: str = "") -> pb.GetStatsResponse:
        """Return what the server counts, of itself or of one queue."""
        return await self.call("GetStats", pb.GetStatsRequest(queue_id=queue), pb.GetStatsResponse)

    # Messages

    async def add(
        self, queue: str, payload: bytes, *, tags: Iterable[Tag] = (), message_id: str = "", wait: bool = False
    ) -> Message:
        """Add a message and return it as it is stored. With `wait`, wait for room until the timeout."""
        new = pb.NewMessage(payload=payload, tags=_tags(tags), id=message_id)
        answer = await self.call("Add", pb.AddRequest(queue_id=queue, message=new, wait=wait), pb.AddResponse)
        return _message(answer.message)

    async def add_batch(
        self, queue: str, messages: Sequence[pb.NewMessage], *, wait: bool = False
    ) -> list[pb.AddResult]:
        """Add messages in their order; return what became of each."""
        request = pb.AddBatchRequest(queue_id=queue, messages=messages, wait=wait)
        return list((await self.call("AddBatch", request, pb.AddBatchResponse)).results)

    async def pop(self, queue: str, *, wait: float = 0, request_id: str = "") -> Message:
        """Remove and return the first ready message, waiting up to `wait` seconds for one.

        Repeated within a minute with the same request id, it returns the same message.
        """
        request = pb.PopRequest(queue_id=queue, wait=_duration(wait), request_id=request_id)
        return _message((await self.call("Pop", request, pb.PopResponse, extra=wait)).message)

    async def pop_batch(self, queue: str, maximum: int = 0, *, wait: float = 0, request_id: str = "") -> list[Message]:
        """Remove and return the first ready messages, at most `maximum`, waiting up to `wait` seconds for one."""
        request = pb.PopBatchRequest(queue_id=queue, max=maximum, wait=_duration(wait), request_id=request_id)
        return list(map(_message, (await self.call("PopBatch", request, pb.PopBatchResponse, extra=wait)).messages))

    async def peek(self, queue: str) -> Message:
        """Return the first ready message and leave it."""
        return _message((await self.call("Peek", pb.PeekRequest(queue_id=queue), pb.PeekResponse)).message)

    async def peek_batch(self, queue: str, maximum: int = 0) -> list[Message]:
        """Return the first ready messages and leave them."""
        request = pb.PeekBatchRequest(queue_id=queue, max=maximum)
        return list(map(_message, (await self.call("PeekBatch", request, pb.PeekBatchResponse)).messages))

    async def browse(
        self, queue: str, *, selector: str = "", states: Sequence[pb.MessageState] = (), page_size: int = 0
    ) -> AsyncIterator[pb.BrowsedMessage]:
        """Yield the messages of a queue in order, page by page, and touch nothing."""
        token = ""
        while True:
            request = pb.BrowseRequest(
                queue_id=queue, selector=selector, states=states, page_size=page_size, page_token=token
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
        request = pb.PurgeRequest(queue_id=queue, ids=ids, selector=selector, all=everything, states=states)
        return (await self.call("Purge", request, pb.PurgeResponse)).purged

    # Leases

    async def receive(  # noqa: PLR0913  # each is a choice of its own, and all but two are named
        self,
        queue: str,
        maximum: int = 0,
        *,
        wait: float = 0,
        lease: float = 0,
        consumer: str = "",
        request_id: str = "",
    ) -> list[Delivery]:
        """Lease the first ready messages, at most `maximum`, waiting up to `wait` seconds for one.

        A lease lasts so many seconds, 0 for what the queue says. `consumer` is what you call yourself: it stands in the
        history of messages that fail. Repeated within a minute with the same request id, it returns the same answer.
        """
        request = pb.ReceiveRequest(
            queue_id=queue,
            max=maximum,
            wait=_duration(wait),
            lease=_duration(lease),
            consumer=consumer,
            request_id=request_id,
        )
        answer = await self.call("Receive", request, pb.ReceiveResponse, extra=wait)
        return list(map(_delivery, answer.deliveries))

    async def ack(self, queue: str, tokens: Sequence[int]) -> list[QueueletError | None]:
        """Remove the messages of these leases: their work is done. Return for each what was wrong, None for nothing."""
        answer = await self.call("Ack", pb.AckRequest(queue_id=queue, tokens=tokens), pb.AckResponse)
        return errors_from_pb(answer.results)

    async def nack(
        self, queue: str, tokens: Sequence[int], *, delay: float = 0, reason: str = ""
    ) -> list[QueueletError | None]:
        """Give the messages of these leases back, after so many seconds. Return for each what was wrong."""
        request = pb.NackRequest(queue_id=queue, tokens=tokens, delay=_duration(delay), reason=reason)
        return errors_from_pb((await self.call("Nack", request, pb.NackResponse)).results)

    async def extend(
        self, queue: str, tokens: Sequence[int], *, lease: float = 0
    ) -> tuple[datetime, list[QueueletError | None]]:
        """Have these leases last so many seconds from now, 0 for what the queue says.

        Return when they end now, and for each what was wrong.
        """
        request = pb.ExtendRequest(queue_id=queue, tokens=tokens, lease=_duration(lease))
        answer = await self.call("Extend", request, pb.ExtendResponse)
        return answer.deadline.ToDatetime(UTC), errors_from_pb(answer.results)

    def consume(  # noqa: PLR0913  # as `receive`
        self,
        queue: str,
        *,
        credit: int = 0,
        lease: float = 0,
        maximum: int = 0,
        consumer: str = "",
        exclusive: bool = False,
    ) -> Consumption:
        """Return a stream of messages, as many as the server is given credit for: use it in `async with`.

        One answer holds at most `maximum` messages, 0 for as many as fit. An exclusive consumer is the only one who
        takes messages from the queue; whoever else asks for that stands in line.
        """
        start = pb.ConsumeStart(
            queue_id=queue, lease=_duration(lease), max=maximum, consumer=consumer, exclusive=exclusive
        )
        make: Any = self._open_channel().stream_stream(f"/{SERVICE}/Consume")
        return Consumption(make, self._metadata(), pb.ConsumeRequest(start=start, credit=credit), self._connection)

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
        request = pb.RedriveRequest(
            queue_id=queue, ids=ids, selector=selector, all=everything, rate=rate, dry_run=dry_run
        )
        async for answer in self.stream("Redrive", request, pb.RedriveResponse):
            yield answer

    # Any call

    async def call(self, name: str, request: ProtobufMessage, answer: type[_Answer], *, extra: float = 0) -> _Answer:
        """Make a call by its name and return the answer as the wire has it; it may take `extra` seconds longer."""
        timeout = self._connection.timeout
        try:
            data = await self._method(name)(
                request.SerializeToString(),
                timeout=None if timeout is None else timeout + extra,
                metadata=self._metadata(),
            )
        except grpc.aio.AioRpcError as error:
            raise _error(error, self._connection.server) from None
        return answer.FromString(data)

    async def stream(self, name: str, request: ProtobufMessage, answer: type[_Answer]) -> AsyncIterator[_Answer]:
        """Make a call that has many answers, and yield them."""
        call = self._method(name, stream=True)(request.SerializeToString(), metadata=self._metadata())
        try:
            async for data in call:
                yield answer.FromString(data)
        except grpc.aio.AioRpcError as error:
            raise _error(error, self._connection.server) from None
        finally:
            call.cancel()

    # Inside

    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the client is not open: use it in `async with`")
        return self._channel

    def _method(self, name: str, *, stream: bool = False) -> Any:  # noqa: ANN401  # two kinds of callable, awaited or iterated
        channel = self._open_channel()
        call = self._calls.get(name)
        if call is None:
            make = channel.unary_stream if stream else channel.unary_unary
            call = self._calls[name] = make(f"/{SERVICE}/{name}")
        return call

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._connection.token_file:
            return ()
        return (("authorization", f"Bearer {self._connection.token_file.read_text().strip()}"),)


class Consumption:
    """A stream of messages under leases, and what becomes of them. Iterate over it for what the server tells.

    When it ends, whatever way, so do its leases: what is not settled goes back to its place in the queue.
    """

    def __init__(
        self,
        make: Any,  # noqa: ANN401  # gRPC's, which does not say what it carries
        metadata: tuple[tuple[str, str], ...],
        first: pb.ConsumeRequest,
        connection: Connection,
    ) -> None:
        """Take how to call, and what to say first. `Client.consume` does that."""
        self._make = make
        self._metadata = metadata
        self._first = first
        self._connection = connection
        self._call: Any = None
        self._speaking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Begin."""
        self._call = self._make(metadata=self._metadata)
        await self._say(self._first)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it. What was said is heard first, unless an error ends it: then it is cut."""
        try:
            if kind is None and not self._call.done():
                await self._finish()
        finally:
            self._call.cancel()

    async def _finish(self) -> None:
        with suppress(QueueletError, TimeoutError):
            async with asyncio.timeout(self._connection.timeout):
                await self._call.done_writing()
                async for _ in self:
                    pass

    def __aiter__(self) -> Self:
        """Iterate over what the server tells, until it ends the stream."""
        return self

    async def __anext__(self) -> News:
        """Return what the server tells next."""
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _error(error, self._connection.server) from None
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return _news(pb.ConsumeResponse.FromString(data))

    async def credit(self, count: int) -> None:
        """Let the server send so many more messages."""
        await self._say(pb.ConsumeRequest(credit=count))

    async def ack(self, *tokens: int, credit: int = 0) -> None:
        """Say that the work of these messages is done, and that so many more may come. What becomes of it is news."""
        await self._say(pb.ConsumeRequest(ack=tokens, credit=credit))

    async def nack(self, token: int, *, delay: float = 0, reason: str = "", credit: int = 0) -> None:
        """Give a message back, after so many seconds, and say that so many more may come."""
        given_back = pb.ConsumeNack(token=token, delay=_duration(delay), reason=reason)
        await self._say(pb.ConsumeRequest(nack=[given_back], credit=credit))

    async def extend(self, *tokens: int) -> None:
        """Have these leases last from now as long as the stream's leases do."""
        await self._say(pb.ConsumeRequest(extend=tokens))

    async def _say(self, request: pb.ConsumeRequest) -> None:
        """Send a request. gRPC takes one at a time."""
        async with self._speaking:
            try:
                await self._call.write(request.SerializeToString())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise await self._why_ended() from None
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task and task.cancelling():
                    raise
                # gRPC raises it too where not the task but the stream was cancelled.
                raise Unreachable("the stream was ended here") from None

    async def _why_ended(self) -> QueueletError:
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return Unreachable(f"the server at {self._connection.server} ended the stream")
        details, trailing = await self._call.details(), await self._call.trailing_metadata()
        return _error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details), self._connection.server)


def _channel(connection: Connection) -> grpc.aio.Channel:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    target = f"localhost{connection.server}" if connection.server.startswith(":") else connection.server
    files = (connection.tls_ca, connection.tls_key, connection.tls_cert)
    if not any(files):
        return grpc.aio.insecure_channel(target, options)
    authority, key, certificate = (file.read_bytes() if file else None for file in files)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority, key, certificate), options)


def _error(error: grpc.aio.AioRpcError, server: str) -> QueueletError:
    details = dict(cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ()))
    found = error_of(error.code().value[0], error.details() or "", details.get(STATUS_DETAILS, b""))
    if isinstance(found, Unreachable):
        return Unreachable(f"cannot reach the server at {server}: {found.message}", server=server)
    return found


def _message(message: pb.Message) -> Message:
    return Message(
        id=message.meta.id,
        created=message.meta.created.ToDatetime(UTC),
        payload=message.payload,
        tags=tuple(Tag(tag.key, tag.value) for tag in message.meta.tags),
        priority=message.priority,
        not_before=message.not_before.ToDatetime(UTC) if message.HasField("not_before") else None,
        ttl=message.ttl.ToTimedelta() if message.HasField("ttl") else None,
    )


def _delivery(delivery: pb.Delivery) -> Delivery:
    return Delivery(
        message=_message(delivery.message),
        token=delivery.token,
        deadline=delivery.deadline.ToDatetime(UTC),
        count=delivery.count,
    )


def _news(response: pb.ConsumeResponse) -> News:
    return News(
        deliveries=tuple(map(_delivery, response.deliveries)),
        settled=tuple(response.settled),
        refused={each.token: error_from_pb(each.error) for each in response.refused},
        holder_token=response.holder_token,
    )


def _duration(seconds: float) -> Duration | None:
    """Return seconds as the wire has them; nothing for 0, which everywhere means the default."""
    if not seconds:
        return None
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _tags(tags: Iterable[Tag]) -> list[pb.Tag]:
    return [pb.Tag(key=tag.key, value=tag.value) for tag in tags]
