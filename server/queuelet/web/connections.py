"""Limits the connections to an HTTP port: their number, and how long each may be stalled.

This is necessary because aiohttp has no time limit for a client to send headers or to read a response.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple, cast

import structlog
from aiohttp import web

from queuelet.bounds import Bounds

log = structlog.get_logger()

_USUAL = Bounds()

_CHECK_EVERY = 0.5
"""Seconds between checks of connections if no new ones are opened."""

_LOG_EVERY = 10.0
"""The least seconds between two log lines about closed connections."""


class Seen(NamedTuple):
    """A connection at the time of a check."""

    host: str
    moved_at: float
    """When it last sent a complete request or read part of a response, by the monotonic clock."""
    protocol: Any


def excess(connections: Iterable[Seen], most: int) -> list[Seen]:
    """Return the connections to close so that `most` are left.

    Each one is of the address with the most connections at that point, and the longest stalled of these.
    """
    by_host: dict[str, list[Seen]] = {}
    total = 0
    for each in connections:
        by_host.setdefault(each.host, []).append(each)
        total += 1
    if total <= most:
        return []
    for of_host in by_host.values():
        of_host.sort(key=lambda each: each.moved_at, reverse=True)
    chosen: list[Seen] = []
    for _ in range(total - most):
        host = max(by_host, key=lambda host: len(by_host[host]))
        chosen.append(by_host[host].pop())
    return chosen


class HttpConnections:
    """The connections to one port. Its middleware has to be the application's outermost one."""

    def __init__(
        self,
        seconds: float = _USUAL.http_seconds,
        most: int = _USUAL.http_connections,
        *,
        idle_seconds: float | None = None,
    ) -> None:
        """Make it for a port without connections.

        Args:
            seconds: how long a connection may be stalled.
            most: the most open connections.
            idle_seconds: how long a connection may be idle after a response; as long as `seconds` if None.
        """
        self._seconds = seconds
        self._most = most
        self._idle_seconds = seconds if idle_seconds is None else idle_seconds
        self._moved_at: dict[web.RequestHandler, float] = {}
        self._served: set[web.RequestHandler] = set()
        """Connections whose client waits for us, so that they are not stalled."""
        self._idle: set[web.RequestHandler] = set()
        """Connections without a request, after at least one response."""
        self._accepted = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._unlogged: Counter[str] = Counter()
        self._log_after = 0.0
        self.open = 0
        """Open connections, as of the last check."""
        self.stalled = 0
        """Connections that were closed because they were stalled."""
        self.too_many = 0
        """Connections that were closed because there were too many."""

    async def listen(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        protocol: type[web.RequestHandler] = web.RequestHandler,
    ) -> int:
        """Serve an application on a port; return its number. Raises OSError if that fails."""
        await runner.setup()
        server = cast("web.Server", runner.server)  # set up above

        def accept() -> web.RequestHandler:
            self._accepted.set()
            accepted = server()
            # aiohttp has no parameter for the class of its connections.
            accepted.__class__ = protocol
            return accepted

        self._listener = await asyncio.get_running_loop().create_server(accept, host or None, port, ssl=tls)
        for each in self._listener.sockets:
            _detect_vanished(each.fileno())
        self._watch = asyncio.ensure_future(self._check_often(server))
        return int(self._listener.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Close the port, and stop checking connections."""
        if self._listener:
            self._listener.close()
        if self._watch:
            self._watch.cancel()

    def moved(self, request: web.Request) -> None:
        """Note that a request arrived, or that the client read part of its response."""
        self._moved_at[request.protocol] = monotonic()

    @contextmanager
    def serving(self, request: web.Request) -> Iterator[None]:
        """Do not count the connection as stalled in this context, because its client waits for the server."""
        self._served.add(request.protocol)
        try:
            yield
        finally:
            self._served.discard(request.protocol)
            self.moved(request)

    @contextmanager
    def writing(self, request: web.Request) -> Iterator[None]:
        """Count the connection as stalled in this context if its client does not read, also inside of `serving`."""
        self.moved(request)
        was_served = request.protocol in self._served
        self._served.discard(request.protocol)
        try:
            yield
        finally:
            self.moved(request)
            if was_served:
                self._served.add(request.protocol)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Note when a request arrives and when its response is complete."""
        self.moved(request)
        self._idle.discard(request.protocol)
        try:
            return await handler(request)
        finally:
            self.moved(request)
            self._idle.add(request.protocol)

    async def _check_often(self, server: web.Server) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY):
                    await self._accepted.wait()
            self._accepted.clear()
            self._check(server.connections, monotonic())

    def _check(self, opened: Iterable[web.RequestHandler], now: float) -> None:
        """Close stalled connections, and those above the limit."""
        self._moved_at = {
            each: now if each in self._served else self._moved_at.get(each, now)
            for each in opened
            if each.transport is not None
        }
        self._idle &= self._moved_at.keys()
        connections = [Seen(_host(each), moved_at, each) for each, moved_at in self._moved_at.items()]
        still = [each for each in connections if now - each.moved_at > self._allowed(each.protocol)]
        self._close(still)
        self.stalled += len(still)
        crowd = excess((each for each in connections if each.protocol in self._moved_at), self._most)
        self._close(crowd)
        self.too_many += len(crowd)
        self.open = len(self._moved_at)
        self._unlogged.update(each.host for each in crowd)
        if self._unlogged and now >= self._log_after:
            ((host, _),) = self._unlogged.most_common(1)
            log.warning(
                "too many connections to the HTTP port, some were closed",
                remote=host,
                closed=self._unlogged.total(),
                connections=self.open,
            )
            self._unlogged.clear()
            self._log_after = now + _LOG_EVERY

    def _allowed(self, protocol: web.RequestHandler) -> float:
        """Return how many seconds a connection may be stalled."""
        return self._idle_seconds if protocol in self._idle else self._seconds

    def _close(self, chosen: Iterable[Seen]) -> None:
        for each in chosen:
            # Aborted instead of closed, because closing waits until the client has read the response.
            each.protocol.transport.abort()
            del self._moved_at[each.protocol]


def _detect_vanished(listening: int) -> None:
    """Let the kernel detect within 15 seconds that a client has vanished, for connections to a listening socket.

    Otherwise a call of that client would wait for a message, and take it.
    """
    with socket.socket(fileno=os.dup(listening)) as shared:
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 1)):
            if hasattr(socket, option):
                shared.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _host(protocol: web.RequestHandler) -> str:
    peer = protocol.transport.get_extra_info("peername") if protocol.transport else None
    return str(peer[0]) if peer else ""
