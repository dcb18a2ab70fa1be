"""Calls for which payloads are hidden: those that look at messages without taking them return sizes instead."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.rest.calls import Caller, RestCall, Send
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE, Code, Status

_BROWSE = f"{SERVICE}/Browse"
_TAIL = f"{SERVICE}/Tail"
_PEEKS = frozenset({f"{SERVICE}/Peek", f"{SERVICE}/PeekBatch", f"{NEGZ_SERVICE}/Peek"})
"""Calls whose response has no place for the size of a payload. An empty payload would be mistaken for the real one."""


class HiddenPayloads:
    """A `Caller` that asks another one for no payloads when messages are browsed or tailed.

    Consumers still get payloads: a call that takes a message is useless without.
    """

    def __init__(self, caller: Caller) -> None:
        """Hide the payloads of a caller."""
        self._caller = caller

    def admit(self, method: str, call: RestCall) -> Status | None:
        """Return the status to refuse a call with: that of the caller, or one for all that peek."""
        status = self._caller.admit(method, call)
        if status is None and method in _PEEKS:
            return _refused(f"{method.rpartition('/')[2]}: payloads are hidden here; use Browse, which has their sizes")
        return status

    def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status | Awaitable[bytes | Status]:
        """Make an admitted call."""
        if method == _BROWSE:
            browse = pb.BrowseRequest.FromString(request)
            if browse.contains:
                # Otherwise a payload could be guessed byte by byte.
                return _refused("contains: payloads are hidden here, so they cannot be searched; select by tags")
            browse.payload_bytes = 0
            request = browse.SerializeToString()
        return self._caller.unary(method, request, call)

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Make an admitted call with a stream of responses."""
        if method == _TAIL:
            tail = pb.TailRequest.FromString(request)
            tail.payload_bytes = 0
            request = tail.SerializeToString()
        return await self._caller.stream(method, request, send, call)


def _refused(why: str) -> Status:
    return Status(Code.PERMISSION_DENIED, why)
