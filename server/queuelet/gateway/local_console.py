"""The process of `queuelet console`: a gateway on a port of this machine, for the browser of its user.

If it has a token, other programs of this machine must not use it. So a browser signs in with a key in the fragment of
the address, which is never sent, and gets a cookie that scripts cannot read. The token stays in this process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from queuelet.addresses import reason_of, split_address
from queuelet.bounds import Bounds
from queuelet.client.connection import Connection
from queuelet.client.raw_calls import RawCalls
from queuelet.console.kubernetes import ProxySocket
from queuelet.console.object_watch import ObjectWatch
from queuelet.gateway.application import IDLE_SECONDS, GatewayPort
from queuelet.gateway.remote_calls import RemoteCalls
from queuelet.gateway.sessions import LONGEST, Sessions
from queuelet.rest.handlers import refused
from queuelet.rest.refusals import plain
from queuelet.web.connections import HttpConnections

CLOSE_AFTER = 1.0
"""Seconds that requests in flight get when the process stops."""

SIGN_IN = "/console/session"

_MOST_KEY = 1_000
"""The most bytes of a request to sign in."""

_PUBLIC = frozenset({"/", SIGN_IN, "/api", "/openapi.json"})
_PUBLIC_FOLDERS = ("/console/app/", "/console/style/", "/console/vendor/", "/api/")
"""The pages, which are no secret. Everything else needs a session, or a token of its own."""

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
        self._sessions = Sessions() if connection.token_file else None
        self._announce = announce
        bounds = Bounds()
        self._port = GatewayPort(
            caller=self._caller,
            connections=HttpConnections(bounds.http_seconds, bounds.gateway_connections, idle_seconds=IDLE_SECONDS),
            bounds=bounds,
            shutdown_timeout=CLOSE_AFTER,
            outermost=[self._admit] if self._sessions else [],
            more=[web.post(SIGN_IN, self._sign_in)],
            objects=objects,
        )
        self._address = ""
        self._cookie = ""

    async def run(self, listen: str, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Args:
            listen: the address of the port, on loopback.
            stop: ends it.

        Raises:
            OSError, ValueError: the port cannot be opened, or a file cannot be used.
        """
        host, port = split_address(listen)
        async with self._calls:
            try:
                number = await self._port.listen(host, port)
            except OSError as error:
                raise OSError(f"--listen {listen}: {reason_of(error)}; leave it out for a free port") from error
            self._address = f"http://[{host}]:{number}/" if ":" in host else f"http://{host}:{number}/"
            # Cookies do not distinguish ports, so those of two consoles need different names.
            self._cookie = f"queuelet-{number}"
            self._announce_next()
            await stop.wait()
            self._caller.stop()
            await self._port.stop()

    def _announce_next(self) -> None:
        self._announce(f"{self._address}#key={self._sessions.new_key()}" if self._sessions else self._address)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse calls without a session, unless they have a token of their own, which the server checks."""
        is_public = request.path in _PUBLIC or request.path.startswith(_PUBLIC_FOLDERS)
        cookie = request.cookies.get(self._cookie, "")
        if is_public or hdrs.AUTHORIZATION in request.headers or (self._sessions and self._sessions.admits(cookie)):
            return await handler(request)
        return refused(
            plain(
                HTTPStatus.UNAUTHORIZED,
                "authorization: not signed in; open the address that `queuelet console` printed last, "
                "or send the server's token",
            )
        )

    async def _sign_in(self, request: web.Request) -> web.Response:
        """Exchange the key for a cookie."""
        if (request.content_length or _MOST_KEY + 1) > _MOST_KEY:
            return refused(plain(HTTPStatus.BAD_REQUEST, 'body: send {"key": "…"}'))
        try:
            key = json.loads(await request.read())["key"]
        except (ValueError, TypeError, KeyError):
            key = None
        if not isinstance(key, str):
            return refused(plain(HTTPStatus.BAD_REQUEST, 'body: send {"key": "…"}'))
        session = self._sessions.sign_in(key) if self._sessions else None
        if session is None:
            text = "key: it was used already, or is not the newest; open the address that was printed last"
            return refused(plain(HTTPStatus.FORBIDDEN, text))
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.set_cookie(self._cookie, session, max_age=int(LONGEST), path="/", httponly=True, samesite="Strict")
        self._announce_next()
        return response
