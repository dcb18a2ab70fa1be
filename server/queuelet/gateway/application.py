"""Composes the HTTP port of the gateway: the REST API and other pages, the guard, headers and errors.

Something new is mounted in `_routes`. It gets the `Caller`, which authorizes each call that it makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from queuelet.bounds import Bounds
from queuelet.console.api_page import ApiPage
from queuelet.console.handlers import ConsoleHandlers
from queuelet.console.object_watch import ObjectWatch
from queuelet.console.sign_in import SignIn
from queuelet.console.sign_in_key import SignInKey
from queuelet.gateway.headers import add_headers
from queuelet.gateway.protocol import GatewayProtocol
from queuelet.rest.calls import Caller
from queuelet.rest.handlers import RestHandlers, refused
from queuelet.rest.hidden_payloads import HiddenPayloads
from queuelet.rest.read_only import ReadOnly
from queuelet.rest.refusals import foreign, no_such_path, plain, wrong_verb
from queuelet.web.connections import HttpConnections
from queuelet.web.guard import refuse_web_pages
from queuelet.web.port import HttpPort

log = structlog.get_logger()

PAGES = frozenset({"/", "/api", "/api/"})
"""What a link in a chat or on another site may open. These are the same for everyone."""

CLIENT_GONE = 499
"""The status of a response whose client has disconnected; for logs only, because it cannot be sent."""

IDLE_SECONDS = 75.0
"""How long a connection may be idle between two requests."""


class GatewayPort(HttpPort):
    """The port. Handlers of clients that disconnect are cancelled, so that they take no message."""

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        *,
        caller: Caller,
        connections: HttpConnections,
        bounds: Bounds,
        read_only: bool = False,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        shutdown_timeout: float = 1.0,
        outermost: Iterable[Middleware] = (),
        more: Iterable[web.AbstractRouteDef] = (),
        objects: ObjectWatch | None = None,
        has_console: bool = True,
        key: SignInKey | None = None,
        hides_payloads: bool = False,
    ) -> None:
        """Prepare the port; `listen` opens it.

        Args:
            caller: makes and authorizes all calls.
            connections: limits connections.
            bounds: the limits on requests.
            read_only: whether to refuse calls that change anything.
            hosts: names of this process, in addition to those that `web/guard.py` allows.
            origins: origins of other sites whose pages may use the port.
            shutdown_timeout: seconds that requests get at a shutdown.
            outermost: middlewares around all others.
            more: routes that only this process has.
            objects: reads the Queue objects of a cluster for the console; None if there are none to show.
            has_console: whether to serve the console too.
            key: signs the user of a console in, whose caller has a token of its own; None for other ports.
            hides_payloads: whether calls that look at messages return the sizes of payloads instead of payloads.
        """
        if read_only:
            caller = ReadOnly(caller)
        if hides_payloads:
            caller = HiddenPayloads(caller)
        console = ConsoleHandlers(caller, connections, objects, hides_payloads=hides_payloads) if has_console else None
        sign_in = SignIn(caller, key)
        super().__init__(
            [
                *sign_in.routes(),
                *_routes(caller, connections, bounds),
                *(console.routes() if console else ()),
                *more,
            ],
            connections,
            middlewares=[
                *outermost,
                _errors,
                refuse_web_pages(hosts, origins, refused=lambda why: refused(foreign(why)), pages=PAGES),
                *([_cross_origin(frozenset(origins))] if origins else []),
                sign_in.middleware,
            ],
            protocol=GatewayProtocol,
            shutdown_timeout=shutdown_timeout,
            handler_cancellation=True,
            auto_decompress=False,
        )
        self.application.on_response_prepare.extend((add_headers, _allow_origin))
        if read_only:
            self.application.on_response_prepare.append(_say_read_only)
        if console:
            self.application.on_shutdown.append(console.close)


def _routes(caller: Caller, connections: HttpConnections, bounds: Bounds) -> list[web.AbstractRouteDef]:
    """Return all routes of the port."""
    return [*RestHandlers(caller, connections, bounds).routes(), *ApiPage(connections).routes()]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give all errors the shape of `refusals.py`, also those of aiohttp's router."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return refused(no_such_path(request.rel_url.raw_path))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return refused(wrong_verb(request.method, allowed), {hdrs.ALLOW: allowed})
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004  # a redirect is no error
            raise
        return refused(plain(error.status, error.text or error.reason))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return web.Response(status=CLIENT_GONE)  # aiohttp would log the error as a defect
        log.exception("request failed", method=request.method, path=request.path)
        return refused(plain(500, "internal error of the server; see its log"))


def _cross_origin(origins: frozenset[str]) -> Middleware:
    """Return a middleware that answers what browsers ask before a page of another site may use the port (CORS)."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_preflight = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        origin = request.headers.get(hdrs.ORIGIN, "")
        if origin not in origins:
            return await handler(request)
        request[_ORIGIN] = origin
        if not is_preflight:
            return await handler(request)
        return web.Response(
            status=204,
            headers={
                hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, DELETE",
                hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, Grpc-Timeout",
                hdrs.ACCESS_CONTROL_MAX_AGE: "600",
            },
        )

    return answer


async def _say_read_only(_: web.Request, response: web.StreamResponse) -> None:
    """Let programs and the console know that calls that change anything are refused."""
    response.headers["Queuelet-Access"] = "read-only"


_ORIGIN = web.RequestKey("origin", str)
"""The origin of an allowed page of another site."""


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let the browser show a response to an allowed page of another site."""
    if _ORIGIN in request:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request[_ORIGIN]
        response.headers[hdrs.VARY] = hdrs.ORIGIN
