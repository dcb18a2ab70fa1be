"""Chooses the transport of a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from queuelet.bounds import Bounds
from queuelet.server.endpoint import Endpoint
from queuelet.server.grpc_transport import GrpcTransport
from queuelet.server.incoming import IncomingLimit
from queuelet.server.transport import Transport

if TYPE_CHECKING:
    from queuelet.server.native import NativeTransport

AUTO, NATIVE, GRPC = "auto", "native", "grpc"

TRANSPORTS = (AUTO, NATIVE, GRPC)
"""The values of the flag `--transport`."""

_PACKAGE = "grpc_sansio"


def make_transport(choice: str, endpoints: Iterable[Endpoint], bounds: Bounds, incoming: IncomingLimit) -> Transport:
    """Return the transport for a choice: one of `TRANSPORTS`.

    Raises:
        ValueError: the transport is unknown, or its package is not installed.
    """
    if choice not in TRANSPORTS:
        raise ValueError(f"--transport: {choice!r} is not a transport; use {', '.join(TRANSPORTS)}")
    if choice == GRPC:
        return GrpcTransport(endpoints, bounds, incoming)
    try:
        return _native()(endpoints, bounds, incoming)
    except ImportError as error:
        if not str(error.name).startswith(_PACKAGE):
            raise
        if choice == AUTO:
            return GrpcTransport(endpoints, bounds, incoming)
        raise ValueError(
            f"--transport native: package grpc-sansio is not installed, or cannot be used ({error}); "
            "run: pip install grpc-sansio, or give --transport grpc"
        ) from error


def _native() -> type[NativeTransport]:
    from queuelet.server.native import NativeTransport  # noqa: PLC0415  # it needs a package of its own

    return NativeTransport
