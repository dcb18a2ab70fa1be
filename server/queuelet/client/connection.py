"""How to reach a server, and the channel to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from queuelet.client.errors import BadResponse
from queuelet.client.forks import check_usable, note_channel
from queuelet.client.kept_files import kept_file
from queuelet.client.validation import Seconds
from queuelet.errors import MessageTooLarge, QueueletError, Unauthenticated, Unreachable
from queuelet.wire.errors import STATUS_DETAILS, error_of

_Response = TypeVar("_Response", bound=ProtobufMessage)

_KEEPALIVE = 10_000
"""How often a quiet connection is tried, in milliseconds. The server allows a try each five seconds."""

_KEEPALIVE_PATIENCE = 5_000
"""How long the other side may take to answer such a try before the connection counts as cut, in milliseconds."""


_PORT = "10002"
"""The port of a server whose address names none."""

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
"""What gRPC's own names of targets begin with."""


_PROXY_PAGE = re.compile(r"Received http2 header with status: (\d{3})$")
"""What gRPC says of a response that is not one of gRPC."""

_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Below 500, what may go by itself."""


def decoded(name: str, response: type[_Response], data: bytes) -> _Response:
    """Return the response to a call. Raises `BadResponse` if it cannot be decoded."""
    try:
        return response.FromString(data)
    except DecodeError:
        raise BadResponse(
            f"{name}: the response of {len(data):,} bytes is not a valid {response.__name__}, and what became of the "
            "call is not known; check that the address is that of a Queuelet server, and look for damaged messages in "
            "its log"
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """How to reach a server."""

    server: str = "localhost:10002"
    """`host:port`; `:port` means this machine, and `host` port 10002. What else gRPC calls a target will do, too."""

    tls_ca: Path | None = None
    """The authority that signed the server's certificate. Any of the three files turns TLS on."""

    tls_cert: Path | None = None
    """The client's own certificate, for mutual TLS."""

    tls_key: Path | None = None
    """The key of that certificate."""

    token_file: Path | None = None
    """A file with the bearer token; read at each call. While it is empty or missing, its last token is sent."""

    insecure: bool = False
    """Whether the token may be sent without TLS to another machine, where anyone on the network can read it."""

    timeout: Seconds | None = 30.0
    """How long a call may take, in seconds; None for ever. A long poll's wait comes on top."""

    retry_for: Seconds = 30.0
    """How long a call is made again that failed because the server was away, in seconds; 0 for not at all.

    Only calls that may be made twice are, and only of a client that has reached its server before: otherwise the
    address may be wrong.
    """

    lost_after: Seconds = 30.0
    """How long the server must be away until the connection counts as LOST and no longer as SUSPENDED, in seconds."""

    def __post_init__(self) -> None:
        """Raise ValueError for a token that would be sent in plain text beyond this machine."""
        has_tls = self.tls_ca or self.tls_cert or self.tls_key
        if self.token_file and not has_tls and not self.insecure and not _is_this_machine(grpc_target(self.server)):
            raise ValueError(
                f"token_file: the token would go to {self.server} in plain text; use TLS (tls_ca), "
                "or set insecure if you trust the network"
            )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        if not self.token_file:
            return ()
        return (("authorization", f"Bearer {kept_file(self.token_file).read().decode()}"),)

    def file_problems(self) -> dict[Path, str]:
        """Look at the files with the token and the certificates, such as for metrics of a program.

        Returns:
            For each file why it cannot be used as it is now, so that its last good content stays in use; empty if it
            can be used.
        """
        files = (self.tls_ca, self.tls_cert, self.tls_key, self.token_file)
        return {file: kept_file(file).problem() for file in files if file}

    def open_channel(self) -> grpc.aio.Channel:
        """Return a channel of gRPC, which connects when it is used.

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
            # A connection that is cut without a word is noticed only by asking.
            ("grpc.keepalive_time_ms", _KEEPALIVE),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_PATIENCE),
            # gRPC's own patience with its pings is a minute, and holds besides.
            ("grpc.http2.ping_timeout_ms", _KEEPALIVE_PATIENCE),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            # By default gRPC waits up to two minutes before it tries a server again that was away.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # By default gRPC asks for a name's address again after 30 seconds at the soonest.
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            # Channels with the same options share a connection otherwise: the end of one would not be that of another.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = grpc_target(self.server)
        files = (self.tls_ca, self.tls_key, self.tls_cert)
        if not any(files):
            return grpc.aio.insecure_channel(target, options)
        authority, key, certificate = (kept_file(file).read() if file else None for file in files)
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority, key, certificate), options)

    def error_of(self, error: grpc.aio.AioRpcError) -> QueueletError:
        """Return what a call that failed is here: the error the server raised, or `Unreachable`."""
        page = _PROXY_PAGE.match(error.details() or "")
        if page:
            return self._error_of_proxy(int(page[1]))
        details = dict(cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ()))
        found = error_of(error.code().value[0], error.details() or "", details.get(STATUS_DETAILS, b""))
        if isinstance(found, Unreachable):
            return Unreachable(f"cannot reach the server at {self.server}: {found.message}", server=self.server)
        if isinstance(found, MessageTooLarge) and "field" not in found.facts:
            return MessageTooLarge(
                f"the request is larger than the server takes ({found.message}): make the message smaller, "
                "or raise the server's --max-message-bytes"
            )
        return found

    def _error_of_proxy(self, status: int) -> QueueletError:
        """Return what it means that something between here and the server answered with a page of HTTP."""
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return MessageTooLarge(
                f"a proxy in front of {self.server} refused the request as too large (HTTP 413): make the message "
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


def grpc_target(server: str) -> str:
    """Return what gRPC connects to for a server's address; without a port gRPC would take 443."""
    if "://" in server or server.startswith(_SCHEMES):
        return server
    host, separator, port = server.rpartition(":")
    if not separator or server.endswith("]"):
        host, port = server, _PORT
    elif ":" in host and not host.startswith("["):
        host, port = f"[{server}]", _PORT
    return f"{host or 'localhost'}:{port}"


def _is_this_machine(target: str) -> bool:
    """Return whether a target of gRPC is on loopback or a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    # Of several addresses each must be.
    hosts = [address.rpartition(":")[0] for address in target.rpartition("/")[2].split(",")]
    return all(host == "localhost" or _is_loopback(host.strip("[]")) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


DEFAULT = Connection()
"""A server on this machine, at its usual port."""
