"""Direct connections to the servers that own queues, if several servers share them.

Each server serves any queue, by passing calls on to its owner. A response that came from another server names it, and
the following calls about the queue go to it directly, as soon as there is a connection. If there is none, for example
because the address is only reachable inside a cluster, they go on as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any, cast

import grpc

from queuelet.client.connection import Connection, direct_channel
from queuelet.client.forks import is_inherited
from queuelet.wire.errors import SERVICE
from queuelet.wire.forwarding import OWNER
from queuelet.wire.queue_field import QUEUE_FIELDS, queue_of

_MAX_QUEUES = 10_000
"""The largest number of queues whose owners are remembered."""

_MAX_SERVERS = 64
"""The largest number of servers to connect to."""

_CONNECT_SECONDS = 10.0
"""After how many seconds without a connection a server counts as unreachable from here."""

_UNREACHABLE_SECONDS = 300.0
"""For how many seconds it does."""


class _Server:
    """A connection to a server, or the note that there is none."""

    def __init__(self, channel: grpc.aio.Channel | None) -> None:
        self.channel = channel
        self.calls: dict[str, Any] = {}
        self.until = monotonic() + _CONNECT_SECONDS
        """Until when it has to be connected, or until when it counts as unreachable if there is no channel."""

    @property
    def is_ready(self) -> bool:
        """Whether it can be called. If not, it begins to connect."""
        if self.channel is None:
            return False
        is_ready = self.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
        if is_ready:
            self.until = monotonic() + _CONNECT_SECONDS
        return is_ready

    def call(self, name: str) -> Any:  # noqa: ANN401  # gRPC's callable has no type for what it carries
        """Return gRPC's callable of a method, for a server that is ready."""
        call = self.calls.get(name)
        if call is None:
            call = self.calls[name] = cast("Any", self.channel).unary_unary(f"/{SERVICE}/{name}")
        return call


class DirectChannels:
    """The owners of queues as responses named them, and the connections to them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._owners: dict[str, str] = {}
        self._servers: dict[str, _Server] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def queue(self, name: str, request: bytes) -> str:
        """Return the queue of a request; empty if it names none or several."""
        path = QUEUE_FIELDS.get(name)
        return queue_of(request, path) if path else ""

    def call(self, name: str, queue: str) -> Any:  # noqa: ANN401  # as above
        """Return gRPC's callable of a method at the owner of a queue; None to call the usual address."""
        server = self._server(queue)
        return server.call(name) if server is not None and server.is_ready else None

    def channel(self, queue: str) -> grpc.aio.Channel | None:
        """Return the connection to the owner of a queue; None to use the usual one."""
        server = self._server(queue)
        return server.channel if server is not None and server.is_ready else None

    async def connect(self, queue: str, seconds: float) -> None:
        """Wait for a connection to the owner of a queue, if it is known and was not found unreachable.

        Args:
            queue: The queue.
            seconds: How long to wait at most.
        """
        server = self._server(queue)
        if server is None or server.channel is None or server.is_ready:
            return
        ready = asyncio.ensure_future(server.channel.channel_ready())
        try:
            await asyncio.wait([ready], timeout=seconds)
        finally:
            ready.cancel()

    def note(self, queue: str, trailing: Iterable[tuple[str, str | bytes]] | None, *, was_direct: bool) -> None:
        """Remember the owner that a response names.

        Args:
            queue: The queue.
            trailing: The metadata after the response.
            was_direct: Whether the owner was called directly. It then names itself by naming none.
        """
        owner = next((value for key, value in trailing or () if key == OWNER), None)
        if isinstance(owner, str):
            if self._owners.get(queue) != owner:
                if len(self._owners) >= _MAX_QUEUES:
                    self._owners.clear()
                self._owners[queue] = owner
                self._server(queue)
        elif not was_direct and self._owners:
            self._owners.pop(queue, None)

    def forget(self, queue: str) -> None:
        """Forget the owner of a queue, because a call to it failed."""
        self._owners.pop(queue, None)

    async def close(self) -> None:
        """Close all connections."""
        channels = [server.channel for server in self._servers.values() if server.channel is not None]
        self._servers.clear()
        self._owners.clear()
        await asyncio.gather(*(channel.close() for channel in channels if not is_inherited(channel)))

    def _server(self, queue: str) -> _Server | None:
        """Return the owner of a queue; None if it is not known. It begins to connect."""
        owner = self._owners.get(queue) if self._owners else None
        if owner is None:
            return None
        server = self._servers.get(owner)
        if server is not None and not server.is_ready and server.until < monotonic():
            self._drop(owner, server)
            server = self._servers.get(owner)
        if server is None and len(self._servers) < _MAX_SERVERS:
            server = self._servers[owner] = _Server(direct_channel(self._connection, owner))
            _ = server.is_ready
        return server

    def _drop(self, owner: str, server: _Server) -> None:
        """Give up a connection for a while, or try again after that while."""
        channel, server.channel = server.channel, None
        if channel is None:
            del self._servers[owner]
            return
        server.until = monotonic() + _UNREACHABLE_SECONDS
        task = asyncio.ensure_future(channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
