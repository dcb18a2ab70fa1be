"""Serves the console over HTTP: its page, its files, the board, and the stream of the board's changes.

All paths in the pages are relative, so that the console works behind any prefix.
"""

from __future__ import annotations

import gzip
from contextlib import aclosing, suppress

from aiohttp import web

from queuelet.console import assets
from queuelet.console.feed import BoardReset, Feed
from queuelet.console.object_watch import ObjectWatch
from queuelet.console.source import Source, SourceLost
from queuelet.errors import InvalidArgument
from queuelet.rest.calls import USUAL_SECONDS, Caller
from queuelet.rest.handlers import refused, rest_call
from queuelet.rest.refusals import refusal_of, refusal_of_error
from queuelet.web.connections import HttpConnections
from queuelet.wire.errors import SERVICE, Code, Status

_POLICY = (
    "default-src 'none'; script-src 'self' '{hash}'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

_PACK_FROM = 1_024
"""The size in bytes from which the board is compressed."""

_MAX_DIGITS = 15
"""The most digits of a frame's number."""


class ConsoleHandlers:
    """The routes of the console."""

    def __init__(
        self,
        caller: Caller,
        connections: HttpConnections,
        objects: ObjectWatch | None = None,
        *,
        hides_payloads: bool = False,
    ) -> None:
        """Make the handlers.

        Args:
            caller: makes and authorizes calls.
            connections: notes which connections are in use.
            objects: reads the Queue objects of a cluster; None if there are none to show.
            hides_payloads: whether pages have to do without payloads.
        """
        self._source = Source(caller)
        self._feed = Feed(self._source, objects, {"hidesPayloads": hides_payloads})
        self._connections = connections
        self._packed: tuple[str, bytes] = ("", b"")

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/", self._index),
            web.get("/console/board", self._board),
            web.get("/console/live", self._live, allow_head=False),
            web.get("/console/{path:.+}", self._asset),
        ]

    async def close(self, _: object = None) -> None:
        """End the watch and all streams, because the port closes."""
        await self._feed.close()

    async def _index(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Security-Policy": _POLICY.format(hash=assets.script_hash())}
        return await assets.respond(request, assets.INDEX, self._connections, headers)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        file = assets.find(request.match_info["path"])
        if file is None:
            raise web.HTTPNotFound
        return await assets.respond(request, file, self._connections, {})

    async def _board(self, request: web.Request) -> web.Response:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            with self._connections.serving(request):
                version, body = await self._feed.snapshot()
        except SourceLost as error:
            return refused(refusal_of(Status(Code.UNAVAILABLE, f"{error}; retry")))
        if self._packed[0] != version:
            self._packed = (version, gzip.compress(body, 5) if len(body) >= _PACK_FROM else b"")
        headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding", "ETag": f'"{version}"'}
        if any(each.value == version for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        if self._packed[1] and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = self._packed[1]
        return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})

    async def _live(self, request: web.Request) -> web.StreamResponse:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        since = request.query.get("since", "")
        if not since.isdecimal() or len(since) > _MAX_DIGITS:
            error = InvalidArgument(f"since: {since[:20]!r} is not a number; use that of the board", field="since")
            return refused(refusal_of_error(error))
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        frames = self._feed.frames(request.query.get("board", ""), int(since))
        with suppress(ConnectionError), self._connections.serving(request):  # the client may disconnect
            try:
                async with aclosing(frames):
                    async for frame in frames:
                        with self._connections.writing(request):
                            await response.write(frame)
            except BoardReset:
                await response.write(b"event: reset\ndata: {}\n\n")
        return response

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the response for a reader that may not see the queues, otherwise None."""
        status = await self._source.admit(rest_call(request, SERVICE, USUAL_SECONDS))
        return None if status is None else refused(refusal_of(status))
