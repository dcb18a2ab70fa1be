"""Exports: all messages of a browse as lines of JSON, read page by page.

The gateway holds one page at a time, and reads the next one when the client has read this one. If the client
disconnects, nothing more is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import hdrs, web

from queuelet.rest.calls import Caller, RestCall
from queuelet.rest.held_bytes import Holder
from queuelet.rest.json_form import to_json
from queuelet.rest.refusals import Refusal, refusal_of
from queuelet.v1 import queue_pb2 as pb
from queuelet.web.connections import HttpConnections
from queuelet.wire.errors import SERVICE, Status

NDJSON = "application/x-ndjson"
"""The media type of lines of JSON."""

PAGE = 500
"""How many messages are read at a time if the request does not say so. A page with large payloads has fewer."""

_BROWSE = f"{SERVICE}/Browse"

_PIECE = 64 * 1024
"""The most bytes that are written at once, so that a slow client can be distinguished from one that does not read."""

_HEADERS = {
    "Content-Type": NDJSON,
    # Otherwise nginx would collect the lines instead of passing them on.
    "X-Accel-Buffering": "no",
}

Convert = Callable[[bytes], Awaitable[tuple[bytes, str]]]
"""Returns what `lines_of` does, but not in the event loop if that takes long."""


class Export:
    """The response to one request. Its headers are sent with the first page."""

    def __init__(
        self, request: web.Request, caller: Caller, connections: HttpConnections, holder: Holder, convert: Convert
    ) -> None:
        """Make an export.

        Args:
            request: the request.
            caller: makes and authorizes the calls.
            connections: notes when the client reads.
            holder: counts the bytes that wait for it.
            convert: converts a page.
        """
        self._request = request
        self._caller = caller
        self._connections = connections
        self._holder = holder
        self._convert = convert
        self._http = web.StreamResponse(headers=_HEADERS)

    @property
    def has_begun(self) -> bool:
        """Whether the headers were sent."""
        return self._http.prepared

    async def send(self, browse: pb.BrowseRequest, call: RestCall) -> Refusal | None:
        """Send all pages from that of the request on. Return the refusal of the page that was refused, if one was."""
        browse.page_size = browse.page_size or PAGE
        while True:
            response = await self._page(browse, call)
            if isinstance(response, Status):
                return refusal_of(response)
            size = len(response)
            self._holder.hold(size)
            body, browse.page_token = await self._convert(response)
            del response
            self._holder.hold(-size)
            if not self._http.prepared:
                await self._http.prepare(self._request)
            await self._write(body)
            if not browse.page_token:
                return None

    async def end(self, refusal: Refusal | None) -> web.StreamResponse:
        """End the response. With a refusal, that is the last line, and the client sees that the response is cut."""
        with suppress(ConnectionError):
            if refusal is None:
                await self._http.write_eof()
            else:
                await self._write(f"{refusal.to_json()}\n".encode())
        if refusal and self._request.transport:
            # Without the chunk that ends a response, so that no client takes this one for complete.
            self._request.transport.close()
        return self._http

    async def _page(self, browse: pb.BrowseRequest, call: RestCall) -> bytes | Status:
        """Read a page. Each is authorized, because a token may end."""
        status = self._caller.admit(_BROWSE, call)
        if status is not None:
            return status
        response = self._caller.unary(_BROWSE, browse.SerializeToString(), call)
        return response if isinstance(response, bytes | Status) else await response

    async def _write(self, body: bytes) -> None:
        self._holder.hold(len(body))
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            with self._connections.writing(self._request):
                await self._http.write(piece)
            self._holder.hold(-len(piece))


def wants_lines(request: web.BaseRequest) -> bool:
    """Return whether the client asks for lines of JSON instead of one page."""
    return request.headers.get(hdrs.ACCEPT, "").partition(";")[0].strip() == NDJSON


def lines_of(response: bytes) -> tuple[bytes, str]:
    """Return the messages of a page as lines, and the token of the next page, empty for the last one."""
    page = pb.BrowseResponse.FromString(response)
    return "".join(f"{to_json(each)}\n" for each in page.messages).encode(), page.next_page_token
