"""Calls: what a REST request is to the rest of Queuelet."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from time import monotonic
from typing import Protocol

from queuelet.errors import InvalidArgument
from queuelet.wire.errors import Status

USUAL_SECONDS = 60.0
"""How long a call may take if the request has no `Grpc-Timeout`."""

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(slots=True, kw_only=True)
class RestCall:
    """A call that came as an HTTP request. The server's handlers see it as they see a call over gRPC."""

    service: str
    peer_host: str
    peer_port: int
    metadata: Mapping[str, str]
    deadline: float | None
    """When the client needs the response, by the monotonic clock; None if it may take any time."""

    owner: str = ""
    """The address of the server that served the call, if it is another one."""

    @property
    def peer(self) -> str:
        """The client's address and port, as gRPC writes them."""
        if not self.peer_host:
            return ""
        is_v6 = ip_address(self.peer_host.partition("%")[0]).version == 6  # noqa: PLR2004  # IPv6
        return f"ipv6:%5B{self.peer_host}%5D:{self.peer_port}" if is_v6 else f"ipv4:{self.peer_host}:{self.peer_port}"

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""
        return None if self.deadline is None else self.deadline - monotonic()


Send = Callable[[bytes], Awaitable[None]]
"""Sends one response of a stream."""


class Caller(Protocol):
    """Makes and authorizes calls. All handlers of the gateway make their calls here, so that none is left out."""

    def admit(self, method: str, call: RestCall) -> Status | None:
        """Return the status to refuse a call with before its body is read, None to go on.

        Args:
            method: the service and the method, such as `queuelet.v1.QueueService/Pop`.
            call: the call.
        """

    def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status | Awaitable[bytes | Status]:
        """Make a call; return its response or the status that it was refused with, or an awaitable of either."""

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Make a call with a stream of responses; return None if it succeeded, otherwise its status."""


def timeout_of(header: str | None) -> float | None:
    """Return the seconds in a `Grpc-Timeout` header, None if there is none.

    Raises:
        InvalidArgument: it is malformed.
    """
    if header is None:
        return None
    match = re.fullmatch(r"([0-9]{1,8})([HMSmun])", header.strip())
    if not match:
        raise InvalidArgument(
            f"Grpc-Timeout: {header[:40]!r} is not a timeout; use a number and a unit, such as 90S, 500m or 2M",
            field="Grpc-Timeout",
        )
    return int(match[1]) * _UNITS[match[2]]
