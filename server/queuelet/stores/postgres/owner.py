"""Ownership: only one server at a time may write, and serve what it has in memory.

The row in `owners` has the holder, and when its lease ends by the database's clock. Each commit begins with a
compare-and-swap of epoch, holder and number of commits, and renews the lease: an owner that was overtaken, or whose
database went back to an older state, can write nothing any more.

To take over, a server waits until the lease has ended by the database's clock, and then writes itself into the row with
a higher epoch. That commit is the barrier: it waits for a standby like any other, so everything that is read after it
survives a failover. Without it a server might read rows whose commit an earlier owner never knew to be replicated.

Leases of messages are not committed at once, so an owner has to know by itself when it may not give any more: it serves
only for `lease` seconds after it has sent its last commit. It measures them with CLOCK_BOOTTIME, which goes on while
the process or the machine is suspended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import clock_gettime, time_ns
from uuid import UUID, uuid4

from queuelet.clock import STEADY
from queuelet.errors import StoreFailed
from queuelet.ids import new_uuid
from queuelet.stores.durable.loaded import TOKENS
from queuelet.stores.postgres.driver import Connection
from queuelet.stores.postgres.durability import Durability

_POLL = 0.5
"""Seconds between two looks at the lease of another owner."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owned:
    """What the row in `owners` says once this server is the owner."""

    epoch: int
    commits: int
    store_epoch: str
    first_token: int
    highest_first_seq: int
    clock_boot_id: str
    clock_offset: int


class NotFree(StoreFailed):
    """Another server owns the shard."""


class Owner:
    """This server as the owner of a shard."""

    def __init__(self, address: str, lease: float, *, shard: int = 0, waits: bool = True) -> None:
        """Make a server that does not own the shard yet.

        Args:
            address: how other servers reach this one.
            lease: for how many seconds it serves after a commit.
            shard: the shard.
            waits: whether it waits for the end of another owner's lease.
        """
        self.lease = lease
        self.shard = shard
        self._waits = waits
        self.holder = uuid4()
        self.epoch = self.commits = 0
        self._address = address
        self._until = 0.0
        self.is_refused = False
        """Whether another server was the owner at the last attempt to take over."""
        self._earlier: list[UUID] = []
        """Earlier names of this server, whose leases it need not wait for."""

    @property
    def is_valid(self) -> bool:
        """Whether no other server can be the owner yet."""
        return clock_gettime(STEADY) < self._until

    def has_been(self, holder: UUID) -> bool:
        """Return whether this server owns, or owned, the shard under this name."""
        return holder == self.holder or holder in self._earlier

    @property
    def sent_ago(self) -> float:
        """Seconds since the last commit was sent."""
        return clock_gettime(STEADY) - (self._until - self.lease)

    @staticmethod
    def now() -> float:
        """Return the time for `renewed`, to be read before a commit is sent."""
        return clock_gettime(STEADY)

    def renewed(self, sent: float) -> None:
        """Note that a commit that was sent at this time has succeeded."""
        self.commits += 1
        self._until = sent + self.lease

    def give_up(self) -> None:
        """Serve nothing any more."""
        self._until = 0.0

    async def take_over(self, connection: Connection, durability: Durability) -> Owned:
        """Become the owner, once the lease of another one has ended.

        Raises:
            NotFree: another server is the owner, and renews its lease if this one waited for its end.
            DatabaseError: the database failed.
        """
        self.give_up()
        self._earlier = [*self._earlier[-7:], self.holder]
        self.holder = uuid4()
        end = self.now() + self.lease + 2 * _POLL
        while True:
            sent = self.now()
            owned = await self._try(connection, durability)
            self.is_refused = owned is None
            if owned is not None:
                self.epoch, self.commits = owned.epoch, owned.commits - 1
                self.renewed(sent)
                return owned
            row = (await connection.fetch(_LEFT, self.shard, seconds=self.lease))[0]
            if not self._waits or self.now() > end:
                raise NotFree(f"another server owns the queues: {row[1] or 'one without an address'}")
            await asyncio.sleep(min(_POLL, max(0.01, row[0])))

    async def _try(self, connection: Connection, durability: Durability) -> Owned | None:
        """Take over if the lease has ended. Its commit is the barrier."""
        found = (await connection.fetch(_FOUND, self.shard, seconds=self.lease))[0]
        found_epoch, commits, timeline, was_replicated, timeline_now = found
        store_epoch = found_epoch
        if is_older(
            commits=commits, known=self.commits, is_promoted=timeline_now != timeline > 0, was_replicated=was_replicated
        ):
            store_epoch = new_uuid()
        connection.warning = ""
        rows = await connection.fetch(
            _TAKE,
            self.shard,
            self.holder,
            self._address,
            self.lease,
            self._earlier,
            store_epoch,
            timeline_now,
            durability.is_replicated,
            time_ns(),
            TOKENS,
            max(commits, self.commits) + 1,
            commits,
            found_epoch,
            seconds=self.lease,  # it may wait for a standby that is gone
        )
        if connection.warning:
            raise StoreFailed(f"the database does not confirm the take-over: {connection.warning}")
        if not rows:
            return None
        epoch, commits, store_epoch, token, highest, boot_id, offset = rows[0]
        return Owned(
            epoch=epoch,
            commits=commits,
            store_epoch=store_epoch,
            first_token=token - TOKENS,
            highest_first_seq=highest,
            clock_boot_id=boot_id,
            clock_offset=offset,
        )


def is_older(*, commits: int, known: int, is_promoted: bool, was_replicated: bool) -> bool:
    """Return whether the database lacks commits that were confirmed, as far as that can be known.

    Args:
        commits: how many commits the database has.
        known: how many of them this server knows; 0 if it was never the owner.
        is_promoted: whether the database has been promoted or restored since the last take-over.
        was_replicated: whether commits waited for a standby, so that a promotion loses none.
    """
    return commits < known or (is_promoted and not was_replicated)


_LEFT = """
    SELECT extract(epoch FROM greatest(expires, '1970-01-01') - clock_timestamp())::float8, address
    FROM owners WHERE shard = $1
"""

_FOUND = """
    SELECT store_epoch, commits, timeline, is_replicated,
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
    FROM owners WHERE shard = $1
"""

_TAKE = """
    WITH taken AS (
        UPDATE owners SET epoch = epoch + 1, commits = $11, holder = $2, address = $3,
            expires = clock_timestamp() + make_interval(secs => $4), store_epoch = $6, timeline = $7,
            is_replicated = $8, first_free_token = greatest(first_free_token, $9) + $10
        WHERE shard = $1 AND (expires <= clock_timestamp() OR holder = ANY ($5::uuid[])) AND commits = $12
            AND store_epoch = $13
        RETURNING epoch, commits, store_epoch, first_free_token, highest_first_seq, clock_boot_id, clock_offset
    ), others AS (
        -- A database that lacks commits of one shard may lack those of any.
        UPDATE owners SET store_epoch = $6, timeline = $7
        WHERE shard <> $1 AND $6 <> $13 AND EXISTS (SELECT FROM taken)
    ) SELECT * FROM taken
"""
