"""Calls of a port that is read-only: those that change anything are refused."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.rest.calls import Caller, RestCall, Send
from queuelet.wire.errors import Code, Status

READING = frozenset(
    {
        "ListQueues",
        "GetQueue",
        "WatchQueues",
        "GetStats",
        "Peek",
        "PeekBatch",
        "Browse",
        "Tail",
        "ListConsumers",
        "GetHistory",
    }
)
"""The methods that change nothing. A new method is refused until it is listed here."""


class ReadOnly:
    """A `Caller` that makes only the calls that change nothing, with another one."""

    def __init__(self, caller: Caller) -> None:
        """Restrict a caller."""
        self._caller = caller

    def admit(self, method: str, call: RestCall) -> Status | None:
        """Return the status to refuse a call with: that of the caller, or one for all that would change something."""
        status = self._caller.admit(method, call)
        name = method.rpartition("/")[2]
        if status is None and name not in READING:
            return Status(
                Code.PERMISSION_DENIED,
                f"{name}: this address is read-only; use another address of the server, or the command line",
            )
        return status

    def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status | Awaitable[bytes | Status]:
        """Make an admitted call."""
        return self._caller.unary(method, request, call)

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Make an admitted call with a stream of responses."""
        return await self._caller.stream(method, request, send, call)
