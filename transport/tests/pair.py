"""A client and a server in memory: bytes move when a test says so."""

from __future__ import annotations

import grpc_sansio as g

ROUTES = {
    "/test.Pair/Unary": (0, g.ROUTE_UNARY),
    "/test.Pair/Guarded": (1, g.ROUTE_UNARY_GUARDED),
    "/test.Pair/Stream": (2, g.ROUTE_STREAM),
}


class Pair:
    """Both ends of a connection."""

    def __init__(self, *, server: dict[str, int] | None = None, client: dict[str, int] | None = None) -> None:
        self.server = g.ServerConnection(g.ServerSettings(ROUTES, **(server or {})))  # type: ignore[arg-type]  # none is a text
        self.client = g.ClientConnection(g.ClientSettings("pair", **(client or {})))  # type: ignore[arg-type]  # none is a text
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.server_events: list[g.Event] = []
        self.client_events: list[g.Event] = []

    def collect(self) -> None:
        """Take the bytes that both ends want to send."""
        self.to_server += self.client.data_to_send()
        self.client_events += self.client.events()
        self.to_client += self.server.data_to_send()
        self.server_events += self.server.events()

    def forward(self, size: int) -> bool:
        """Move up to a number of bytes to the server. Return whether there were any."""
        self.collect()
        data = bytes(self.to_server[:size])
        del self.to_server[:size]
        if data:
            self.server_events += self.server.receive(data)
        return bool(data)

    def backward(self, size: int) -> bool:
        """Move up to a number of bytes to the client. Return whether there were any."""
        self.collect()
        data = bytes(self.to_client[:size])
        del self.to_client[:size]
        if data:
            self.client_events += self.client.receive(data)
        return bool(data)

    def settle(self) -> None:
        """Move bytes until no end has any."""
        while True:
            moved = self.forward(1 << 30)
            moved |= self.backward(1 << 30)
            if not (moved or self.client.more_to_send or self.server.more_to_send):
                break
