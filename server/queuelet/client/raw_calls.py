"""Calls with encoded requests and responses, for a gateway that passes them on. Refusals are values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

import grpc

from queuelet.client.connection import Connection, files_of
from queuelet.wire.errors import STATUS_DETAILS, WANTS_DETAILS, Code, Status, status_of

_Metadata = tuple[tuple[str, str], ...]

_OF_THE_CONNECTION = {Code.UNAVAILABLE, Code.CANCELLED}
"""Codes that gRPC itself gives a call whose server it cannot reach; a server's own have details."""


class RawCalls:
    """A connection to a server. Use it in `async with`."""

    def __init__(self, connection: Connection) -> None:
        """Make it; it connects with the first call.

        Args:
            connection: how to reach the server.
        """
        self.connection = connection
        self._channel: grpc.aio.Channel | None = None
        self._unary: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Open the connection.

        Raises:
            OSError, ValueError: A file with the token or a certificate cannot be read or is unusable.
        """
        for file in files_of(self.connection).values():
            file.read()
        self._channel = self.connection.open_channel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection and end its calls."""
        if self._channel:
            await self._channel.close()

    async def unary(self, method: str, request: bytes, *, authorization: str, seconds: float | None) -> bytes | Status:
        """Make a call; return its response, or the status that it was refused with.

        Args:
            method: the service and the method, such as `queuelet.v1.QueueService/Pop`.
            request: the encoded request.
            authorization: the value of the metadata `authorization`; empty for that of the connection.
            seconds: how long the call may take; None for any time.
        """
        call = self._unary.get(method)
        if call is None:
            call = self._unary[method] = self._open().unary_unary(f"/{method}")
        try:
            return cast("bytes", await call(request, timeout=seconds, metadata=self._metadata(authorization)))
        except grpc.aio.AioRpcError as error:
            return self._status(method, error)

    async def stream(  # those of `unary`, and where responses go
        self,
        method: str,
        request: bytes,
        send: Callable[[bytes], Awaitable[None]],
        *,
        authorization: str,
        seconds: float | None,
    ) -> Status | None:
        """Make a call with a stream of responses; return None if it succeeded, otherwise its status.

        Args:
            method: as in `unary`.
            request: as in `unary`.
            send: called with each response. The next one is read once it returns.
            authorization: as in `unary`.
            seconds: as in `unary`.
        """
        start: Any = self._open().unary_stream(f"/{method}")
        call = start(request, timeout=seconds, metadata=self._metadata(authorization))
        try:
            async for response in call:
                await send(response)
        except grpc.aio.AioRpcError as error:
            return self._status(method, error)
        finally:
            call.cancel()
        return None

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("not open; use it in `async with`")
        return self._channel

    def _metadata(self, authorization: str) -> _Metadata:
        own = (("authorization", authorization),) if authorization else self.connection.metadata
        return (*own, (WANTS_DETAILS, "1"))

    def _status(self, method: str, error: grpc.aio.AioRpcError) -> Status:
        code = Code(error.code().value[0])
        details = dict(cast("Any", error.trailing_metadata() or ())).get(STATUS_DETAILS, b"")
        if code is Code.UNIMPLEMENTED:
            return Status(code, f"{method}: the server does not have this method; upgrade it")
        if not details and (code in _OF_THE_CONNECTION or "http2 header" in (error.details() or "")):
            return status_of(self.connection.error_of(error))
        return Status(code, error.details() or "", details)
