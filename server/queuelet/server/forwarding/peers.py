"""Calls to other servers, over connections that are kept. This and the transport are what knows gRPC in the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from queuelet.errors import DeadlineExceeded, ServerDraining, ShardMoved, Unreachable
from queuelet.server.credentials import BearerToken
from queuelet.server.endpoint import RefusedElsewhere, Send
from queuelet.tasks import is_cancelled
from queuelet.tls_files import TlsFiles, WatchedFile
from queuelet.wire.errors import STATUS_DETAILS, WANTS_DETAILS, Code, Status, error_of

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that vanished without closing its connections is noticed within six seconds while calls wait for it.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    # Servers reach each other directly, whatever proxy the environment names.
    ("grpc.enable_http_proxy", 0),
)

_CALLS_OF_CONNECTION = 800
"""Open another connection to a server once one has so many calls, because a server accepts 1,000 on each."""

_CONNECT_SECONDS = 1.0
"""The most seconds that a call waits for a connection. Without one the request was not sent, so it may be retried."""

_OF_THE_CONNECTION = {Code.UNAVAILABLE, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL}
"""Codes that gRPC itself gives to a call whose connection breaks; those of a server have details."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerSettings:
    """How servers authenticate each other: with what they also present to clients, and expect from them."""

    tls: TlsFiles | None = None
    """This server's certificate and key, which it presents to other servers too; None for plain text."""

    authority: Path | None = None
    """A file with the certificate authority of the other servers; None for those that the system trusts."""

    name: str = ""
    """The name in the certificates of the other servers; empty if they have their addresses."""

    token: BearerToken | None = None
    """The token that all servers require."""


