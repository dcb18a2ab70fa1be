"""The process of `queuelet rest`: a gateway alone, as negz/q's `qrest` is (Q41)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvloop
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from queuelet import __version__
from queuelet.addresses import reason_of, split_address
from queuelet.bounds import Bounds
from queuelet.client.connection import Connection
from queuelet.client.raw_calls import RawCalls
from queuelet.gateway.application import IDLE_SECONDS, GatewayPort
from queuelet.gateway.figures import GatewayFigures
from queuelet.gateway.remote_calls import RemoteCalls
from queuelet.logs import configure_logs
from queuelet.shutdown import stopped_by_signals
from queuelet.tls_files import TlsFiles
from queuelet.web.connections import HttpConnections
from queuelet.web.guard import is_loopback, names_loopback
from queuelet.web.tls import ServingTls

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """The settings of a gateway; `queuelet rest --help` has a flag for each."""

    connection: Connection
    """How to reach the server."""

    listen: str = ":80"
    """The address of the gateway: `host:port`, or `:port` for all addresses."""

    read_only: bool = False
    """Whether to refuse calls that change anything."""

    debug: bool = False
    """Whether to log each response."""

    close_after: float = 60.0
    """Seconds that requests in flight get at a shutdown before their connections are closed."""

    kill_after: float = 120.0
    """Seconds after which the process ends at a shutdown, whatever is in flight."""

    quit_from_anywhere: bool = False
    """Whether others than loopback may call /quitquitquit."""

    http_hosts: tuple[str, ...] = ()
    """Names that the `Host` of a request may have, in addition to IP addresses and names of local networks."""

    cors: tuple[str, ...] = ()
    """Origins of other sites whose pages may use the gateway."""

    serve_tls_cert: Path | None = None
    serve_tls_key: Path | None = None
    serve_tls_client_ca: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)


class Gateway:
    """A gateway: `run` it, until `request_stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Prepare it. Must be called in its event loop.

        Raises:
            OSError, ValueError: a file named in the settings cannot be used.
        """
        self._settings = settings
        bounds = settings.bounds
        files = TlsFiles.of(
            settings.serve_tls_cert, settings.serve_tls_key, settings.serve_tls_client_ca, flags="--serve-tls"
        )
        self._tls = ServingTls(files).context if files else None
        self._calls = RawCalls(settings.connection)
        self._caller = RemoteCalls(self._calls)
        connections = HttpConnections(bounds.http_seconds, bounds.gateway_connections, idle_seconds=IDLE_SECONDS)
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._figures = GatewayFigures(self._registry, connections)
        self._port = GatewayPort(
            caller=self._caller,
            connections=connections,
            bounds=bounds,
            read_only=settings.read_only,
            hosts=settings.http_hosts,
            origins=settings.cors,
            shutdown_timeout=settings.close_after,
            outermost=[self._observe],
            more=[web.get("/metrics", self._metrics), web.route("*", "/quitquitquit", self._quit)],
        )
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a stop is requested, then let requests in flight finish.

        Raises:
            OSError: the port cannot be opened.
        """
        settings = self._settings
        with stopped_by_signals(self.request_stop, self._stop.is_set):
            async with self._calls:
                port = await self._listen()
                log.info(
                    "gateway initialised",
                    listen=settings.listen,
                    server=settings.connection.server,
                    port=port,
                    version=__version__,
                    tls=self._tls is not None,
                )
                self._warn()
                await self._stop.wait()
                asyncio.get_running_loop().call_later(settings.kill_after, self._kill)
                log.info("draining", close_after=settings.close_after, kill_after=settings.kill_after)
                self._caller.stop()
                await self._port.stop()
        log.info("stopped")

    async def _listen(self) -> int:
        try:
            return await self._port.listen(*split_address(self._settings.listen), self._tls)
        except OSError as error:
            text = f"--listen {self._settings.listen}: {reason_of(error)}; give another address, such as 127.0.0.1:8080"
            raise OSError(text) from error

    def _warn(self) -> None:
        """Warn if others than this machine can use the gateway's token."""
        token_file = self._settings.connection.token_file
        if token_file and not is_loopback(split_address(self._settings.listen)[0]):
            log.warning(
                "requests without a token are made with that of the gateway; let only trusted clients reach it",
                token_file=str(token_file),
            )

    def request_stop(self) -> None:
        """Start the shutdown."""
        self._stop.set()

    def _kill(self) -> None:
        log.warning("stopped with requests in flight", kill_after=self._settings.kill_after)
        os._exit(1)

    @web.middleware
    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log a request, with negz/q's keys, and count its response."""
        log.info(
            "request",
            host=request.host,
            method=request.method,
            url=request.path_qs,
            agent=request.headers.get(hdrs.USER_AGENT, ""),
            remote=request.remote,
        )
        with self._figures.request(request.method) as seen:
            response = await handler(request)
            seen.status = response.status
        log.debug("forwarded response", method=request.method, url=request.path_qs, status=response.status)
        return response

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _quit(self, request: web.Request) -> web.Response:
        is_local = is_loopback(request.remote or "") and names_loopback(request, self._settings.http_hosts)
        if not self._settings.quit_from_anywhere and not is_local:
            text = "/quitquitquit: allowed from loopback only; start the gateway with --quit-from-anywhere to allow it"
            raise web.HTTPForbidden(text=text)
        log.info("shutdown requested", remote=request.remote)
        self.request_stop()
        return web.Response(text="shutting down\n")


def run(settings: GatewaySettings) -> None:
    """Run a gateway in this process, and configure its logs."""
    configure_logs(debug=settings.debug)

    async def serve() -> None:
        await Gateway(settings).run()

    uvloop.run(serve())
