"""Calls of the gateway in the server's own process: straight to the endpoints, with their metrics, log and drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable

from queuelet.rest.calls import RestCall, Send
from queuelet.server.endpoint import ClientGone, Endpoint
from queuelet.wire.errors import Code, Status


class LocalCalls:
    """Makes calls to endpoints; a `Caller` of the gateway. The endpoints' guard authorizes each of them."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = {f"{each.service}/{each.method.name}": each for each in endpoints}

    def admit(self, method: str, call: RestCall) -> Status | None:
        """Return the status to refuse a call with before its body is read, None to go on."""
        endpoint = self._endpoints.get(method)
        if endpoint is None:
            return Status(Code.UNIMPLEMENTED, f"{method}: this server does not have this method; upgrade it")
        return endpoint.admit(call)

    def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status | Awaitable[bytes | Status]:
        """Make an admitted call."""
        return self._endpoints[method].unary(request, call)

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Make an admitted call with a stream of responses."""

        async def only() -> AsyncIterator[bytes]:
            yield request

        async def send_or_end(response: bytes) -> None:
            try:
                await send(response)
            except ConnectionError as error:
                raise ClientGone from error

        return await self._endpoints[method].stream(only(), send_or_end, call)
