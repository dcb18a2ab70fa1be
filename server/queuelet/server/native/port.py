"""What all connections to a port share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from grpc_sansio import ROUTE_STREAM, ROUTE_UNARY, ROUTE_UNARY_GUARDED
from queuelet.bounds import Bounds
from queuelet.server.endpoint import Endpoint
from queuelet.server.incoming import Flow, IncomingLimit
from queuelet.server.native.overdue import Overdue
from queuelet.server.native.served import Served, Unguarded
from queuelet.server.native.settings import core_settings
from queuelet.server.transport import overdue
from queuelet.wire.errors import Status


class PortConnection(Protocol):
    """A connection, as the limits and the drain of its port see it."""

    flow: Flow
    """What it holds, as `IncomingLimit` sees it."""

    @property
    def open_calls(self) -> int:
        """The number of open calls."""

    def measure(self) -> int:
        """Update its flow; return how many bytes to count as received for that."""

    def abort(self) -> None:
        """End it at once."""

    def drain(self) -> None:
        """Ask the client to start no new calls; the connection ends with the last open one."""

    def close(self, status: Status) -> Iterable[asyncio.Task[None]]:
        """End each open call with a status, and then the connection; return the handlers that are still ending."""


class Port:
    """The methods that are served, the limits, and the open connections."""

    def __init__(
        self, endpoints: Sequence[Endpoint], others: Sequence[Unguarded], bounds: Bounds, incoming: IncomingLimit
    ) -> None:
        """Make it for endpoints, and for methods of health and reflection."""
        self.served: list[Served] = [*endpoints, *others]
        """The methods, by the index of their route."""
        self.unary = [each.unary for each in self.served]
        self.is_stream = [*(each.method.stream is not None for each in endpoints), *(each.is_stream for each in others)]
        self.is_unguarded = [False] * len(endpoints) + [True] * len(others)
        routes = {f"/{each.service}/{each.method.name}": _kind(each) for each in endpoints}
        routes |= {f"/{each.service}/{each.name}": ROUTE_STREAM if each.is_stream else ROUTE_UNARY for each in others}
        by_path = {path: (index, kind) for index, (path, kind) in enumerate(routes.items())}
        self.settings = core_settings(by_path, bounds)
        self.bounds = bounds
        self.incoming = incoming
        self.overdue = Overdue(bounds.request_seconds)
        self.overdue_status = overdue(bounds.request_seconds)
        self.connections: set[PortConnection] = set()
        self.is_draining = False
        self.emptied = asyncio.Event()
        """Set whenever the last connection has ended."""

    def add(self, connection: PortConnection) -> None:
        """Count a connection that was accepted."""
        self.connections.add(connection)
        self.emptied.clear()

    def remove(self, connection: PortConnection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self.emptied.set()


def _kind(endpoint: Endpoint) -> int:
    if endpoint.method.stream:
        return ROUTE_STREAM
    return ROUTE_UNARY_GUARDED if endpoint.is_guarded else ROUTE_UNARY
