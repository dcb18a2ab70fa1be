"""Which shards a server takes and gives up, decided from what the database says about all servers and shards.

All servers decide by the same rules. They may see different states, so each may be wrong for a moment: the row of a
shard decides who owns it, and the next decisions even out what is uneven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID
from zlib import crc32


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRow:
    """The row of a shard in `owners`."""

    shard: int
    address: str
    """The address of its last owner."""
    holder: UUID
    epoch: int
    store_epoch: str
    seconds_left: float | None
    """Seconds until the lease of the owner ends, negative if it has ended; None if the owner gave the shard up."""

    @property
    def is_free(self) -> bool:
        """Whether a server may take it."""
        return self.seconds_left is None or self.seconds_left <= 0

    @property
    def has_lapsed(self) -> bool:
        """Whether its owner has let its lease end, as one does that was killed, is frozen or is cut off."""
        return self.seconds_left is not None and self.seconds_left <= 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """What the database says about the servers and the shards, at one time."""

    servers: tuple[str, ...]
    """The addresses of the servers whose rows have not expired, in order."""
    shards: tuple[ShardRow, ...]
    """The rows of all shards, in order."""
    standbys: str = ""
    """`synchronous_standby_names` of the database."""

    def owner(self, shard: int) -> str | None:
        """Return the address of the owner of a shard; None if it has none."""
        row = self.shards[shard]
        return None if row.is_free else row.address


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a server does next."""

    take: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


def plan(members: Members, here: str, held: Collection[int], left_over: Collection[int] = ()) -> Plan:
    """Return which shards a server takes and gives up.

    A server takes free shards until it has its part: all servers have the same number, or one more than others. It
    leaves free those that others need that have less. It gives up what is more than its part, and one shard if others
    have less than the least and no shard is free for them.

    Args:
        members: the servers and shards.
        here: the address of this server.
        held: the shards that it owns or is taking.
        left_over: free shards that no server has taken for long, which it takes beyond its part.
    """
    others = {*members.servers} - {row.address for row in members.shards if row.has_lapsed} - {here}
    counts = Counter(row.address for row in members.shards if not row.is_free and row.shard not in held)
    counts = Counter({address: counts[address] for address in others})
    counts[here] = len(held)
    least, more = divmod(len(members.shards), len(counts))
    most = least + bool(more)
    free = [row.shard for row in members.shards if row.is_free and row.shard not in held]
    # Each server prefers others, so that servers that start at once seldom try to take the same ones.
    free.sort(key=lambda shard: crc32(f"{here}/{shard}".encode()))
    needed = sum(max(0, least - counts[address]) for address in others)
    if len(held) > most:
        return Plan(give=tuple(sorted(held)[most:]))
    if free:
        own = max(0, least - len(held))
        spare = min(most - len(held) - own, max(0, len(free) - own - needed))
        taken = free[: own + spare]
        return Plan(take=(*taken, *(shard for shard in left_over if shard in free and shard not in taken)))
    over = sum(max(0, count - most) for count in counts.values())
    givers = sorted((address for address in counts if counts[address] > least), key=lambda each: (-counts[each], each))
    if here in givers[: max(0, needed - over)]:
        return Plan(give=(max(held),))
    return Plan()
