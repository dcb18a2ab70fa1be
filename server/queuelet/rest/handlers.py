"""Serves the routes with aiohttp: a request becomes a call, and its response becomes JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from types import MappingProxyType

import structlog
from aiohttp import hdrs, web
from google.protobuf.message import Message

from queuelet.bounds import Bounds
from queuelet.errors import DeadlineExceeded, InvalidArgument, MessageTooLarge, QueueletError
from queuelet.rest.calls import USUAL_SECONDS, Caller, RestCall, timeout_of
from queuelet.rest.events import EventStream
from queuelet.rest.export import Export, lines_of, wants_lines
from queuelet.rest.held_bytes import HeldBytes, Holder
from queuelet.rest.json_form import read_json, read_texts, to_json
from queuelet.rest.refusals import Refusal, foreign, no_such_path, refusal_of, refusal_of_error, wrong_verb
from queuelet.rest.routes import Match, NoRoute, Route, Routes, WrongVerb, queue_routes
from queuelet.v1 import queue_pb2 as pb
from queuelet.web.connections import HttpConnections
from queuelet.web.guard import why_not_consumed
from queuelet.wire.errors import Status

log = structlog.get_logger()

_LARGE = 64 * 1024
"""Bodies above this many bytes are read, written and converted in pieces or in a thread."""

_BODIES = 64 * 1024 * 1024
"""The most bytes of bodies that the gateway holds, unless messages may be so large that it needs more."""

_CONVERSIONS = 4
"""How many large bodies are converted at a time, because that takes several times their size."""

_REQUEST_OVERHEAD = 4_096
"""Bytes that a request may have in addition to the largest message, as over gRPC."""

_METADATA = ("authorization",)
"""The headers that become metadata of the call."""

JSON = "application/json"

AUTHORIZATION = web.RequestKey("authorization", str)
"""The `Authorization` of a request that has it from its session and not from a header."""


class RestHandlers:
    """The handlers of the REST API."""

    def __init__(self, caller: Caller, connections: HttpConnections, bounds: Bounds) -> None:
        """Make the handlers.

        Args:
            caller: makes and authorizes the calls.
            connections: notes which connections are in use.
            bounds: the limits on requests.
        """
        self._caller = caller
        self._connections = connections
        self._seconds = bounds.request_seconds
        self._most = bounds.message_bytes + _REQUEST_OVERHEAD
        # JSON has bytes as base64, which takes a third more.
        self._most_json = self._most * 4 // 3 + _LARGE
        self._routes = Routes(queue_routes())
        self._bodies = HeldBytes(max(_BODIES, 4 * self._most_json))
        self._conversions = asyncio.Semaphore(_CONVERSIONS)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes for aiohttp: one for all paths of the API, because `routes.py` finds their routes."""
        return [web.route("*", "/v1/{path:.*}", self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a request."""
        path = request.rel_url.raw_path
        try:
            match = self._routes.match(request.method, path)
        except NoRoute:
            return refused(no_such_path(path))
        except WrongVerb as error:
            allowed = ", ".join(error.allowed)
            return refused(wrong_verb(request.method, allowed), {hdrs.ALLOW: allowed})
        except QueueletError as error:
            return refused(refusal_of_error(error))
        route = match.route
        if route.method == "Pop" and request.method == hdrs.METH_GET and (why := why_not_consumed(request)):
            return refused(foreign(why))
        try:
            with Holder(self._bodies, request.remote or "", lambda: _abort(request)) as holder:
                return await self._call(request, match, holder)
        except QueueletError as error:
            return refused(refusal_of_error(error, negz=route.is_negz))

    async def _call(self, request: web.Request, match: Match, holder: Holder) -> web.StreamResponse:
        route = match.route
        timeout = timeout_of(request.headers.get("Grpc-Timeout"))
        exports = route.method == "Browse" and wants_lines(request)
        if timeout is None and not route.streams and not exports:
            timeout = USUAL_SECONDS
        call = rest_call(request, route.service, timeout)
        status = self._caller.admit(route.call, call)
        if status is not None:
            return refused(refusal_of(status, negz=route.is_negz))
        data = await self._request(request, match, holder)
        if exports:
            with self._connections.serving(request):
                return await self._export(request, data, call, timeout, holder)
        if route.streams:
            with self._connections.serving(request):
                return await self._stream(request, route, data, call, timeout, holder)
        response = self._caller.unary(route.call, data, call)
        if not isinstance(response, bytes | Status):
            with self._connections.serving(request):
                async with _deadline(timeout):
                    response = await response
        if not isinstance(response, bytes):
            return refused(refusal_of(response, negz=route.is_negz))
        if len(response) <= _LARGE:
            return as_json(to_json(route.response.FromString(response)))
        with self._connections.serving(request):
            converting = self._convert(route, response, holder)
            del response  # its memory is needed for the JSON
            return await self._large(request, await converting, holder)

    async def _stream(  # noqa: PLR0913, PLR0917  # all that is known of the call
        self,
        request: web.Request,
        route: Route,
        data: bytes,
        call: RestCall,
        seconds: float | None,
        holder: Holder,
    ) -> web.StreamResponse:
        if request.headers.get(hdrs.ACCEPT, "").partition(";")[0].strip() == JSON:
            return await self._last_of_stream(route, data, call, seconds)
        events = EventStream(request, route.response, self._connections, holder)
        try:
            async with _deadline(seconds):
                status = await self._caller.stream(route.call, data, events.send, call)
            refusal = refusal_of(status) if status else None
        except DeadlineExceeded as error:
            refusal = refusal_of_error(error)
        finally:
            events.close()
        if refusal and not events.has_begun:
            return refused(refusal)
        return await events.end(refusal)

    async def _export(
        self, request: web.Request, data: bytes, call: RestCall, seconds: float | None, holder: Holder
    ) -> web.StreamResponse:
        """Serve all pages of a browse as lines."""
        export = Export(request, self._caller, self._connections, holder, self._lines)
        try:
            async with _deadline(seconds):
                refusal = await export.send(pb.BrowseRequest.FromString(data), call)
        except DeadlineExceeded as error:
            refusal = refusal_of_error(error)
        if refusal and not export.has_begun:
            return refused(refusal)
        return await export.end(refusal)

    async def _lines(self, response: bytes) -> tuple[bytes, str]:
        if len(response) <= _LARGE:
            return lines_of(response)
        async with self._conversions:
            return await asyncio.to_thread(lines_of, response)

    async def _last_of_stream(
        self, route: Route, data: bytes, call: RestCall, seconds: float | None
    ) -> web.StreamResponse:
        """Serve a stream that ends by itself as one response: the last one, which has the result."""
        if route.method != "Redrive":
            raise InvalidArgument(
                "Accept: this stream does not end by itself; accept text/event-stream", field="Accept"
            )
        last = b""

        async def keep(response: bytes) -> None:
            nonlocal last
            last = response

        async with _deadline(seconds):
            status = await self._caller.stream(route.call, data, keep, call)
        if status:
            return refused(refusal_of(status))
        return as_json(to_json(route.response.FromString(last)))

    async def _convert(self, route: Route, data: bytes, holder: Holder) -> bytes:
        """Return a large response as JSON."""
        holder.hold(len(data))
        async with self._conversions:
            body = await asyncio.to_thread(lambda: to_json(route.response.FromString(data)).encode())
        holder.hold(len(body) - len(data))
        return body

    async def _large(self, request: web.Request, body: bytes, holder: Holder) -> web.StreamResponse:
        """Send a large response in pieces, so that a slow client can be distinguished from one that does not read."""
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), _LARGE):
            piece = body[start : start + _LARGE]
            with self._connections.writing(request):
                await response.write(piece)
            holder.hold(-len(piece))
        with self._connections.writing(request):
            await response.write_eof()
        return response

    # From the request to protobuf

    async def _request(self, request: web.Request, match: Match, holder: Holder) -> bytes:
        """Return the request of the call: from the path, the query and the body."""
        route, message = match.route, match.route.request()
        body = await self._body(request, holder)
        if not route.body:
            if body.strip():
                raise InvalidArgument(
                    f"body: not allowed with {route.verb} {route.template}; give the fields in the query", field="body"
                )
        elif len(body) > _LARGE:
            async with self._conversions:
                await asyncio.to_thread(_read_body, body, route, message)
        else:
            _read_body(body, route, message)
        if route.body == "*":
            for name in match.fields:
                if message.DESCRIPTOR.fields_by_name[name] in [field for field, _ in message.ListFields()]:
                    raise InvalidArgument(f"{name}: given twice; give it in the path only", field=name)
        read_texts(match.fields.items(), message, strict=True)
        taken = [*match.fields, *([route.body] if route.body not in {"", "*"} else [])]
        if request.query_string:
            if route.body == "*" and not route.is_negz:
                first = next(iter(request.query))
                raise InvalidArgument(f"{first}: not allowed in the query; give it in the body", field=first[:60])
            read_texts(request.query.items(), message, taken=taken, strict=not route.is_negz)
        data = message.SerializeToString()
        if len(data) > self._most:
            raise self._too_large(len(data), self._most)
        return data

    async def _body(self, request: web.Request, holder: Holder) -> bytes:
        """Return the body. It may not be too large, or take too long to arrive."""
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise InvalidArgument(
                "Content-Encoding: compressed bodies are not read; send the JSON as it is", field="Content-Encoding"
            )
        length = request.content_length or 0
        if length > self._most_json:
            raise self._too_large(length, self._most_json)
        if not request.body_exists:
            return b""
        if length and length <= _LARGE and request.content.is_eof():
            return await request.content.read()
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                async for piece in request.content.iter_any():
                    self._connections.moved(request)
                    pieces.append(piece)
                    size += len(piece)
                    holder.hold(len(piece))
                    if size > self._most_json:
                        raise self._too_large(size, self._most_json)
        except TimeoutError:
            raise DeadlineExceeded(
                f"body: not complete after {self._seconds:g} seconds; send less in one request, "
                "or raise --request-timeout of the server"
            ) from None
        return b"".join(pieces)

    @staticmethod
    def _too_large(size: int, most: int) -> MessageTooLarge:
        return MessageTooLarge(
            f"body: {size:,} bytes are too many, at most {most:,} are allowed; send less in one request, "
            "or raise --max-message-bytes of the server",
            field="body",
            size=size,
            most=most,
        )


def _read_body(body: bytes, route: Route, message: Message) -> None:
    if not body.strip():
        if route.is_negz:
            raise InvalidArgument("body: missing; send a JSON object, such as {}", field="body")
        return
    if route.body == "*":
        read_json(body, message)
    else:
        part = getattr(message, route.body)
        part.SetInParent()
        read_json(body, part, route.body)


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()


def rest_call(request: web.Request, service: str, timeout: float | None) -> RestCall:
    """Return the call that a request makes.

    Args:
        request: the request.
        service: the service that it calls.
        timeout: how many seconds it may take; None for any time.
    """
    peer = request.transport.get_extra_info("peername") if request.transport else None
    host, port = (str(peer[0]), int(peer[1])) if peer else ("", 0)
    headers = {name: request.headers.get(name, "") for name in _METADATA}
    if AUTHORIZATION in request:
        headers["authorization"] = request[AUTHORIZATION]
    return RestCall(
        service=service,
        peer_host=host,
        peer_port=port,
        # One that is not ASCII is never right, and could not be sent over gRPC.
        metadata={name: text for name, text in headers.items() if text.isascii() and text},
        deadline=None if timeout is None else monotonic() + timeout,
    )


def as_json(text: str, status: int = 200) -> web.Response:
    """Return JSON as a response."""
    # Not by `text`, which would add a charset to the type that negz/q's gateway does not send.
    return web.Response(body=text.encode(), status=status, reason=_REASONS.get(status), headers={"Content-Type": JSON})


def refused(refusal: Refusal, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """Return a refusal as a response, with more headers."""
    response = as_json(refusal.to_json(), refusal.http_status)
    response.headers.update(headers)
    if refusal.http_status == web.HTTPUnauthorized.status_code:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return response


_REASONS = {499: "Client Closed Request"}


@asynccontextmanager
async def _deadline(seconds: float | None) -> AsyncIterator[None]:
    """End what runs in this context after some seconds. Raises `DeadlineExceeded` then."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            f"no response within {seconds:g} seconds; the call may or may not have been executed"
        ) from None
