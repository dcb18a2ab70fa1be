"""The stores of the shards that this server owns, as the core and the handlers see them: as one store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import choice
from time import monotonic
from typing import TYPE_CHECKING

from queuelet.core.queue import Queue
from queuelet.definition import Durability, StoreKind
from queuelet.errors import ShardMoved, StoreFailed, StoreFull
from queuelet.ids import parse_uuid
from queuelet.server.directory import shard_of
from queuelet.stores.postgres.stats import NONE, PostgresStats, together, with_past

if TYPE_CHECKING:
    from queuelet.stores.postgres.store import PostgresStore

_ABSENT_SECONDS = 1.0
"""For how long a queue that the database did not have counts as unknown."""

_MANY_ABSENT = 10_000
"""How many such queues are remembered."""


class SharedStore:
    """The shards that this server owns. `Shards` opens and closes them."""

    kind = StoreKind.POSTGRES
    is_durable = True

    def __init__(self, count: int, look_up: Callable[[str], None]) -> None:
        """Make it without a shard.

        Args:
            count: how many shards there are.
            look_up: called with the ID of a queue that is in no shard of this server, to find out whether it exists.
        """
        self.count = count
        self._look_up = look_up
        self.open: dict[int, PostgresStore] = {}
        """The stores whose queues this server serves, by shard."""
        self.epoch = ""
        """The epoch of all shards, because they are in one database; empty until it was read."""
        self.is_replicated = False
        """Whether the database replicates commits, for the time in which this server owns no shard."""
        self.outage = ""
        """Why the database cannot be used; empty if it can."""
        self._absent: dict[str, float] = {}
        self._past = NONE

    # As a store

    @property
    def durability(self) -> Durability:
        """What committed changes survive at present."""
        if not self.open:
            return Durability.REPLICATED if self.is_replicated else Durability.DISK
        return min((store.durability for store in self.open.values()), key=_RANKS.__getitem__)

    @property
    def problem(self) -> str:
        """The problem of a shard of this server, or why the database cannot be used; empty if there is none."""
        return self.outage or next((store.problem for store in self.open.values() if store.problem), "")

    @property
    def problem_reason(self) -> str:
        """The reason of the error for that problem; empty if there is none."""
        if self.outage:
            return StoreFailed.reason
        reasons = {store.problem_reason for store in self.open.values()}
        return next((reason for reason in (StoreFailed.reason, StoreFull.reason) if reason in reasons), "")

    def commit(self) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes in all shards; None if they are durable."""
        commits = [commit for store in self.open.values() if (commit := store.commit()) is not None]
        return _all(commits) if commits else None

    # As a placement

    def store_for(self, name: str) -> PostgresStore:
        """Return the store for a new queue with this name, any store for one without a name.

        Raises:
            ShardMoved: this server does not own the shard.
        """
        if name:
            store = self.open.get(shard_of(name, self.count))
        else:
            store = choice(list(self.open.values())) if self.open else None  # noqa: S311  # not a secret
        if store is None:
            raise ShardMoved
        return store

    def check_absent(self, reference: str) -> None:
        """Return if no queue of another server can have this ID or name.

        Raises:
            ShardMoved: it is the name of a queue in another shard, or the ID of one that may be in another shard.
        """
        queue_id = parse_uuid(reference)
        if queue_id:
            is_known = len(self.open) == self.count or self._absent.get(queue_id, 0.0) > monotonic()
            if not is_known:
                self._look_up(queue_id)
        else:
            is_known = shard_of(reference, self.count) in self.open
        if not is_known:
            raise ShardMoved

    def shard_of(self, queue: Queue) -> int | None:
        """Return the shard of a queue of this server; None if it is being opened or given up."""
        return next((shard for shard, store in self.open.items() if store is queue.store), None)

    def note_absent(self, queue_id: str, seconds: float = _ABSENT_SECONDS) -> None:
        """Note that there is no queue with this ID, for some seconds."""
        if len(self._absent) >= _MANY_ABSENT:
            self._absent.clear()
        self._absent[queue_id] = monotonic() + seconds

    # Statistics

    def stats(self) -> PostgresStats:
        """Return the statistics of all shards, for metrics."""
        present = together([store.stats() for store in self.open.values()])
        if not self.open:
            present = NONE.with_state(is_open=not self.outage, is_replicated=self.is_replicated)
        return with_past(present, self._past)

    def note_past(self, stats: PostgresStats) -> None:
        """Note what a store has counted that is closed now."""
        self._past = with_past(self._past, stats)


_RANKS = {Durability.MEMORY: 0, Durability.DISK: 1, Durability.REPLICATED: 2}


async def _all(commits: Sequence[Awaitable[None]]) -> None:
    for commit in commits:
        await commit
