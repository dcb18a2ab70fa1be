"""A small asyncio client on `grpc_sansio`, for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc_sansio as g


class EchoClient(asyncio.Protocol):
    """One connection. Collects the events; a test waits for them."""

    def __init__(self, settings: g.ClientSettings) -> None:
        self.core = g.ClientConnection(settings)
        self.events: list[g.Event] = []
        self.trailers: dict[int, g.Metadata] = {}
        self.headers: dict[int, g.Metadata] = {}
        self.reads = True
        """Whether delivered messages are acknowledged."""

    @classmethod
    async def connect(cls, port: int, **limits: int | str) -> EchoClient:
        """Connect to a port of this machine."""
        settings = g.ClientSettings(f"127.0.0.1:{port}", **limits)  # type: ignore[arg-type]  # a test gives what fits
        _, client = await asyncio.get_running_loop().create_connection(lambda: cls(settings), "127.0.0.1", port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.handle(self.core.receive(b""))

    def data_received(self, data: bytes) -> None:
        self.handle(self.core.receive(data))
        self.flush()

    def handle(self, events: list[g.Event]) -> None:
        """Collect events, and what is only readable now."""
        for event in events:
            kind, call, _, _, data = event
            self.events.append(event)
            if kind in {g.UNARY, g.STATUS}:
                self.headers[call] = self.core.metadata(call)
                self.trailers[call] = self.core.trailers(call)
            elif kind == g.MESSAGE and self.reads:
                self.core.consumed(call, max(len(data), 1))

    def flush(self) -> None:
        """Write what the core has for the server."""
        while True:
            self.transport.write(self.core.data_to_send())
            self.handle(self.core.events())
            if not self.core.more_to_send:
                break
        if self.core.closed:
            self.transport.close()

    async def until(self, is_it: Callable[[g.Event], bool]) -> g.Event:
        """Wait for an event."""
        while True:
            for event in self.events:
                if is_it(event):
                    return event
            await asyncio.sleep(0.001)

    async def end(self, call: int) -> g.Event:
        """Wait for the end of a call."""
        return await self.until(lambda event: event[1] == call and event[0] in {g.UNARY, g.STATUS})

    async def unary(self, path: str, message: bytes, metadata: g.Metadata | None = None) -> g.Event:
        """Make a unary call. It is repeated if the server has certainly not processed it, as clients of gRPC do."""
        while True:
            call = self.core.unary(path, message, metadata or [])
            self.flush()
            end = await self.end(call)
            if end[:3] != (g.STATUS, call, 1):
                return end

    def messages(self, call: int) -> list[bytes]:
        """Return the messages of a stream so far."""
        return [event[4] for event in self.events if event[:2] == (g.MESSAGE, call)]
