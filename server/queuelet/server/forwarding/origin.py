"""What a forwarded call carries about its origin: the client that it came from, and the shards that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from queuelet.server.endpoint import Call
from queuelet.wire.forwarding import FORWARDED, SHARDS


class ForwardedCall:
    """A call that another server has forwarded. Handlers see the client's address instead of that server's."""

    __slots__ = ("_call", "owner", "peer", "peer_host")

    def __init__(self, call: Call, origin: str) -> None:
        self.peer_host, _, self.peer = origin.partition(" ")
        self.owner = ""
        self._call = call

    @property
    def service(self) -> str:
        """The name of the service in the call's path."""
        return self._call.service

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""
        return self._call.seconds_left

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata whose values are text."""
        return self._call.metadata


def forwarded_call(call: Call) -> ForwardedCall | None:
    """Return a call as its handler is to see it if another server has forwarded it, otherwise None."""
    origin = call.metadata.get(FORWARDED)
    return None if origin is None else ForwardedCall(call, origin)


def origin_of(call: Call) -> tuple[str, str]:
    """Return the metadata with which a call is forwarded."""
    return FORWARDED, f"{call.peer_host} {call.peer}"


def shards_of(call: Call) -> frozenset[int] | None:
    """Return the shards that a forwarded call is about; None if it does not name any."""
    named = call.metadata.get(SHARDS, "")
    numbers = named.split(",")
    return frozenset(map(int, numbers)) if all(number.isdecimal() for number in numbers) else None


def shards_metadata(shards: Iterable[int]) -> tuple[str, str]:
    """Return the metadata that names shards."""
    return SHARDS, ",".join(map(str, sorted(shards)))
