"""One stream of messages under leases, as the wire has it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc

from queuelet.client.connection import Connection, decoded
from queuelet.client.errors import Closed
from queuelet.client.messages import News, nack_to_pb
from queuelet.client.validation import Seconds, patience_of
from queuelet.errors import QueueletError, Unreachable
from queuelet.v1 import queue_pb2 as pb

_MISSED = 3
"""A server that is silent for so many heartbeats is gone."""

_ENDED_HERE = "the stream was ended here, or its client was closed"


class Consumption:
    """A stream of messages under leases, and what becomes of them. Iterate over it for what the server tells.

    When it ends, whatever way, so do its leases: what is not settled goes back to its place in the queue.
    """

    def __init__(
        self,
        make: Any,  # noqa: ANN401  # gRPC's, which does not say what it carries
        first: pb.ConsumeRequest,
        connection: Connection,
    ) -> None:
        """Take how to call, and what to say first. `Client.consume` does that."""
        self._make = make
        self._first = first
        self._connection = connection
        self._call: Any = None
        self._speaking = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._said = 0.0
        self._read_since: float | None = None
        """Since when the server was waited for, while it is."""
        self._received = 0
        self._is_silent = self._has_said_all = False
        self.heartbeat = 0.0
        """For how long either side is silent at most, in seconds, once the server has said so; 0 for any time."""

    @property
    def is_in_use(self) -> bool:
        """Whether it has not ended."""
        return self._call is None or not self._call.done()

    async def __aenter__(self) -> Self:
        """Begin."""
        await self.begin(pb.ConsumeRequest())
        return self

    async def begin(self, request: pb.ConsumeRequest) -> None:
        """Begin with more to say than what to consume. A stream that is refused has no second request to fail with."""
        try:
            self._call = self._make(metadata=self._connection.metadata)
        except grpc.aio.UsageError:
            raise Closed(_ENDED_HERE) from None
        request.MergeFrom(self._first)
        await self.say(request)

    async def end(self, *, at_once: bool = False) -> None:
        """End it. What was said is heard first, unless it is to end at once."""
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
        """End it, at once where an error ends it."""
        await self.end(at_once=kind is not None)

    async def _finish(self) -> None:
        with suppress(QueueletError, TimeoutError):
            async with asyncio.timeout(patience_of("timeout", self._connection.timeout)):
                await self.end_requests()
                async for _ in self:
                    pass

    def __aiter__(self) -> Self:
        """Iterate over what the server tells, until it ends the stream."""
        return self

    async def __anext__(self) -> News:
        """Return what the server tells next. Raises `Closed` where the stream or its client was closed meanwhile."""
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
                    f"the server at {server} was silent for {_MISSED * self.heartbeat:g} s", server=server
                ) from None
            raise Closed(_ENDED_HERE) from None
        finally:
            self._read_since = None
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        news = News.of(decoded("Consume", pb.ConsumeResponse, data))
        if news.deliveries:
            self._received = news.deliveries[-1].token
        if news.heartbeat and self._beating is None:
            self.heartbeat = news.heartbeat
            self._beating = asyncio.create_task(self._keep_beating())
        return news

    async def credit(self, count: int) -> None:
        """Let the server send so many more messages."""
        await self.say(pb.ConsumeRequest(credit=count))

    async def ack(self, *tokens: int, credit: int = 0) -> None:
        """Say that the work of these messages is done, and that so many more may come. What becomes of it is news."""
        await self.say(pb.ConsumeRequest(ack=tokens, credit=credit))

    async def nack(  # noqa: PLR0913  # as `Client.nack`
        self,
        token: int,
        *,
        delay: Seconds = 0,
        reason: str = "",
        dead: bool = False,
        unused: bool = False,
        credit: int = 0,
    ) -> None:
        """Give a message back, after so many seconds, and say that so many more may come. As `Client.nack`."""
        given_back = nack_to_pb(token, delay=delay, reason=reason, dead=dead, unused=unused)
        await self.say(pb.ConsumeRequest(nack=[given_back], credit=credit))

    async def extend(self, *tokens: int) -> None:
        """Have these leases last from now as long as the stream's leases do."""
        await self.say(pb.ConsumeRequest(extend=tokens))

    async def end_requests(self) -> None:
        """Say nothing more: the server answers what it was told, takes back the rest, and ends the stream."""
        async with self._speaking:
            self._has_said_all = True
            await self._call.done_writing()

    async def say(self, request: pb.ConsumeRequest) -> None:
        """Send a request as the wire has it. gRPC takes one at a time."""
        async with self._speaking:
            self._said = monotonic()
            if self.heartbeat:
                request.received = self._received
            try:
                await self._call.write(request.SerializeToString())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise await self._why_ended() from None
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise Closed(_ENDED_HERE) from None

    async def _keep_beating(self) -> None:
        """Send a sign of life whenever nothing was said for a while, and end the stream if the server sends none.

        Something that is said may be held up for long, so it is another task that says it.
        """
        heard_after = monotonic()
        while True:
            due = min(self._said, monotonic()) + self.heartbeat
            await asyncio.sleep(max(0.0, due - monotonic()))
            now = monotonic()
            if now > due + self.heartbeat / 2:
                heard_after = now  # this process was held up itself: what the server sent is still to be read
            waited_since = self._read_since
            if waited_since is not None and now >= max(waited_since, heard_after) + _MISSED * self.heartbeat:
                self._is_silent = True
                self._call.cancel()
                return
            if now < self._said + self.heartbeat:
                continue
            self._said = now
            if not self._has_said_all and (self._beat is None or self._beat.done()):
                self._beat = asyncio.create_task(self._say_nothing())

    async def _say_nothing(self) -> None:
        if not self._speaking.locked():
            with suppress(QueueletError):  # whoever reads learns of it
                await self.say(pb.ConsumeRequest())

    async def _why_ended(self) -> QueueletError:
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK:
            return Unreachable(f"the server at {self._connection.server} ended the stream")
        trailing = await self._call.trailing_metadata()
        return self._connection.error_of(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))


def is_cancelled() -> bool:
    """Tell whether it is this task that is cancelled, and not something it waits for, such as a call of gRPC."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
