"""What a route leads to: an endpoint, or a method of health and reflection, which is not guarded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError

from queuelet.server.endpoint import Call, ClientGone, Send, StreamHandler, UnaryHandler
from queuelet.server.transport import malformed
from queuelet.wire.errors import Code, Status

log = structlog.get_logger()


class Served(Protocol):
    """A method as a connection calls it; `Endpoint` is one."""

    service: str

    def admit(self, call: Call) -> Status | None:
        """Return the status to refuse a call with before its request is read, or None to serve it."""

    def unary(self, request: bytes, call: Call) -> bytes | Status | Awaitable[bytes | Status]:
        """Serve an admitted call. Return the response or a status, or an awaitable of either if the call waits."""

    async def stream(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> Status | None:
        """Serve an admitted stream until it ends. Return None if it succeeded, otherwise its status."""


class Refusal(Exception):
    """Refuses a call of an `Unguarded` method with a status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.text)
        self.status = status


class Unguarded:
    """A method that needs no token, appears in no metric, and is served while the server drains."""

    def __init__(
        self,
        service: str,
        name: str,
        request: str,
        *,
        unary: UnaryHandler | None = None,
        stream: StreamHandler | None = None,
    ) -> None:
        """Make it from a handler that raises `Refusal`; `request` is the name of its request's message."""
        self.service = service
        self.name = name
        self.is_stream = stream is not None
        self._request = request
        self._unary = unary
        self._stream = stream

    def admit(self, _: Call) -> Status | None:
        """Admit every call."""
        return None

    def unary(self, request: bytes, call: Call) -> bytes | Status | Awaitable[bytes | Status]:
        """Serve a call."""
        try:
            return self._unary(request, call)  # type: ignore[misc]  # called only for unary methods
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error)

    async def stream(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> Status | None:
        """Serve a stream until it ends."""
        try:
            await self._stream(requests, send, call)  # type: ignore[misc]  # called only for streams
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error)
        return None

    def _refused(self, error: Exception) -> Status:
        if isinstance(error, Refusal):
            return error.status
        if isinstance(error, DecodeError):
            return malformed(error, self._request)
        log.error("call of health or reflection failed", method=self.name, exc_info=error)
        return Status(Code.INTERNAL, "internal error of the server; see its log")
