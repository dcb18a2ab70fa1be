"""The connection of a client, and any call over it by its name, with retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import grpc
from google.protobuf.message import Message as ProtobufMessage

from queuelet.backoff import Backoff
from queuelet.client.connection import Connection, decoded
from queuelet.client.connection_state import ConnectionWatch
from queuelet.client.consume_stream import Consumption
from queuelet.client.direct import DirectChannels
from queuelet.client.errors import Closed, NotSent
from queuelet.client.forks import check_usable, is_inherited
from queuelet.client.retries import BACKOFF, UNAVAILABLE
from queuelet.client.validation import seconds_of, timeout_of
from queuelet.errors import QueueletError, ShardMoved, Unreachable
from queuelet.tasks import is_cancelled
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

_Response = TypeVar("_Response", bound=ProtobufMessage)

_NOT_OPEN = "the client is not open; use it inside `async with`"

PING = pb.ListQueuesRequest(page_size=1)
"""The request of ListQueues that is the cheapest call there is."""

_MOVED_DELAY = 0.05
"""How long to back off from a server that does not own the queue any more and knows no owner yet, in seconds."""

_CONNECT_SECONDS = 0.5

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


class Calls:
    """What all calls of a client share: one channel, which is open in `async with`, and the retries.

    Subclasses have a method for each RPC.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout = timeout_of("timeout", connection.timeout)
        self._retry_for = seconds_of("retry_for", connection.retry_for, most=inf)
        self._lost_after = seconds_of("lost_after", connection.lost_after, most=inf)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._watch: ConnectionWatch | None = None
        self._direct = DirectChannels(connection)
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
        await self._direct.close()
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
        await self._direct.close()
        if watch:
            await watch.close()
        if channel:
            await channel.close()

    @property
    def _is_busy(self) -> bool:
        """Whether a call, a stream or a listener needs the connection."""
        is_watched = self._watch is not None and self._watch.is_watching
        return bool(self._in_flight) or is_watched or any(stream.is_in_use for stream in self._streams)

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
        if self._direct.call(name, self._direct.queue(name, request)) is None:
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

    async def connect_directly(self, queue: str) -> None:
        """Wait for a moment until the server that owns a queue is connected, if that is another one of several.

        A stream that is opened then goes there directly. Otherwise the server that is called passes it on.

        Args:
            queue: The queue's name or ID.
        """
        await self._direct.connect(queue, _CONNECT_SECONDS)

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
        backoff = Backoff(*BACKOFF)
        end = monotonic() + self._retry_for
        may_repeat = repeat or name in _REPEATABLE
        encoded = request.SerializeToString()
        timeout = None if self._timeout is None else self._timeout + extra
        tries = 0
        while True:
            tries += 1
            try:
                data = await self._call_once(name, encoded, timeout)
            except UNAVAILABLE as error:
                has_moved = isinstance(error, ShardMoved)  # then it had no effect, and another server has the queue
                delay = _MOVED_DELAY if has_moved else backoff.next_delay()
                if not ((may_repeat or has_moved) and self._was_reached) or monotonic() + delay > end:
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
            await self._call_once("ListQueues", PING.SerializeToString(), timeout)
        except UNAVAILABLE as error:
            raise NotSent(f"no connection to the server: {error.message}") from None

    async def _call_once(self, name: str, request: bytes, timeout: float | None) -> bytes:  # noqa: ASYNC109  # gRPC's own
        """Make a call: to the owner of its queue if there is a connection to it, otherwise to the usual address."""
        queue = self._direct.queue(name, request)
        direct = self._direct.call(name, queue) if queue else None
        if direct is not None:
            try:
                return await self._respond(direct, queue, request, timeout, is_direct=True)
            except UNAVAILABLE as error:
                self._direct.forget(queue)
                if not isinstance(error, ShardMoved):
                    raise
        return await self._respond(self._method(name), queue, request, timeout, is_direct=False)

    async def _respond(
        self,
        method: Any,  # noqa: ANN401  # gRPC's callable has no type for what it carries
        queue: str,
        request: bytes,
        seconds: float | None,
        *,
        is_direct: bool,
    ) -> bytes:
        try:
            with self._translated():
                call = method(request, timeout=seconds, metadata=self._connection.metadata)
                response: bytes = await call
                if queue:
                    self._direct.note(queue, await call.trailing_metadata(), was_direct=is_direct)
        except QueueletError as error:
            was_reached = isinstance(error, ShardMoved) or not isinstance(error, (*UNAVAILABLE, Closed))
            self._was_reached = self._was_reached or was_reached
            raise
        finally:
            # A traceback would keep the call until its event loop is closed, and gRPC then reports an error.
            call = None
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
