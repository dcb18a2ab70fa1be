"""What every transport of the server does, and what all of them share: limits, refusals and texts.

A transport serves endpoints over gRPC: `GrpcTransport` with the gRPC library, `NativeTransport` with our own core.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

from queuelet.errors import ServerDraining
from queuelet.server.endpoint import Call
from queuelet.tls_files import TlsFiles
from queuelet.wire.errors import NEGZ_SERVICE, WANTS_DETAILS, Code, Status

REQUEST_OVERHEAD = 4_096
"""Bytes that a request may have in addition to its message: the queue's name and field keys."""

KEEPALIVE_IDLE = 10.0
KEEPALIVE_TIMEOUT = 5.0
"""A connection without traffic gets a ping after the first number of seconds, and is closed after the second number.

So the server detects within 15 seconds that a client has vanished, and no message goes to its long polls after that.
"""

HANDSHAKE_SECONDS = 10.0
"""A connection whose client sends nothing is closed after this time."""

ENDLESS = 1e9
"""If more seconds than this are left, the call has no deadline: clients send such a timeout for none."""

CHECK_EVERY = 0.05
"""Seconds between checks of connections; bytes that arrive between two checks may exceed the limit."""

UNGUARDED_STREAMS = 10
"""The most open streams of health and reflection on one connection. A client needs one of each.

20,000 such streams made other calls wait a second, when they were opened and when they all ended.
"""

MAX_SERVICE_CHARACTERS = 256
"""The longest service name in a health check, in characters."""

NO_REQUEST = Status(Code.INVALID_ARGUMENT, "request: missing; send one")
"""The refusal of a call whose client half-closed without a request."""

TOO_MANY_UNGUARDED = Status(
    Code.RESOURCE_EXHAUSTED,
    f"this connection has {UNGUARDED_STREAMS} open streams of health and reflection; end one of them first",
)

LONG_SERVICE = Status(
    Code.INVALID_ARGUMENT,
    f"request: the service name is too long; use at most {MAX_SERVICE_CHARACTERS} characters",
)

WATCH_ENDED = Status(Code.UNAVAILABLE, ServerDraining().message)
"""The end of each health watch when the server stops."""


class Transport(Protocol):
    """Serves endpoints, and the health and reflection services, on one port."""

    name: str
    """Which one it is: a value of the flag `--transport`."""

    def listen(self, address: str, tls: TlsFiles | None) -> int:
        """Open a port, with TLS if files are given for it; return its number.

        Raises:
            OSError: the address cannot be listened on.
        """

    async def start(self) -> None:
        """Start serving, and report SERVING to health checks."""

    async def not_serving(self) -> None:
        """Report NOT_SERVING to health checks from now on."""

    async def stop(self, grace: float) -> None:
        """Accept no new calls, wait up to `grace` seconds for the calls in flight, then end the rest."""


def overdue(seconds: float) -> Status:
    """Return the refusal of a call whose request did not arrive completely within a time in seconds."""
    return Status(
        Code.DEADLINE_EXCEEDED,
        f"request: not complete after {seconds:g} seconds; "
        "send less in one request, or raise --request-timeout of the server",
    )


def malformed(error: Exception, message: str) -> Status:
    """Return the refusal of a request that cannot be parsed as a message of this name."""
    return Status(Code.INVALID_ARGUMENT, f"request: {error}; send a {message}")


def details_for(status: Status, call: Call) -> bytes:
    """Return the details to send with a refusal, empty for none.

    Clients of negz/q get no details unless they ask for them, as our gateway does.
    """
    if call.service != NEGZ_SERVICE or WANTS_DETAILS in call.metadata:
        return status.details
    return b""


def cannot_listen(address: str, why: str) -> OSError:
    """Return the error for an address that cannot be listened on."""
    return OSError(f"cannot listen on {address}: {why}")


def why_not_listening(address: str) -> str:
    """Try to listen on an address and return why it fails, empty if it does not."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_server(
            (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ):
            return ""
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
