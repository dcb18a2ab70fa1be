"""The server that the console shows, read by calls of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from queuelet.rest.calls import Caller, RestCall
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE, Status

_WATCH = f"{SERVICE}/WatchQueues"
_STATS = f"{SERVICE}/GetStats"

_REQUEST = pb.WatchQueuesRequest(counts_apart=True).SerializeToString()


class SourceLost(Exception):  # named for what happened
    """The server does not respond, or refuses the call."""


class Source:
    """Reads a server with the credentials of the newest reader that the server has admitted."""

    def __init__(self, caller: Caller) -> None:
        """Make the source of a caller."""
        self._caller = caller
        self._metadata: Mapping[str, str] = MappingProxyType({})

    async def admit(self, call: RestCall) -> Status | None:
        """Return the status to refuse a reader with, or None if it may see the queues.

        One stream serves all readers, so each of them makes a call of its own first.
        """
        status = self._caller.admit(_WATCH, call)
        if status is not None:
            return status
        response = await self._stats(call)
        if isinstance(response, Status):
            return response
        self._metadata = call.metadata
        return None

    async def watch(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass each response of a watch stream to `send` until the stream ends.

        Raises:
            SourceLost: the stream ended.
        """
        status = await self._caller.stream(_WATCH, _REQUEST, send, self._call())
        raise SourceLost(status.text if status else "the stream ended")

    async def stats(self) -> pb.ServerStats:
        """Return the server's statistics.

        Raises:
            SourceLost: as above.
        """
        response = await self._stats(self._call())
        if isinstance(response, Status):
            raise SourceLost(response.text)
        return pb.GetStatsResponse.FromString(response).server

    async def _stats(self, call: RestCall) -> bytes | Status:
        response = self._caller.unary(_STATS, b"", call)
        return response if isinstance(response, bytes | Status) else await response

    def _call(self) -> RestCall:
        return RestCall(service=SERVICE, peer_host="", peer_port=0, metadata=self._metadata, deadline=None)
