"""A consume stream: leased messages come in, and acknowledgements go out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc

from queuelet.client.connection import Connection, decoded
from queuelet.client.errors import Closed
from queuelet.client.heartbeat import MISSED, Heartbeat
from queuelet.client.messages import ConsumeUpdate, nack_to_pb
from queuelet.client.validation import Seconds, timeout_of
from queuelet.errors import QueueletError, Unreachable
from queuelet.tasks import is_cancelled
from queuelet.v1 import queue_pb2 as pb

_ENDED_HERE = "the stream or its client was closed"


class Consumption:
    """A stream of leased messages. Iterate over it for the server's responses.

    When the stream ends, for whatever reason, its leases end too: messages that are not settled return to their place
    in the queue.
    """

    def __init__(
        self,
        make: Any,  # noqa: ANN401  # gRPC's callable has no type for what it carries
        first: pb.ConsumeRequest,
        connection: Connection,
    ) -> None:
        self._make = make
        self._first = first
        self._connection = connection
        self._call: Any = None
        self._sending = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._sent_at = 0.0
        self._read_since: float | None = None
        """Since when a read has been waiting for the server; None if there is no such read."""
        self._last_token = 0
        self._is_silent = self._has_ended_requests = False
        self.heartbeat = 0.0
        """How long either side may be silent, in seconds, as the server has agreed; 0 for any time."""

    @property
    def is_in_use(self) -> bool:
        """Whether the stream has not ended."""
        return self._call is None or not self._call.done()

    async def __aenter__(self) -> Self:
        """Open the stream."""
        await self.begin(pb.ConsumeRequest())
        return self

    async def begin(self, request: pb.ConsumeRequest) -> None:
        """Open the stream with a first request that may carry more than what to consume.

        The server may refuse the stream at its first request, and a second request would then hide why.

        Args:
            request: Credit and outcomes to send with the first request.

        Raises:
            Closed: The client is closed.
        """
        try:
            self._call = self._make(metadata=self._connection.metadata)
        except grpc.aio.UsageError:
            raise Closed(_ENDED_HERE) from None
        request.MergeFrom(self._first)
        await self.send(request)

    async def end(self, *, at_once: bool = False) -> None:
        """End the stream.

        Args:
            at_once: Whether to cancel it instead of waiting for the server's responses to earlier requests.
        """
        try:
            if not at_once and not self._call.done():
                await self._finish()
        finally:
            for task in (self._beating, self._beat):
                if task is not None:
                    task.cancel()
            self._call.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream, at once if there was an error."""
        await self.end(at_once=kind is not None)

    async def _finish(self) -> None:
        with suppress(QueueletError, TimeoutError):
            async with asyncio.timeout(timeout_of("timeout", self._connection.timeout)):
                await self.end_requests()
                async for _ in self:
                    pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumeUpdate:
        """Return the server's next response.

        Raises:
            Closed: The stream or its client was closed meanwhile.
            Unreachable: The server went away, or missed its heartbeats.
        """
        self._read_since = monotonic()
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._connection.error_of(error) from None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            if self._is_silent:
                server = self._connection.server
                raise Unreachable(
                    f"the server at {server} was silent for {MISSED * self.heartbeat:g} s", server=server
                ) from None
            raise Closed(_ENDED_HERE) from None
        finally:
            self._read_since = None
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        update = ConsumeUpdate.of(decoded("Consume", pb.ConsumeResponse, data))
        if update.deliveries:
            self._last_token = update.deliveries[-1].token
        if update.heartbeat and self._beating is None:
            self.heartbeat = update.heartbeat
            self._beating = asyncio.create_task(self._heartbeat_loop())
        return update

    async def credit(self, count: int) -> None:
        """Let the server send more messages.

        Args:
            count: How many more messages it may send.
        """
        await self.send(pb.ConsumeRequest(credit=count))

    async def ack(self, *tokens: int, credit: int = 0) -> None:
        """Acknowledge messages. A later response reports the outcome of each.

        Args:
            tokens: The tokens of their leases.
            credit: How many more messages the server may send.
        """
        await self.send(pb.ConsumeRequest(ack=tokens, credit=credit))

    async def nack(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        token: int,
        *,
        delay: Seconds = 0,
        reason: str = "",
        dead: bool = False,
        unused: bool = False,
        credit: int = 0,
    ) -> None:
        """Give a message back to the queue. A later response reports the outcome.

        Args:
            token: The token of its lease.
            delay: How long the message is not delivered again, in seconds.
            reason: Why it failed, which its history shows.
            dead: Whether to dead-letter the message at once, because another try would not help.
            unused: Whether not to count this delivery, because the work on the message has not begun.
            credit: How many more messages the server may send.

        Raises:
            InvalidArgument: The delay is out of range.
        """
        given_back = nack_to_pb(token, delay=delay, reason=reason, dead=dead, unused=unused)
        await self.send(pb.ConsumeRequest(nack=[given_back], credit=credit))

    async def extend(self, *tokens: int) -> None:
        """Extend leases by the stream's lease time, from now on. A later response reports the outcome of each.

        Args:
            tokens: The tokens of the leases.
        """
        await self.send(pb.ConsumeRequest(extend=tokens))

    async def end_requests(self) -> None:
        """Send no more requests. The server responds to the others, takes its messages back and ends the stream."""
        async with self._sending:
            self._has_ended_requests = True
            await self._call.done_writing()

    async def send(self, request: pb.ConsumeRequest) -> None:
        """Send a request, after the one that is being sent, because gRPC takes one at a time.

        Args:
            request: The request, a `queuelet.v1.queue_pb2.ConsumeRequest`.

        Raises:
            Unreachable: The server went away.
            Closed: The stream or its client was closed.
        """
        async with self._sending:
            self._sent_at = monotonic()
            if self.heartbeat:
                request.received = self._last_token
            try:
                await self._call.write(request.SerializeToString())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise await self._why_ended() from None
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise Closed(_ENDED_HERE) from None

    async def _heartbeat_loop(self) -> None:
        """Send heartbeats when nothing else was sent for a while, and end the stream if the server misses its own.

        A request may wait for flow control for long, so heartbeats are sent in another task.
        """
        heartbeat = Heartbeat(self.heartbeat, monotonic())
        while True:
            await asyncio.sleep(heartbeat.pause(self._sent_at, monotonic()))
            now = monotonic()
            if heartbeat.is_missed(self._read_since, now):
                self._is_silent = True
                self._call.cancel()
                return
            if not heartbeat.is_due(self._sent_at, now):
                continue
            self._sent_at = now
            if not self._has_ended_requests and (self._beat is None or self._beat.done()):
                self._beat = asyncio.create_task(self._send_heartbeat())

    async def _send_heartbeat(self) -> None:
        if not self._sending.locked():
            with suppress(QueueletError):  # the task that reads gets the error too
                await self.send(pb.ConsumeRequest())

    async def _why_ended(self) -> QueueletError:
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK:
            return Unreachable(f"the server at {self._connection.server} ended the stream")
        trailing = await self._call.trailing_metadata()
        return self._connection.error_of(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))
