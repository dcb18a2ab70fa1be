"""The process of `queuelet console`: a gateway on a port of this machine, for the browser of its user.

If it has a token, other programs of this machine must not use it. So a browser signs in with a key in the fragment of
the address, which is never sent, and gets a cookie that scripts cannot read. The token stays in this process.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from queuelet.addresses import reason_of, split_address
from queuelet.bounds import Bounds
from queuelet.client.connection import Connection
from queuelet.client.raw_calls import RawCalls
from queuelet.console.kubernetes import ProxySocket
from queuelet.console.object_watch import ObjectWatch
from queuelet.console.sign_in_key import SignInKey
from queuelet.gateway.application import IDLE_SECONDS, GatewayPort
from queuelet.gateway.remote_calls import RemoteCalls
from queuelet.web.connections import HttpConnections

CLOSE_AFTER = 1.0
"""Seconds that requests in flight get when the process stops."""

Announce = Callable[[str], None]
"""Is called with the address to open: once at the start, and again whenever its key was used."""


def objects_behind(socket: Path, namespaces: Sequence[str], queue_class: str) -> ObjectWatch:
    """Return what reads Queue objects through the socket of `kubectl proxy`.

    Args:
        socket: the path of the socket.
        namespaces: the namespaces to read; empty for all.
        queue_class: only objects of this class are shown.
    """
    return ObjectWatch(ProxySocket(socket), namespaces=namespaces, queue_class=queue_class)


class LocalConsole:
    """The console of a server, for one user."""

    def __init__(self, connection: Connection, announce: Announce, objects: ObjectWatch | None = None) -> None:
        """Prepare it. Must be called in its event loop.

        Args:
            connection: how to reach the server.
            announce: is given the addresses.
            objects: reads the Queue objects of the server's cluster; None if there are none to show.
        """
        self._calls = RawCalls(connection)
        self._caller = RemoteCalls(self._calls)
        self._announce = announce
        self._key = SignInKey(lambda key: announce(f"{self._address}#key={key}")) if connection.token_file else None
        bounds = Bounds()
        self._port = GatewayPort(
            caller=self._caller,
            connections=HttpConnections(bounds.http_seconds, bounds.gateway_connections, idle_seconds=IDLE_SECONDS),
            bounds=bounds,
            shutdown_timeout=CLOSE_AFTER,
            objects=objects,
            key=self._key,
        )
        self._address = ""

    async def run(self, listen: str, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Args:
            listen: the address of the port, on loopback.
            stop: ends it.

        Raises:
            OSError, ValueError: the port cannot be opened, or a file cannot be used.
        """
        _log_warnings()
        host, port = split_address(listen)
        async with self._calls:
            try:
                number = await self._port.listen(host, port)
            except OSError as error:
                raise OSError(f"--listen {listen}: {reason_of(error)}; leave it out for a free port") from error
            self._address = f"http://[{host}]:{number}/" if ":" in host else f"http://{host}:{number}/"
            if self._key:
                self._key.renew()
            else:
                self._announce(self._address)
            await stop.wait()
            self._caller.stop()
            await self._port.stop()


def _log_warnings() -> None:
    """Log on stderr, because the addresses are on stdout, and only what the user should do something about."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
