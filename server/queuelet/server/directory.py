"""The directory: which of several servers owns which shard, and which servers live.

A shard is a part of the queues in PostgreSQL. A named queue is in the shard that the CRC-32 of its name selects, a
queue without a name in any shard. At most one server owns a shard at a time, and only it serves the shard's queues.

A directory may be outdated: a server that is called because of it may have handed the shard over meanwhile. It then
refuses the call with `ShardMoved`, which had no effect and may be retried at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

HERE = ""
"""The owner of a shard in a directory, if that is this server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerEntry:
    """A server that lives, as far as the database knows."""

    address: str
    """How other servers reach it: `host:port`."""

    is_here: bool
    """Whether it is this server."""

    shards: tuple[int, ...]
    """The shards that it owns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardEntry:
    """A shard and its owner."""

    shard: int

    owner: str | None
    """`HERE`, the address of another server, or None while no server owns it."""

    epoch: int
    """How often it was taken over."""


class Directory(Protocol):
    """Which server owns which shard. Used on the event loop's thread; only `shard_of_id` and `changed` wait."""

    @property
    def count(self) -> int:
        """The number of shards: fixed in the database, and 0 until it has been read."""

    def shard_of_name(self, name: str) -> int:
        """Return the shard of the queue with this name, which is not empty, whether or not there is such a queue."""

    async def shard_of_id(self, queue_id: str) -> int | None:
        """Return the shard of a queue, or None if there is no such queue in the database.

        Results are cached, because a queue never changes its shard. After None, the handlers of this server refuse the
        ID as that of an unknown queue for a second; without it they refuse it with `ShardMoved`, unless this server
        owns all shards, because the queue may be in a shard of another server.

        Args:
            queue_id: a UUID in its usual form.

        Raises:
            StoreFailed: the database cannot be read.
        """

    def owner(self, shard: int) -> str | None:
        """Return `HERE` if this server serves the shard, the address of its owner, or None while it has none."""

    async def changed(self) -> None:
        """Wait until an owner or a server differs from when this was called."""

    def servers(self) -> Sequence[ServerEntry]:
        """Return the servers that live, by address."""

    def shards(self) -> Sequence[ShardEntry]:
        """Return all shards, by number."""


def shard_of(name: str, count: int) -> int:
    """Return which of `count` shards has the queue with this name."""
    return crc32(name.encode()) % count
