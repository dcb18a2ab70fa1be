"""Serves endpoints over grpc.aio. The server's other module that imports the gRPC library itself calls other servers.

A refusal sets the status in the context instead of calling `abort`, because `abort` raises an exception and gRPC logs
its text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from queuelet.bounds import Bounds
from queuelet.compat import q_pb2  # noqa: F401  # puts proto.Q where reflection finds it
from queuelet.server.endpoint import ClientGone, Endpoint
from queuelet.server.incoming import Flow, IncomingLimit
from queuelet.server.transport import (
    CHECK_EVERY,
    ENDLESS,
    HANDSHAKE_SECONDS,
    KEEPALIVE_IDLE,
    KEEPALIVE_TIMEOUT,
    LONG_SERVICE,
    MAX_SERVICE_CHARACTERS,
    NO_REQUEST,
    REQUEST_OVERHEAD,
    TOO_MANY_UNGUARDED,
    UNGUARDED_STREAMS,
    WATCH_ENDED,
    cannot_listen,
    details_for,
    malformed,
    overdue,
    why_not_listening,
)
from queuelet.tls_files import TlsFiles
from queuelet.wire.errors import STATUS_DETAILS, Status
from queuelet.wire.forwarding import OWNER

_Context = grpc.aio.ServicerContext[bytes, bytes]
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", int(KEEPALIVE_IDLE * 1_000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT * 1_000)),
    # gRPC has a separate timeout for its pings, by default a minute, and sends at most two pings on an idle connection.
    ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT * 1_000)),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients ping an idle connection every ten seconds.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_BACKLOG = (("grpc.server.max_pending_requests", 5_000), ("grpc.server.max_pending_requests_hard_limit", 5_000))
"""How many calls may be pending before their handlers start: five full connections, 65 MB, served in about a second.

Beyond the default of 1,000, gRPC drops calls at random, and clients get CANCELLED.
"""


_FLOW_CONTROL = (("grpc.http2.bdp_probe", 0),)
"""The flow-control window of a stream is 64 KiB, and larger only while a handler reads a message.

With the probe, once a client sends fast, gRPC lets each stream buffer some MiB before a handler reads.
"""

_HANDSHAKE = (("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1_000)),)
"""gRPC's default is two minutes."""


