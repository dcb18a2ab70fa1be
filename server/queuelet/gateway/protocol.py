"""The protocol of the gateway's connections: aiohttp's, but requests that are not valid HTTP are refused as JSON."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import hdrs, web

from queuelet.gateway.headers import HEADERS
from queuelet.rest.handlers import refused
from queuelet.rest.refusals import plain


class GatewayProtocol(web.RequestHandler):
    """A connection. Middlewares never see a request that cannot be parsed, so this is the place for its response."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the response to a request that failed before a handler got it. It closes the connection."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        # Not logged, because anyone could fill the log.
        why = " ".join((message or "").split())[:200]
        response = refused(plain(status, f"request: not valid HTTP ({why}); send HTTP/1.1"))
        response.headers.update({**HEADERS, hdrs.SERVER: "queuelet"})
        response.force_close()
        return response
