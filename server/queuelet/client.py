"""The client: queues and messages as plain values, refusals as the errors the server raised.

async with Client("localhost:10002") as client:
await client.new_queue(name="orders", limit=1_000)
await client.add("orders", b"hello")
message = await client.pop("orders")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message as ProtobufMessage

from queuelet.bounds import UNBOUNDED
from queuelet.errors import QueueletError, Unreachable
from queuelet.status import SERVICE, STATUS_DETAILS, error_of
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
        call = self._method("WatchQueues", stream=True)(
            pb.WatchQueuesRequest(selector=selector).SerializeToString(), metadata=self._metadata()
        )
        try:
            async for answer in call:
                yield pb.WatchQueuesResponse.FromString(answer)
        except grpc.aio.AioRpcError as error:
            raise _error(error, self._connection.server) from None
        finally:
            call.cancel()

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

    async def pop(self, queue: str, *, wait: float = 0) -> Message:
        """Remove and return the first ready message, waiting up to `wait` seconds for one."""
        request = pb.PopRequest(queue_id=queue)
        if wait:
            request.wait.FromNanoseconds(int(wait * 1e9))
        return _message((await self.call("Pop", request, pb.PopResponse, extra=wait)).message)

    async def pop_batch(self, queue: str, maximum: int = 0, *, wait: float = 0) -> list[Message]:
        """Remove and return the first ready messages, at most `maximum`, waiting up to `wait` seconds for one."""
        request = pb.PopBatchRequest(queue_id=queue, max=maximum)
        if wait:
            request.wait.FromNanoseconds(int(wait * 1e9))
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

    async def purge(self, queue: str, *, ids: Sequence[str] = (), selector: str = "", everything: bool = False) -> int:
        """Remove messages by id, by selector, or all; return how many."""
        request = pb.PurgeRequest(queue_id=queue, ids=ids, selector=selector, all=everything)
        return (await self.call("Purge", request, pb.PurgeResponse)).purged

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

    # Inside

    def _method(self, name: str, *, stream: bool = False) -> Any:  # noqa: ANN401  # two kinds of callable, awaited or iterated
        if self._channel is None:
            raise RuntimeError("the client is not open: use it in `async with`")
        call = self._calls.get(name)
        if call is None:
            make = self._channel.unary_stream if stream else self._channel.unary_unary
            call = self._calls[name] = make(f"/{SERVICE}/{name}")
        return call

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._connection.token_file:
            return ()
        return (("authorization", f"Bearer {self._connection.token_file.read_text().strip()}"),)


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
    )


def _tags(tags: Iterable[Tag]) -> list[pb.Tag]:
    return [pb.Tag(key=tag.key, value=tag.value) for tag in tags]
