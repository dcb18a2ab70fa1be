"""The HTTP port of a process: its connections are limited, and it refuses requests of foreign web pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiohttp import web

from queuelet.web.connections import HttpConnections
from queuelet.web.guard import refuse_web_pages


class HttpPort:
    """Serves routes on a port."""

    def __init__(
        self, routes: Iterable[web.RouteDef], connections: HttpConnections, hosts: Collection[str] = ()
    ) -> None:
        """Prepare the port; `listen` opens it.

        Args:
            routes: the paths and their handlers.
            connections: limits connections.
            hosts: names of this process, in addition to those that `guard.py` allows.
        """
        self._connections = connections
        application = web.Application(middlewares=[connections.middleware, refuse_web_pages(hosts)])
        application.add_routes(routes)
        # The timeout is short because a client that does not read its response must not delay the shutdown.
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def listen(self, host: str, port: int) -> int:
        """Open the port and return its number. Raises `OSError` if that fails."""
        return await self._connections.listen(self._runner, host, port)

    async def stop(self) -> None:
        """Close the port."""
        self._connections.close()
        await self._runner.cleanup()
