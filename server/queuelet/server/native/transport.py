"""The native transport of a server."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator

import structlog

from queuelet.addresses import reason_of
from queuelet.bounds import Bounds
from queuelet.server import sockets
from queuelet.server.endpoint import Endpoint
from queuelet.server.incoming import IncomingLimit
from queuelet.server.native import health, reflection
from queuelet.server.native.connection import Connection
from queuelet.server.native.drain import drain
from queuelet.server.native.health import Health
from queuelet.server.native.listener import Listener, open_sockets, peer_name
from queuelet.server.native.port import Port, PortConnection
from queuelet.server.native.reflection import Reflection
from queuelet.server.transport import CHECK_EVERY, HANDSHAKE_SECONDS, cannot_listen
from queuelet.tls_files import TlsFiles
from queuelet.web.tls import ServingTls

log = structlog.get_logger()


class NativeTransport:
    """A `Transport` over our own core."""

    name = "native"

    def __init__(self, endpoints: Iterable[Endpoint], bounds: Bounds, incoming: IncomingLimit) -> None:
        """Bind the endpoints; `listen` opens a port."""
        endpoints = list(endpoints)
        names = [*dict.fromkeys(each.service for each in endpoints), health.SERVICE]
        self._health = Health(names)
        others = [*self._health.methods(), *Reflection([*names, reflection.SERVICE]).methods()]
        self._port = Port(endpoints, others, bounds, incoming)
        self._listener: Listener | None = None
        self._tls: ServingTls | None = None
        self._watch: asyncio.Task[None] | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._by_peer: dict[sockets.Peer, PortConnection] = {}
        """The connections that `IncomingLimit` has seen at its last check."""

    def listen(self, address: str, tls: TlsFiles | None) -> int:
        """Open a port, with TLS if files are given for it; return its number.

        Raises:
            OSError: the address cannot be listened on.
        """
        try:
            opened = open_sockets(address)
        except OSError as error:
            raise cannot_listen(address, reason_of(error)) from error
        self._tls = ServingTls(tls, "h2") if tls else None
        self._listener = Listener(opened, self._accept)
        port = int(opened[0].getsockname()[1])
        self._port.incoming.listen(port, self._opened, self._cut)
        return port

    async def start(self) -> None:
        """Start serving."""
        if self._listener:
            self._listener.start()
        self._watch = asyncio.ensure_future(self._check_often())

    async def not_serving(self) -> None:
        """Report NOT_SERVING to health checks from now on."""
        self._health.not_serving()

    async def stop(self, grace: float) -> None:
        """Accept no new calls, wait up to `grace` seconds for the calls in flight, then end the rest."""
        self._health.end_watches()
        if self._listener:
            self._listener.close()
        await drain(self._port, grace)
        for task in self._connecting:
            task.cancel()
        if self._watch:
            self._watch.cancel()

    def _accept(self, accepted: socket.socket) -> None:
        """Serve an accepted connection, unless there are too many."""
        try:
            peer = peer_name(accepted)
        except OSError:
            accepted.close()
            return
        if len(self._port.connections) >= self._port.bounds.connections:
            accepted.close()
            return
        connection = Connection(self._port, accepted, peer)
        task = asyncio.ensure_future(self._connect(connection, accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        """Make the transport of an accepted connection. Each TLS handshake uses the newest certificate."""
        context = self._tls.current() if self._tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            )
        except (OSError, ssl.SSLError) as error:
            log.debug("connection failed", peer=str(connection.flow.peer.host), error=str(error))
            connection.failed()
            accepted.close()

    async def _check_often(self) -> None:
        incoming = self._port.incoming
        while True:
            await asyncio.sleep(CHECK_EVERY)
            incoming.check()
            incoming.timed_out += self._port.overdue.end_overdue()

    def _opened(self, _: int) -> Iterator[sockets.Connection]:
        self._by_peer = {connection.flow.peer: connection for connection in self._port.connections}
        for peer, connection in self._by_peer.items():
            yield sockets.Connection(peer, -1, connection.measure())

    def _cut(self, connection: sockets.Connection, _: int) -> bool:
        opened = self._by_peer.get(connection.peer)
        if opened is None:
            return False
        opened.abort()
        return True
