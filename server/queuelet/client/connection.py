"""How to reach a server, and the gRPC channel to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from queuelet.client.cached_files import CachedFile, cached_certificate, cached_token
from queuelet.client.errors import BadResponse
from queuelet.client.forks import check_usable, note_channel
from queuelet.client.validation import Seconds
from queuelet.errors import MessageTooLarge, QueueletError, Unauthenticated, Unreachable
from queuelet.wire.errors import STATUS_DETAILS, error_of
from queuelet.wire.values import UNREADABLE

_Response = TypeVar("_Response", bound=ProtobufMessage)
_Part = TypeVar("_Part", bound=ProtobufMessage)
_Value = TypeVar("_Value")

_KEEPALIVE = 10_000
"""How often to ping the server on an idle connection, in milliseconds. The server allows a ping every five seconds."""

_KEEPALIVE_TIMEOUT = 5_000
"""How long the server may take to answer a ping before the connection counts as broken, in milliseconds."""


_PORT = "10002"
"""The port to use if a server address has none."""

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
"""The prefixes of gRPC's own target names."""


_PROXY_PAGE = re.compile(r"Received http2 header with status: (\d{3})$")
"""gRPC's error text for a response that is plain HTTP."""

_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""HTTP status codes below 500 that are worth a retry."""


def decoded(name: str, response: type[_Response], data: bytes) -> _Response:
    """Decode the response to a call.

    Raises:
        BadResponse: The bytes are not a valid response.
    """
    try:
        return response.FromString(data)
    except DecodeError:
        raise BadResponse(
            f"{name}: the response of {len(data):,} bytes is not a valid {response.__name__}, so the outcome of the "
            "call is not known; check that the address is that of a Queuelet server, and look for damaged messages in "
            "its log"
        ) from None


def converted(name: str, convert: Callable[[_Part], _Value], part: _Part) -> _Value:
    """Convert a part of the response to a call to a value.

    Raises:
        BadResponse: The server is newer and sent something that this version does not know, or a value is not valid.
    """
    try:
        return convert(part)
    except UNREADABLE as error:
        raise BadResponse(
            f"{name}: the response has a value that this version of the client does not know ({error}), so the outcome "
            "of the call is not known; upgrade the client if the server is newer"
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """How to reach a server."""

    server: str = "localhost:10002"
    """`host:port`. `:port` means this machine, and `host` means port 10002. Other gRPC targets work too, such as
    `unix:path`.
    """

    tls_ca: Path | None = None
    """A file with the certificate authority of the server. Setting any of the three files turns TLS on."""

    tls_cert: Path | None = None
    """A file with the client's own certificate, for mutual TLS."""

    tls_key: Path | None = None
    """A file with the private key of that certificate."""

    token_file: Path | None = None
    """A file with the bearer token, read at each call. If it is missing or unusable, the last token is sent."""

    insecure: bool = False
    """Whether to send the token to another machine without TLS, where anyone on the network can read it."""

    timeout: Seconds | None = 30.0
    """How long a call may take, in seconds; None for unlimited. The wait of a long poll is added to it."""

    retry_for: Seconds = 30.0
    """How long to retry a call that failed because the server was unavailable, in seconds; 0 for no retries.

    Only idempotent calls are retried, and only once the client has reached its server, because otherwise the address
    may be wrong.
    """

    lost_after: Seconds = 30.0
    """How long an outage lasts before the connection changes from SUSPENDED to LOST, in seconds."""

    def __post_init__(self) -> None:
        if self.token_file and not self.may_send_tokens:
            raise ValueError(
                f"token_file: the token would be sent to {self.server} in plain text; use TLS (tls_ca), "
                "or set insecure if you trust the network"
            )

    @property
    def may_send_tokens(self) -> bool:
        """Whether a token may be sent: over TLS, to this machine, or if the caller trusts the network."""
        has_tls = self.tls_ca or self.tls_cert or self.tls_key
        return bool(has_tls) or self.insecure or _is_this_machine(grpc_target(self.server))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of each call: the token, if there is one."""
        if not self.token_file:
            return ()
        return (("authorization", f"Bearer {cached_token(self.token_file).read().decode()}"),)

    def file_problems(self) -> dict[Path, str]:
        """Check the files with the token and the certificates, for example for a program's metrics.

        Returns:
            For each file why it cannot be used now, so that its last good content stays in use; empty if it can.
        """
        return {file.path: file.problem() for file in files_of(self).values()}

    def open_channel(self) -> grpc.aio.Channel:
        """Return a new gRPC channel, which connects when it is first used.

        Raises:
            Forked: gRPC does not work in this process.
        """
        check_usable()
        channel = self._new_channel()
        note_channel(channel)
        return channel

    def _new_channel(self) -> grpc.aio.Channel:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Without pings a connection that is cut silently would go unnoticed.
            ("grpc.keepalive_time_ms", _KEEPALIVE),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT),
            # gRPC has a second ping timeout, of one minute by default, which applies as well.
            ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            # By default gRPC waits up to two minutes before it tries to reconnect.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # By default gRPC resolves a name again after 30 seconds at the earliest.
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            # Otherwise channels with the same options share a connection, which outlives the first of them.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = grpc_target(self.server)
        if _is_this_machine(target):
            # Otherwise gRPC sends even these calls, with the token in plain text, to the proxy of the environment.
            options.append(("grpc.enable_http_proxy", 0))
        files = (self.tls_ca, self.tls_key, self.tls_cert)
        if not any(files):
            return grpc.aio.insecure_channel(target, options)
        authority, key, certificate = (cached_certificate(file).read() if file else None for file in files)
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority, key, certificate), options)

    def error_of(self, error: grpc.aio.AioRpcError) -> QueueletError:
        """Translate the error of a failed call: to the error that the server raised, or to `Unreachable`."""
        page = _PROXY_PAGE.match(error.details() or "")
        if page:
            return self._error_of_proxy(int(page[1]))
        details = dict(cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ()))
        found = error_of(error.code().value[0], error.details() or "", details.get(STATUS_DETAILS, b""))
        if isinstance(found, Unreachable):
            return Unreachable(f"cannot reach the server at {self.server}: {found.message}", server=self.server)
        if isinstance(found, MessageTooLarge) and "field" not in found.facts:
            return MessageTooLarge(
                f"the request is larger than the server allows ({found.message}); make the message smaller, "
                "or raise the server's --max-message-bytes"
            )
        return found

    def _error_of_proxy(self, status: int) -> QueueletError:
        """Translate an HTTP error status, which a proxy or a web server sent instead of a gRPC response."""
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return MessageTooLarge(
                f"a proxy in front of {self.server} refused the request as too large (HTTP 413); make the message "
                "smaller, or raise the proxy's bound (nginx: client_max_body_size)",
                http_status=status,
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
            return Unreachable(
                f"cannot reach the server at {self.server}: a proxy in front of it answered HTTP {status}",
                server=self.server,
                http_status=status,
            )
        kind = Unauthenticated if status == HTTPStatus.UNAUTHORIZED else QueueletError
        return kind(
            f"{self.server} answered HTTP {status} instead of gRPC: it is a web server, or a proxy that does not pass "
            "gRPC on; check the address and the proxy's configuration",
            http_status=status,
        )


def files_of(connection: Connection) -> dict[str, CachedFile]:
    """Return the readers of the files with the certificates and the token, by what they are for."""
    certificates = {"server-ca": connection.tls_ca, "certificate": connection.tls_cert, "key": connection.tls_key}
    files = {role: cached_certificate(file) for role, file in certificates.items() if file}
    return files | ({"token": cached_token(connection.token_file)} if connection.token_file else {})


def grpc_target(server: str) -> str:
    """Return the gRPC target for a server address. Without a port gRPC would use 443."""
    if "://" in server or server.startswith(_SCHEMES):
        return server
    host, separator, port = server.rpartition(":")
    if not separator or server.endswith("]"):
        host, port = server, _PORT
    elif ":" in host and not host.startswith("["):
        host, port = f"[{server}]", _PORT
    return f"{host or 'localhost'}:{port}"


def _is_this_machine(target: str) -> bool:
    """Return whether a gRPC target is on loopback or is a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    # If there are several addresses, all of them have to be.
    hosts = [address.rpartition(":")[0] for address in target.rpartition("/")[2].split(",")]
    return all(host == "localhost" or _is_loopback(host.strip("[]")) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


DEFAULT = Connection()
"""A server on this machine, at the default port."""
