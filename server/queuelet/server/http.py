"""The HTTP port: metrics, health, and shutdown on request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import structlog
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.registry import CollectorRegistry

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.fairness import Line, TimeSlice
from queuelet.server.metrics import exposition
from queuelet.web.connections import HttpConnections
from queuelet.web.guard import is_loopback, names_loopback
from queuelet.web.port import HttpPort

log = structlog.get_logger()

_SLICE = 0.001
"""Seconds that a scrape runs before it yields to other work; it writes at least one piece."""

_SCRAPES_SHARE = 0.5
"""The share of the time that all scrapes together may use.

If a scrape only yields to the event loop instead, gRPC's own thread rarely gets the GIL: calls then took 6 ms at the
median.
"""


class ServerHttpPort(HttpPort):
    """`/metrics`, `/healthz`, `/readyz` and `/quitquitquit`."""

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        *,
        manager: Manager,
        connections: HttpConnections,
        registry: CollectorRegistry,
        is_ready: Callable[[], bool],
        problems: Callable[[], Iterable[str]],
        quit_requested: Callable[[], None],
        quit_from_anywhere: bool,
        hosts: Collection[str] = (),
        tag_keys: Collection[str] = (),
    ) -> None:
        """Make the endpoints; `listen` opens the port.

        Args:
            manager: the queues whose metrics are served.
            connections: limits connections.
            registry: the metrics that are not a queue's.
            is_ready: returns whether `/readyz` should report ready.
            problems: returns the problems of stores and credentials, one sentence each.
            quit_requested: called for a permitted `/quitquitquit`.
            quit_from_anywhere: whether others than loopback may call `/quitquitquit`.
            hosts: names of this server, in addition to those that `web/guard.py` allows.
            tag_keys: the keys of queue tags that get series in the metrics.
        """
        self._manager = manager
        self._registry = registry
        self._is_ready = is_ready
        self._problems = problems
        self._quit_requested = quit_requested
        self._quit_from_anywhere = quit_from_anywhere
        self._hosts = hosts
        self._tag_keys = frozenset(tag_keys)
        self._scrapes = Line(_SCRAPES_SHARE)
        routes = [
            web.get("/metrics", self._metrics),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.route("*", "/quitquitquit", self._quit),
        ]
        super().__init__(routes, connections, hosts)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        time_slice = TimeSlice(request.remote or "", line=self._scrapes, seconds=_SLICE)
        await time_slice.begin()
        with suppress(ConnectionError):  # the client disconnected
            for piece in exposition(self._registry, self._manager, now_ns(), self._tag_keys):
                time_slice.count()
                await response.write(piece)
                time_slice.resume()
                self._connections.moved(request)
                await time_slice.give()
        return response

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        """Report whether the server accepts calls, and the problems of stores and credentials.

        The server stays ready while a store is full or has failed, because consumers have to drain a full store, the
        other stores still work, and a response with the reason helps a client more than a refused connection.
        """
        if not self._is_ready():
            return web.Response(text="draining\n", status=503)
        return web.Response(text="\n".join(["ok", *self._problems(), ""]))

    async def _quit(self, request: web.Request) -> web.Response:
        is_local = is_loopback(request.remote or "") and names_loopback(request, self._hosts)
        if not self._quit_from_anywhere and not is_local:
            text = "/quitquitquit: allowed from loopback only; start the server with --quit-from-anywhere to allow it\n"
            return web.Response(text=text, status=403)
        log.info("shutdown requested", remote=request.remote)
        self._quit_requested()
        return web.Response(text="shutting down\n")
