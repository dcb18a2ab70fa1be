"""The HTTP port of a process: its connections are limited, and it refuses requests of foreign web pages."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from queuelet.web.connections import HttpConnections
from queuelet.web.guard import refuse_web_pages


class HttpPort:
    """Serves routes on a port."""

    def __init__(  # noqa: PLR0913  # most are for the gateway only, and named
        self,
        routes: Iterable[web.AbstractRouteDef],
        connections: HttpConnections,
        hosts: Collection[str] = (),
        *,
        middlewares: Sequence[Middleware] | None = None,
        protocol: type[web.RequestHandler] = web.RequestHandler,
        shutdown_timeout: float = 1.0,
        **settings: Any,  # noqa: ANN401  # aiohttp's
    ) -> None:
        """Prepare the port; `listen` opens it.

        Args:
            routes: the paths and their handlers.
            connections: limits connections.
            hosts: names of this process, in addition to those that `guard.py` allows.
            middlewares: all middlewares except for that of `connections`; if None, only the guard.
            protocol: the class of connections.
            shutdown_timeout: seconds that requests get at a shutdown. The default is short because a client that does
                not read its response must not delay the shutdown.
            settings: more settings of aiohttp's server, such as `handler_cancellation`.
        """
        self._connections = connections
        self._protocol = protocol
        inner = [refuse_web_pages(hosts)] if middlewares is None else middlewares
        self.application = web.Application(middlewares=[connections.middleware, *inner])
        self.application.add_routes(routes)
        self._runner = web.AppRunner(
            self.application, access_log=None, handle_signals=False, shutdown_timeout=shutdown_timeout, **settings
        )

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Open the port and return its number. Raises `OSError` if that fails."""
        return await self._connections.listen(self._runner, host, port, tls, self._protocol)

    async def stop(self) -> None:
        """Close the port."""
        self._connections.close()
        await self._runner.cleanup()
