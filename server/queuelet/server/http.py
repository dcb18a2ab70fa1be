"""The HTTP port: metrics, health, and the way to ask for the end."""

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
from queuelet.web.guard import is_loopback, names_loopback, refuse_web_pages

log = structlog.get_logger()

_SLICE = 0.001
"""How long a scrape goes on before others get their turn, in seconds: for one piece at least."""

_SCRAPES_SHARE = 0.5
"""The part of the time that all scrapes may take together.

With a bare yield gRPC's own thread hardly gets the interpreter's lock: calls were seen to take 6 ms at the median.
"""


class HttpEndpoints:
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
        """Make the pages; `listen` opens a port for them.

        Args:
            connections: holds the connections to bounds.
            problems: returns what is wrong with stores, a sentence each.
            quit_requested: called when `/quitquitquit` is.
            hosts: names of this server, besides those that the guard of `http_guard` knows.
            tag_keys: the keys of tags that have series in the metrics.
        """
        self._manager = manager
        self._connections = connections
        self._registry = registry
        self._is_ready = is_ready
        self._problems = problems
        self._quit_requested = quit_requested
        self._quit_from_anywhere = quit_from_anywhere
        self._hosts = hosts
        self._tag_keys = frozenset(tag_keys)
        self._scrapes = Line(_SCRAPES_SHARE)
        application = web.Application(middlewares=[connections.middleware, refuse_web_pages(hosts)])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_route("*", "/quitquitquit", self._quit)
        # Whoever does not read its answer must not hold up the end of the process.
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def listen(self, host: str, port: int) -> int:
        """Open a port; return its number. Raises OSError where that fails."""
        return await self._connections.listen(self._runner, host, port)

    async def stop(self) -> None:
        """Close the port."""
        self._connections.close()
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        turns = TimeSlice(request.remote or "", line=self._scrapes, seconds=_SLICE)
        await turns.begin()
        with suppress(ConnectionError):  # whoever asked is gone
            for piece in exposition(self._registry, self._manager, now_ns(), self._tag_keys):
                turns.count()
                await response.write(piece)
                turns.resume()
                self._connections.moved(request)
                await turns.give()
        return response

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        """Tell whether calls should come, and what is wrong with stores.

        A store that is full or fails is no reason to be unready: consumers are to drain it, the others are served, and
        an answer with the reason tells a client more than a connection that is refused.
        """
        if not self._is_ready():
            return web.Response(text="draining\n", status=503)
        return web.Response(text="\n".join(["ok", *self._problems(), ""]))

    async def _quit(self, request: web.Request) -> web.Response:
        is_local = is_loopback(request.remote or "") and names_loopback(request, self._hosts)
        if not self._quit_from_anywhere and not is_local:
            text = "/quitquitquit is open to loopback only; start the server with --quit-from-anywhere to open it\n"
            return web.Response(text=text, status=403)
        log.info("shutdown requested", remote=request.remote)
        self._quit_requested()
        return web.Response(text="shutting down\n")
