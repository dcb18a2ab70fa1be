"""The settings of the core: limits, windows and texts."""

from __future__ import annotations

from collections.abc import Mapping

from grpc_sansio import ServerSettings
from queuelet.bounds import Bounds
from queuelet.server.transport import REQUEST_OVERHEAD

WINDOW_BYTES = 64 * 1024
"""How many bytes of a call may be in flight in each direction: requests not yet read, and responses not yet sent."""


def core_settings(routes: Mapping[str, tuple[int, int]], bounds: Bounds) -> ServerSettings:
    """Return what all connections share: the index and kind of each path, and the limits."""
    return ServerSettings(
        routes,
        message_bytes=bounds.message_bytes + REQUEST_OVERHEAD,
        unknown_method="Method not found!",
        concurrent_calls=bounds.streams,
        window_bytes=WINDOW_BYTES,
    )