class Peers:
    """The other servers, by their addresses."""

    def __init__(self, settings: PeerSettings, changed: Callable[[], Awaitable[None]]) -> None:
        """Make them without a connection.

        Args:
            settings: how servers authenticate each other.
            changed: waits until the directory differs, because a call need not wait for its former owner then.

        Raises:
            OSError: a file cannot be read.
        """
        self._settings = settings
        self._changed = changed
        self._authority = WatchedFile(settings.authority, "peer-ca") if settings.authority else None
        self._lines: dict[str, list[_Line]] = {}
        self._version: object = None
        self._closing: set[asyncio.Task[None]] = set()
        self.calls = 0
        """How many calls were forwarded."""

    async def unary(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self, address: str, path: str, request: bytes, metadata: Metadata, seconds: float | None, wait: float
    ) -> bytes:
        """Call a server, and return its response.

        Args:
            address: its `host:port`.
            path: the service and the method, such as `queuelet.v1.QueueService/Pop`.
            request: the encoded request.
            metadata: what the call carries, in addition to the token.
            seconds: the timeout; None for unlimited.
            wait: the most seconds to wait for a connection.

        Raises:
            ShardMoved: the call had no effect, because the server does not own the shard, drains, or was not reached.
            Unreachable: the connection broke, so that it is not known whether the call took effect.
            RefusedElsewhere: the server refused the call.
        """
        line = await self._connected(address, min(wait, _CONNECT_SECONDS))
        self.calls += 1
        with line.used():
            call = line.unary(path)(request, timeout=seconds, metadata=self._metadata(metadata))
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                raise _refusal(address, error) from None
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise _lost(address) from None

    async def stream(  # noqa: PLR0913, PLR0917  # as above
        self,
        address: str,
        path: str,
        requests: AsyncIterator[bytes],
        send: Send,
        metadata: Metadata,
        seconds: float | None,
    ) -> None:
        """Open a stream to a server, pass requests there and responses back until either side ends it.

        Raises:
            ShardMoved, Unreachable, RefusedElsewhere: as `unary`, except that requests may have taken effect.
        """
        line = await self._connected(address, _CONNECT_SECONDS)
        self.calls += 1
        with line.used():
            call = line.stream(path)(timeout=seconds, metadata=self._metadata(metadata))
            writing = asyncio.ensure_future(_write(call, requests))
            try:
                while True:
                    response = await call.read()
                    if response is grpc.aio.EOF:
                        break
                    await send(response)
                if await call.code() is not grpc.StatusCode.OK:
                    raise _refusal(address, await _error_of(call))
            except grpc.aio.AioRpcError as error:
                raise _refusal(address, error) from None
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                why = writing.exception() if writing.done() and not writing.cancelled() else None
                raise why or _lost(address) from None
            finally:
                writing.cancel()
                call.cancel()
                await asyncio.wait([writing])

    async def close(self) -> None:
        """Close all connections."""
        lines = [line for lines in self._lines.values() for line in lines]
        self._lines.clear()
        await asyncio.gather(*(line.channel.close() for line in lines), *self._closing)

    def forget(self, addresses: set[str]) -> None:
        """Close the connections to servers that are not among these addresses."""
        for address in self._lines.keys() - addresses:
            self._close(self._lines.pop(address))

    def _metadata(self, metadata: Metadata) -> Metadata:
        token = self._settings.token
        if token is None:
            return (*metadata, (WANTS_DETAILS, "1"))
        return (*metadata, (WANTS_DETAILS, "1"), ("authorization", f"Bearer {token.current}"))

    async def _connected(self, address: str, wait: float) -> _Line:
        """Return a connection to a server that is ready.

        Raises:
            ShardMoved: there is none in time.
        """
        line = self._line(address)
        if line.channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            ready = asyncio.ensure_future(line.channel.channel_ready())
            changed = asyncio.ensure_future(self._changed())
            try:
                await asyncio.wait([ready, changed], timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    raise ShardMoved(
                        f"the server at {address}, which owns the queue, cannot be reached by the one that was called"
                    )
            finally:
                ready.cancel()
                changed.cancel()
        return line

    def _line(self, address: str) -> _Line:
        self._renew()
        lines = self._lines.setdefault(address, [])
        for line in lines:
            if line.calls < _CALLS_OF_CONNECTION:
                return line
        line = _Line(self._open(address))
        lines.append(line)
        return line

    def _open(self, address: str) -> grpc.aio.Channel:
        tls = self._settings.tls
        if tls is None:
            return grpc.aio.insecure_channel(address, _OPTIONS)
        authority = self._authority.content if self._authority else None
        credentials = grpc.ssl_channel_credentials(authority, tls.key, tls.certificate)
        name = (("grpc.ssl_target_name_override", self._settings.name),) if self._settings.name else ()
        return grpc.aio.secure_channel(address, credentials, (*_OPTIONS, *name))

    def _renew(self) -> None:
        """Open new connections if certificates have changed, because those of a connection are fixed."""
        if self._settings.tls is None:
            return
        if self._authority:
            self._authority.reload()
        version = (self._settings.tls.version, self._authority and self._authority.content)
        if version != self._version:
            self._version = version
            for lines in self._lines.values():
                self._close(lines)
            self._lines.clear()

    def _close(self, lines: list[_Line]) -> None:
        for line in lines:
            task = asyncio.ensure_future(line.close_when_unused())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Line:
    """A connection, and how many calls it has."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self._methods: dict[str, Callable[..., Any]] = {}
        self._unused = asyncio.Event()
        self._unused.set()

    def unary(self, path: str) -> Callable[..., Awaitable[bytes]]:
        """Return gRPC's callable of a method with one request and one response."""
        return self._method(path, self.channel.unary_unary)

    def stream(self, path: str) -> Callable[..., Any]:
        """Return gRPC's callable of a method with streams."""
        return self._method(path, self.channel.stream_stream)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Count a call while it runs."""
        self.calls += 1
        self._unused.clear()
        try:
            yield
        finally:
            self.calls -= 1
            if not self.calls:
                self._unused.set()

    async def close_when_unused(self) -> None:
        """Close the connection once its calls have ended."""
        await self._unused.wait()
        await self.channel.close()

    def _method(self, path: str, make: Callable[[str], Any]) -> Callable[..., Any]:
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = make(f"/{path}")
        return method


async def _write(call: Any, requests: AsyncIterator[bytes]) -> None:  # noqa: ANN401  # gRPC's call has no usable type
    """Pass requests on. If the client is gone, its stream to the owner ends too."""
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # who reads gets the reason
    except BaseException:
        call.cancel()
        raise


async def _error_of(call: Any) -> grpc.aio.AioRpcError:  # noqa: ANN401  # as above
    return grpc.aio.AioRpcError(
        await call.code(), grpc.aio.Metadata(), await call.trailing_metadata(), await call.details()
    )


def _refusal(address: str, error: grpc.aio.AioRpcError) -> Exception:
    """Return what a handler raises because another server refused a call or was lost."""
    code, text = Code(error.code().value[0]), error.details() or ""
    details = dict(cast("Any", error.trailing_metadata() or ())).get(STATUS_DETAILS, b"")
    if details:
        found = error_of(code, text, details)
        if isinstance(found, ShardMoved | ServerDraining):
            return ShardMoved(f"the server at {address} no longer owns the queue: {found.message}")
    elif code in _OF_THE_CONNECTION:
        return _lost(address)
    elif code is Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded()
    return RefusedElsewhere(Status(code, text, details))


def _lost(address: str) -> Unreachable:
    return Unreachable(
        f"the server at {address}, which owns the queue, was lost during the call, "
        "so that it is not known whether the call took effect"
    )
