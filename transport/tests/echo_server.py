"""A small asyncio server on `grpc_sansio`, for the tests and for h2spec: `python echo_server.py PORT`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque

import grpc_sansio as g

UNARY, GUARDED, STREAM, SOURCE, SINK, LATER, FAIL = range(7)

ROUTES = {
    "/test.Echo/Unary": (UNARY, g.ROUTE_UNARY),
    "/test.Echo/Guarded": (GUARDED, g.ROUTE_UNARY_GUARDED),
    "/test.Echo/Stream": (STREAM, g.ROUTE_STREAM),
    "/test.Echo/Source": (SOURCE, g.ROUTE_STREAM),
    "/test.Echo/Sink": (SINK, g.ROUTE_STREAM),
    "/test.Echo/Later": (LATER, g.ROUTE_UNARY),
    "/test.Echo/Fail": (FAIL, g.ROUTE_UNARY),
}

WINDOW = 64 * 1024


class Connection(asyncio.Protocol):
    """One connection of an `EchoServer`."""

    def __init__(self, server: EchoServer) -> None:
        self.server = server
        self.core = g.ServerConnection(server.settings)
        self.paused = False
        self.sources: dict[int, deque[bytes]] = {}
        """What a call of Source has yet to send."""
        self.flying: dict[int, int] = {}
        """Bytes given to `send` for a call of Source and not reported as sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self.handle(self.core.receive(b""))

    def data_received(self, data: bytes) -> None:
        self.handle(self.core.receive(data))
        self.flush()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.flush()

    def flush(self) -> None:
        """Write what the core has for the peer."""
        while not self.paused:
            if data := self.core.data_to_send():
                self.transport.write(data)
            self.handle(self.core.events())
            if not self.core.more_to_send:
                break
        if self.core.closed:
            self.transport.close()
        elif self.core.reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def handle(self, events: list[g.Event]) -> None:
        """Serve what has happened."""
        for event in events:
            self.server.events.append(event)
            kind, call, index, number, data = event
            if kind == g.CALL:
                self.announced(call, index)
            elif kind == g.UNARY:
                self.unary(call, index, data)
            elif kind == g.MESSAGE:
                self.message(call, index, data)
            elif kind == g.SENT and call in self.sources:
                self.flying[call] -= number
                self.feed(call)
            elif kind == g.HALF_CLOSED:
                self.half_closed(call, index)
            elif kind in {g.RESET, g.REFUSED}:
                self.sources.pop(call, None)

    def announced(self, call: int, index: int) -> None:
        """Admit a call or refuse it."""
        if index == GUARDED and ("token", "secret") not in self.core.metadata(call):
            self.core.finish(call, 16, "token: missing; send one")
        elif index in {GUARDED, STREAM, SOURCE, SINK}:
            self.core.admit(call)

    def unary(self, call: int, index: int, data: bytes) -> None:
        """Answer a unary call."""
        if index == FAIL:
            given = json.loads(data)
            details = bytes.fromhex(given.get("details", ""))
            metadata = [(key, value) for key, value in given.get("metadata", ())]
            self.core.finish(call, given["code"], given.get("text", ""), details, metadata)
        elif index == LATER:
            self.server.later.append((self, call, data))
        else:
            self.core.reply(call, data)

    def message(self, call: int, index: int, data: bytes) -> None:
        """Serve a message of a stream."""
        if index == STREAM:
            self.core.send(call, data)
            self.core.consumed(call, max(len(data), 1))
        elif index == SOURCE:
            count, size = json.loads(data)
            self.sources[call] = deque(bytes([n % 256]) * size for n in range(count))
            self.flying[call] = 0
            self.feed(call)
        else:
            self.server.sunk.append((self, call, data))

    def half_closed(self, call: int, index: int) -> None:
        """End a call whose client sends no more."""
        if index == STREAM:
            self.core.finish(call, 0)
        elif index == SINK:
            self.core.finish(call, 0, metadata=[("messages", str(len(self.server.sunk)))])
        elif index != SOURCE:
            self.core.finish(call, 3, "request: missing; send one")

    def feed(self, call: int) -> None:
        """Send more of a Source, with at most a window in flight."""
        left = self.sources[call]
        while left and self.flying[call] < WINDOW:
            message = left.popleft()
            self.flying[call] += max(len(message), 1)
            self.core.send(call, message)
        if not left:
            del self.sources[call]
            self.core.finish(call, 0)


class EchoServer:
    """The server."""

    def __init__(self, **limits: int | str) -> None:
        self.settings = g.ServerSettings(ROUTES, **limits)  # type: ignore[arg-type]  # a test gives what fits
        self.connections: set[Connection] = set()
        self.events: list[g.Event] = []
        self.later: list[tuple[Connection, int, bytes]] = []
        """Calls of Later, which a test answers."""
        self.sunk: list[tuple[Connection, int, bytes]] = []
        """Messages of Sink, which a test acknowledges."""

    async def start(self, port: int = 0) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port)
        return int(self.server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        self.server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await self.server.wait_closed()

    def of(self, kind: int) -> list[g.Event]:
        """Return the events of a kind so far."""
        return [event for event in self.events if event[0] == kind]


async def main(port: int) -> None:
    """Serve until the process is killed. Unary paths that are not known answer too, because h2spec calls `/`."""
    server = EchoServer()
    server.settings = g.ServerSettings({**ROUTES, "/": (UNARY, g.ROUTE_UNARY)})
    await server.start(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