class GrpcTransport:
    """A gRPC server for endpoints, with the health and reflection services."""

    name = "grpc"

    def __init__(self, endpoints: Iterable[Endpoint], bounds: Bounds, incoming: IncomingLimit) -> None:
        """Bind the endpoints; `listen` opens a port."""
        self._incoming = incoming
        self._reader = _Reader(incoming, bounds.request_seconds)
        self._watch: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", bounds.message_bytes + REQUEST_OVERHEAD),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", bounds.connections),
                ("grpc.max_concurrent_streams", bounds.streams),
                *_BACKLOG,
                *_FLOW_CONTROL,
                *_HANDSHAKE,
                *_KEEPALIVE,
            ]
        )
        self._health = _Health()
        services: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for endpoint in endpoints:
            services.setdefault(endpoint.service, {})[endpoint.method.name] = _bind(endpoint, self._reader)
        for name, methods in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
        self._names = [*services, health.SERVICE_NAME]
        services = {
            health.SERVICE_NAME: _bind_health(self._health, self._reader),
            reflection.SERVICE_NAME: _bind_reflection([*self._names, reflection.SERVICE_NAME], self._reader),
        }
        for name, methods in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))

    def listen(self, address: str, tls: TlsFiles | None) -> int:
        """Open a port, with TLS if files are given for it; return its number.

        Raises:
            OSError: the address cannot be listened on.
        """
        try:
            if tls:
                port = self._server.add_secure_port(address, _credentials(tls))
            else:
                port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise cannot_listen(address, why_not_listening(address) or "gRPC gives no reason")
        self._incoming.listen(port)
        return port

    async def start(self) -> None:
        """Start serving, and report SERVING to health checks."""
        await self._server.start()
        self._watch = asyncio.ensure_future(self._watch_incoming())
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def not_serving(self) -> None:
        """Report NOT_SERVING to health checks from now on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Accept no new calls, wait up to `grace` seconds for the calls in flight, then cancel the rest."""
        self._health.end_watches()
        await self._server.stop(grace)
        if self._watch:
            self._watch.cancel()

    async def _watch_incoming(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            self._incoming.check()
            self._reader.end_overdue()


class _Health(health.aio.HealthServicer):
    """The library's health service, with a way to end watches, because they delay a stop by the whole grace period."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()

    async def Watch(  # noqa: N802  # gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait([watch])
        finally:
            self._watches.discard(watch)
            watch.cancel()
        _end(context, WATCH_ENDED)

    def end_watches(self) -> None:
        """End every watch with UNAVAILABLE."""
        for watch in self._watches:
            watch.cancel()


class _GrpcCall:
    """A `Call` that reads gRPC's context on demand."""

    __slots__ = ("_context", "owner", "peer_host", "service")

    def __init__(self, service: str, context: _Context) -> None:
        self.service = service
        self.peer_host = ""
        """Set once the call is admitted."""
        self.owner = ""
        self._context = context

    @property
    def peer(self) -> str:
        return self._context.peer()

    @property
    def seconds_left(self) -> float | None:
        left = cast("float | None", self._context.time_remaining())
        return None if left is None or left > ENDLESS else left

    @property
    def metadata(self) -> Mapping[str, str]:
        pairs = self._context.invocation_metadata() or ()
        return {key: value for key, value in pairs if isinstance(value, str)}


class _Reader:
    """Reads requests, and refuses calls whose request does not arrive completely in time."""

    def __init__(self, incoming: IncomingLimit, seconds: float) -> None:
        self._incoming = incoming
        self._seconds = seconds
        self._unfinished: dict[asyncio.Task[Any], float] = {}
        """The deadline of each task that waits for its request, oldest first."""

    def flow(self, context: _Context) -> Flow:
        """Return the flow of a call's connection."""
        return self._incoming.flow(context.peer())

    async def first(self, context: _Context, flow: Flow) -> bytes | None:
        """Return the first request of a call, None if the client sent none and half-closed.

        Raises:
            TimeoutError: the request did not arrive in time.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._unfinished[task] = monotonic() + self._seconds
        try:
            request = await context.read()
        except asyncio.CancelledError:
            if self._unfinished.get(task) == _OVERDUE and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            del self._unfinished[task]
        if not isinstance(request, bytes):
            return None
        flow.complete(len(request))
        return request

    async def all(self, context: _Context, flow: Flow, missed: list[bool]) -> AsyncIterator[bytes]:
        """Yield the requests of a stream. Only the first has a time limit.

        Raises:
            ClientGone: the first request did not arrive in time; `missed` then has an item.
        """
        try:
            request: Any = await self.first(context, flow)
        except TimeoutError:
            missed.append(True)
            raise ClientGone from None
        while isinstance(request, bytes):
            yield request
            request = await context.read()
            if isinstance(request, bytes):
                flow.complete(len(request))

    async def only(self, context: _Context, serve: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        """Serve a call with one request, and count the call while it is open."""
        flow = self.flow(context)
        flow.calls += 1
        try:
            request = await self.first(context, flow)
            if request is not None:
                return await serve(request)
            _end(context, NO_REQUEST)
        except TimeoutError:
            self.refuse(context)
        finally:
            flow.calls -= 1
        return b""

    @contextmanager
    def unguarded(self, context: _Context) -> Iterator[bool]:
        """Count a stream that needs no token while it is open; yield False if its connection has too many of them."""
        flow = self.flow(context)
        is_allowed = flow.unguarded < UNGUARDED_STREAMS
        if not is_allowed:
            _end(context, TOO_MANY_UNGUARDED)
        flow.unguarded += 1
        try:
            yield is_allowed
        finally:
            flow.unguarded -= 1

    def end_overdue(self) -> None:
        """Cancel the calls whose request has not arrived in time."""
        now = monotonic()
        overdue: list[asyncio.Task[Any]] = []
        for task, until in self._unfinished.items():
            if until > now:
                break
            if until != _OVERDUE:
                overdue.append(task)
        for task in overdue:
            self._unfinished[task] = _OVERDUE
            task.cancel()
            self._incoming.timed_out += 1

    def refuse(self, context: _Context) -> None:
        """Refuse a call whose request did not arrive in time."""
        _end(context, overdue(self._seconds))


_OVERDUE = 0.0


def _bind(endpoint: Endpoint, reader: _Reader) -> grpc.RpcMethodHandler[bytes, bytes]:
    if endpoint.method.stream:
        return _bind_stream(endpoint, reader)
    return _bind_unary(endpoint, reader)


def _bind_unary(endpoint: Endpoint, reader: _Reader) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Bind a unary method as a client stream, because gRPC then calls it before its request has been received."""
    service, admit, serve = endpoint.service, endpoint.admit, endpoint.unary

    async def handle(_: AsyncIterator[bytes], context: _Context) -> bytes:
        call = _GrpcCall(service, context)
        refusal = admit(call)
        if refusal is not None:
            _refuse(context, refusal, call)
            return b""
        flow = reader.flow(context)
        call.peer_host = flow.peer.host
        flow.calls += 1
        try:
            request = await reader.first(context, flow)
            if request is None:
                _end(context, NO_REQUEST)
                return b""
            response: bytes | Status | Awaitable[bytes | Status] = serve(request, call)
            if not isinstance(response, bytes | Status):
                response = await response
        except TimeoutError:
            reader.refuse(context)
            return b""
        finally:
            flow.calls -= 1
        if isinstance(response, bytes):
            if call.owner:
                context.set_trailing_metadata(((OWNER, call.owner),))
            return response
        _refuse(context, response, call)
        return b""

    return grpc.stream_unary_rpc_method_handler(cast("Any", handle))


def _bind_stream(endpoint: Endpoint, reader: _Reader) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(_: AsyncIterator[bytes], context: _Context) -> None:
        call = _GrpcCall(endpoint.service, context)
        status = endpoint.admit(call)
        if status is None:
            flow = reader.flow(context)
            call.peer_host = flow.peer.host

            async def send(response: bytes) -> None:
                try:
                    await context.write(response)
                except Exception as error:  # gRPC raises several exceptions for it, some of them private
                    raise ClientGone from error
                flow.sent()

            missed: list[bool] = []
            flow.calls += 1
            try:
                status = await endpoint.stream(reader.all(context, flow, missed), send, call)
            finally:
                flow.calls -= 1
            if missed:
                reader.refuse(context)
        if status is not None:
            _refuse(context, status, call)
        elif call.owner:
            context.set_trailing_metadata(((OWNER, call.owner),))

    return grpc.stream_stream_rpc_method_handler(cast("Any", handle))


def _bind_health(servicer: _Health, reader: _Reader) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    """Bind the library's methods like ours: calls count before a request arrives, because anyone can make them."""

    async def check(_: AsyncIterator[bytes], context: _Context) -> bytes:
        async def serve(request: bytes) -> bytes:
            parsed = _health_request(request, context)
            if parsed is None:
                return b""
            response: health_pb2.HealthCheckResponse = await servicer.Check(parsed, cast("Any", context))
            return response.SerializeToString()

        return await reader.only(context, serve)

    async def watch(_: AsyncIterator[bytes], context: _Context) -> None:
        async def serve(request: bytes) -> bytes:
            parsed = _health_request(request, context)
            if parsed is not None:
                await servicer.Watch(parsed, context)
            return b""

        with reader.unguarded(context) as is_allowed:
            if is_allowed:
                await reader.only(context, serve)

    serializer = cast("Any", health_pb2.HealthCheckResponse.SerializeToString)
    return {
        "Check": grpc.stream_unary_rpc_method_handler(cast("Any", check)),
        "Watch": grpc.stream_stream_rpc_method_handler(cast("Any", watch), None, serializer),
    }


def _health_request(request: bytes, context: _Context) -> health_pb2.HealthCheckRequest | None:
    """Parse a request of the health service; refuse it and return None if it is malformed or its name too long."""
    try:
        parsed = health_pb2.HealthCheckRequest.FromString(request)
    except DecodeError as error:
        _end(context, malformed(error, "HealthCheckRequest"))
        return None
    if len(parsed.service) > MAX_SERVICE_CHARACTERS:
        _end(context, LONG_SERVICE)
        return None
    return parsed


def _bind_reflection(names: Iterable[str], reader: _Reader) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    """Bind the library's reflection service in the same way."""
    servicer = cast("Any", reflection.aio.ReflectionServicer(names))

    async def info(_: AsyncIterator[bytes], context: _Context) -> None:
        with reader.unguarded(context) as is_allowed:
            if is_allowed:
                await serve(context)

    async def serve(context: _Context) -> None:
        flow = reader.flow(context)
        missed: list[bool] = []

        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            async for request in reader.all(context, flow, missed):
                yield reflection_pb2.ServerReflectionRequest.FromString(request)

        flow.calls += 1
        try:
            async for response in servicer.ServerReflectionInfo(requests(), context):
                await context.write(response.SerializeToString())
                flow.sent()
        except ClientGone:
            reader.refuse(context)
        except DecodeError as error:
            _end(context, malformed(error, "ServerReflectionRequest"))
        finally:
            flow.calls -= 1

    return {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(cast("Any", info))}


def _end(context: _Context, status: Status) -> None:
    context.set_code(_CODES[status.code])
    context.set_details(status.text)


def _refuse(context: _Context, status: Status, call: _GrpcCall) -> None:
    _end(context, status)
    trailing: list[tuple[str, str | bytes]] = [(OWNER, call.owner)] if call.owner else []
    if details := details_for(status, call):
        trailing.append((STATUS_DETAILS, details))
    context.set_trailing_metadata(tuple(trailing))


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the files, because gRPC checks for a new configuration at each handshake."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], tls.client_authority)

    served = tls.version

    def reloaded() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        tls.reload()
        if tls.version == served:
            return None
        served = tls.version
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        reloaded,  # type: ignore[arg-type]  # None means unchanged, which the stubs omit
        require_client_authentication=tls.client_authority is not None,
    )
