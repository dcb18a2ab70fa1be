"""What handlers see of a call besides the request."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from grpc_sansio import ServerConnection
from queuelet.server.transport import ENDLESS


class NativeCall:
    """A `Call` that reads metadata from the core on demand."""

    __slots__ = ("_core", "_peer", "_until", "number", "owner", "peer_host", "service")

    def __init__(  # noqa: PLR0913, PLR0917  # one for each fact, because every call makes one of these
        self, service: str, core: ServerConnection, number: int, peer: str, peer_host: str, timeout_ms: int
    ) -> None:
        self.service = service
        self.peer_host = peer_host
        self.owner = ""
        self.number = number
        """The number by which the core knows it."""
        self._core = core
        self._peer = peer
        self._until = monotonic() + timeout_ms / 1_000 if timeout_ms else None

    @property
    def peer(self) -> str:
        """The client's address and port, as gRPC writes them."""
        return self._peer

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""
        if self._until is None:
            return None
        left = self._until - monotonic()
        return None if left > ENDLESS else max(0.0, left)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata whose values are text; empty once the call has ended."""
        try:
            pairs = self._core.metadata(self.number)
        except KeyError:
            return {}
        return {key: value for key, value in pairs if isinstance(value, str)}
