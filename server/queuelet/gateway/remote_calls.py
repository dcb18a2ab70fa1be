"""Calls of a gateway that runs alone: over gRPC to a server."""

from __future__ import annotations

import asyncio

from queuelet.client.raw_calls import RawCalls
from queuelet.errors import ServerDraining, Unauthenticated
from queuelet.rest.calls import RestCall, Send
from queuelet.wire.errors import Status, status_of


class RemoteCalls:
    """Makes calls to a server; a `Caller`. The server authorizes them.

    A request's own token is passed on. A request without a token is made with that of the gateway, if it has one.
    """

    def __init__(self, calls: RawCalls) -> None:
        self._calls = calls
        self._streams: set[asyncio.Task[Status | None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Refuse calls from now on, and end all streams, because they would not end by themselves."""
        self._stopped = True
        for stream in self._streams:
            stream.cancel()

    def admit(self, method: str, call: RestCall) -> Status | None:  # noqa: ARG002  # the protocol's
        """Return the status to refuse a call with: if the gateway is stopping, or would send a token in plain text."""
        if self._stopped:
            return status_of(ServerDraining())
        connection = self._calls.connection
        if call.metadata.get("authorization") and not connection.may_send_tokens:
            return status_of(
                Unauthenticated(
                    f"authorization: the gateway would send the token to {connection.server} in plain text; run it "
                    "with --tls-ca, or with --insecure if you trust the network"
                )
            )
        return None

    async def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status:
        """Make a call."""
        return await self._calls.unary(
            method, request, authorization=call.metadata.get("authorization", ""), seconds=call.seconds_left
        )

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Make a call with a stream of responses."""
        stream = asyncio.ensure_future(
            self._calls.stream(
                method, request, send, authorization=call.metadata.get("authorization", ""), seconds=call.seconds_left
            )
        )
        self._streams.add(stream)
        try:
            return await stream
        except asyncio.CancelledError:
            if self._stopped and stream.cancelled():
                return status_of(ServerDraining())
            stream.cancel()
            raise
        finally:
            self._streams.discard(stream)
