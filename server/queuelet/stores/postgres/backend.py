"""The tasks of a PostgreSQL store, which run on the event loop: connecting, taking over, committing, cleaning up."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic, perf_counter
from typing import Any, TypeVar

from queuelet.errors import StoreFailed
from queuelet.stores.durable.backend import Done, Reclaimed, Written
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.loaded import LoadedStore
from queuelet.stores.durable.places import end_place, first_place
from queuelet.stores.postgres.driver import CORRUPTED, Connection, DatabaseError, connect
from queuelet.stores.postgres.durability import SETTINGS, Durability
from queuelet.stores.postgres.loading import DatabaseDamaged, load_to_serve
from queuelet.stores.postgres.migrations import prepare
from queuelet.stores.postgres.owner import Owner
from queuelet.stores.postgres.primary import connect_to_primary
from queuelet.stores.postgres.schema import CHANNEL, FENCED, VACUUMED
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.writing import COMMIT, arguments_of

T = TypeVar("T")

_DISK_FULL = "53100"
"""The SQLSTATE for a disk without space."""

_BEATS = 3
"""How often the lease is renewed in its time if there are no commits."""

_SLICE_ROWS = 1_000
"""The most messages of dropped queues that are deleted at once."""

_VACUUM_EVERY = 2.0
"""Seconds between two runs of VACUUM while many rows are removed."""

_VACUUM_SECONDS = 3_600.0
"""How long one may take: far longer than any other statement, because it goes through a whole table."""

_MANY_REMOVED = 2_000
"""After how many removed messages VACUUM is worth it."""

_VACUUM_HELD_BACK_EVERY = 60.0
"""Seconds between two runs of VACUUM if one could not remove many rows and no more are removed."""

_CLOSE_SECONDS = 2.0
"""How long closing a connection in order may take."""

_FULL_FOR = 1.0
"""How long the database counts as full once it was full, in seconds."""


class PostgresBackend:
    """The connections of a store, and this server as the owner of its queues."""

    def __init__(
        self, settings: PostgresSettings, loop: AbstractEventLoop, fail: Callable[[Exception], object]
    ) -> None:
        """Make a backend that is not connected.

        Args:
            settings: how the store uses the database.
            loop: the event loop.
            fail: called with an error that ends the ownership while no task runs.
        """
        self._settings = settings
        self._loop = loop
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._vacuuming: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        """Held during a commit, because each commit needs the number of those before it."""
        self._writer: Connection | None = None
        self._cleaner: Connection | None = None
        self._reading: list[asyncio.Task[Connection]] = []
        """What connects `reader` and `browser`."""
        self._dropped: deque[int] = deque()
        self._removed = 0
        """How many messages were removed since the last VACUUM."""
        self._vacuumed_at = 0.0
        self._full_since = 0.0
        self.reader: Connection | None = None
        """The connection for reads that consumers wait for, once the store is open."""
        self.browser: Connection | None = None
        """The connection for other reads, once the store is open."""
        self.owner = Owner(settings.name, settings.lease_seconds, shard=settings.shard, waits=settings.waits_for_lease)
        self.durability: Durability | None = None
        """How durable commits are; None before the first connection."""
        self.is_full = False
        self.dead_rows = self.table_bytes = 0
        """Removed messages whose space could not be used again yet, and the size of the table with its index."""

    # Tasks of the commit loop

    def write(self, batch: Batch, done: Done[Written | None]) -> None:
        """Commit a batch. The result is None if the disk of the database is full."""
        self._start(partial(self._write, batch), done)

    def checkpoint(self, done: Done[None]) -> None:
        """Do nothing, because the database makes its own checkpoints."""
        done(None)

    def reclaim(self, done: Done[Reclaimed], *, is_idle: bool, is_quiet: bool) -> None:  # noqa: ARG002  # a busy time is as good
        """Delete some rows of dropped queues, and vacuum the tables if many rows were removed."""
        self._start(partial(self._reclaim, is_quiet=is_quiet), done)

    def reopen(self, done: Done[LoadedStore], *, after: float, is_damaged: bool) -> None:  # noqa: ARG002  # rows are verified in any case
        """Connect and take over, in `after` seconds."""
        self._opening = self._start(partial(self._open, after), done)

    def stop_opening(self) -> None:
        """Cancel a `reopen`."""
        if self._opening:
            self._opening.cancel()

    def close(self, done: Done[None]) -> None:
        """Give up the ownership, so that another server need not wait, and close the connections."""
        self._start(self._close, done)

    def damage_of(self, error: Exception) -> str:
        """Return a sentence about the damage that an error reports; empty if it reports none."""
        if isinstance(error, DatabaseDamaged) or (isinstance(error, DatabaseError) and error.code in CORRUPTED):
            return f"the database is damaged ({error}); stop the server, then restore a backup of the database"
        return ""

    # What they do

    async def _open(self, after: float) -> LoadedStore:
        await asyncio.sleep(after)
        self._abandon()
        settings = self._settings
        address = settings.read_address()
        try:
            seconds = settings.connect_seconds
            writer = self._writer = await connect_to_primary(address, schema=settings.schema, seconds=seconds)
            found = (await writer.fetch(SETTINGS, seconds=seconds))[0]
            durability = Durability(**dict(zip(_NAMES, found, strict=True)))
            durability.check()
            # Not to another host, which may be a primary too, and lack what was committed. Meanwhile, to save time.
            reading = partial(connect, writer.address, schema=settings.schema, seconds=seconds, reads_only=True)
            self._reading = [self._loop.create_task(reading()) for _ in range(2)]
            await prepare(writer, settings.schema, settings.shards)
            owned = await self.owner.take_over(writer, durability)
            # It renews the lease, because loading may take longer than that.
            self._heart = self._loop.create_task(self._beat())
            loaded = await load_to_serve(writer, owned, self.owner.holder, shard=settings.shard, shards=settings.shards)
            self.reader, self.browser = await asyncio.gather(*self._reading)
        except DatabaseError as error:
            self._abandon()
            kind = DatabaseDamaged if error.code in CORRUPTED else StoreFailed
            raise kind(str(error)) from error
        except asyncio.CancelledError:
            raise  # `_close` gives up the ownership, which this server may have by now
        except BaseException:
            self._abandon()
            raise
        self.durability = durability
        self._dropped = deque(loaded.dropped)
        self.is_full = False
        return loaded

    async def _write(self, batch: Batch) -> Written | None:
        start = perf_counter()
        try:
            async with self._writing:
                await self._commit(batch)
        except DatabaseError as error:
            if error.code == _DISK_FULL:
                self.is_full, self._full_since = True, monotonic()
                return None
            raise
        self._removed += len(batch.removed)
        self._dropped.extend(batch.dropped_numbers)
        return Written(seconds=perf_counter() - start, is_full=self.is_full, is_log_large=False)

    async def _commit(self, batch: Batch) -> None:
        """Commit a batch, and renew the lease with it. Raises `StoreFailed` if it is not known to be durable."""
        writer, owner = self._open_writer, self.owner
        sent = owner.now()
        writer.warning = ""
        try:
            rows = await writer.fetch(
                COMMIT,
                owner.shard,
                owner.epoch,
                owner.holder,
                owner.commits,
                owner.lease,
                *arguments_of(batch, owner.shard),
                seconds=owner.lease,
            )
        except DatabaseError as error:
            if error.code == FENCED:
                owner.give_up()
                raise StoreFailed("another server owns the queues now") from error
            raise
        if writer.warning:
            # A wait for a standby that is cancelled ends with a warning, and the commit counts as successful.
            raise StoreFailed(f"the database does not confirm a commit: {writer.warning}")
        owner.renewed(sent)
        if self.durability and self.durability.standbys != rows[0][0]:
            await self._note_standbys(self.durability, rows[0][0])

    async def _note_standbys(self, before: Durability, standbys: str) -> None:
        """Note for which standbys commits wait from now on.

        Raises:
            StoreFailed: commits wait for none any more, and responses to the last one would say that it is replicated.
        """
        now = self.durability = replace(before, standbys=standbys)
        if before.is_replicated and not now.is_replicated:
            raise StoreFailed("the database does not replicate commits any more, because synchronous_standby_names: ''")
        if now.is_replicated and not before.is_replicated:
            # This commit waits for a standby, and so for all that were before it.
            owner = self.owner
            await self._open_writer.fetch(_REPLICATED, owner.shard, owner.epoch, owner.holder, seconds=owner.lease)

    async def _beat(self) -> None:
        """Renew the lease while there are no commits."""
        owner = self.owner
        interval = owner.lease / _BEATS
        try:
            while True:
                await asyncio.sleep(max(0.01, interval - owner.sent_ago))
                async with self._writing:
                    if owner.sent_ago >= interval:
                        await self._commit(Batch())
                if self.dead_rows >= _MANY_REMOVED and monotonic() - self._vacuumed_at >= _VACUUM_HELD_BACK_EVERY:
                    self._vacuum_soon()
        except Exception as error:  # noqa: BLE001  # the lease would end unnoticed if a defect were only logged
            self._fail(error)

    async def _reclaim(self, *, is_quiet: bool) -> Reclaimed:
        freed: list[int] = []
        if self._dropped and await self._delete_some(self._dropped[0]):
            freed.append(self._dropped.popleft())
        if self._removed >= _MANY_REMOVED:
            self._vacuum_soon()
        if self.is_full and monotonic() - self._full_since >= _FULL_FOR:
            self.is_full = False
        return Reclaimed(
            is_full=self.is_full,
            has_more=bool(self._dropped),
            is_quiet=is_quiet,
            freed=freed,
            file_bytes=0,
            free_bytes=0,
        )

    async def _delete_some(self, number: int) -> bool:
        """Delete some rows under the number of a dropped queue; return whether none are left."""
        owner = self.owner
        async with self._writing, self._open_writer.transaction() as transaction:
            sent = owner.now()
            fence = await transaction.fetch(FENCE, owner.shard, owner.epoch, owner.holder, owner.commits, owner.lease)
            if not fence:
                owner.give_up()
                raise StoreFailed("another server owns the queues now")
            places = first_place(number), end_place(number)
            gone = await transaction.fetch(_DELETE_SOME, *places, _SLICE_ROWS)
            if not gone:
                for table in ("ranks", "deliveries", "damaged"):
                    await transaction.fetch(f"DELETE FROM {table} WHERE place >= $1 AND place < $2", *places)  # noqa: S608  # our own names
                await transaction.fetch("DELETE FROM answers WHERE number = $1", number)
                await transaction.fetch("DELETE FROM dropped WHERE number = $1", number)
        owner.renewed(sent)
        self._removed += len(gone)
        return not gone

    def _vacuum_soon(self) -> None:
        """Vacuum the tables, unless that was done a moment ago or still runs.

        The database's own autovacuum starts once a minute, and a queue at full rate leaves gigabytes of dead rows until
        then.
        """
        if self._vacuuming is None and monotonic() - self._vacuumed_at >= _VACUUM_EVERY:
            self._removed, self._vacuumed_at = 0, monotonic()
            self._vacuuming = self._loop.create_task(self._vacuum())
            self._vacuuming.add_done_callback(self._vacuumed)

    async def _vacuum(self) -> None:
        settings = self._settings
        with suppress(DatabaseError, StoreFailed):  # the next one may succeed, and commits fail if the database does
            if self._cleaner is None or self._cleaner.is_closed:
                self._cleaner = await connect_to_primary(
                    settings.read_address(), schema=settings.schema, seconds=settings.connect_seconds
                )
            for table in VACUUMED:
                await self._cleaner.run(f"VACUUM ({self._vacuum_options}) {table}", seconds=_VACUUM_SECONDS)
            self.dead_rows, self.table_bytes = (await self._cleaner.fetch(_TABLE))[0]

    def _vacuumed(self, task: asyncio.Task[None]) -> None:
        self._vacuuming = None
        if not task.cancelled():
            task.exception()

    async def _close(self) -> None:
        if self._opening:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._heart:
            self._heart.cancel()
        if self._vacuuming:
            self._vacuuming.cancel()
        owner, writer = self.owner, self._writer
        if writer is not None and not writer.is_closed:
            with suppress(DatabaseError):
                async with self._writing:
                    await writer.fetch(
                        _RELEASE, owner.shard, owner.holder, CHANNEL, self._settings.schema, seconds=_CLOSE_SECONDS
                    )
            await writer.close(_CLOSE_SECONDS)
        self._abandon()

    # Inside

    @property
    def _vacuum_options(self) -> str:
        # The owners of other shards vacuum the same tables.
        return "TRUNCATE false, SKIP_LOCKED" if self._settings.shards > 1 else "TRUNCATE false"

    @property
    def _open_writer(self) -> Connection:
        if self._writer is None:
            raise StoreFailed("the store is not connected to PostgreSQL")
        return self._writer

    def _start(self, work: Callable[[], Coroutine[Any, Any, T]], done: Done[T]) -> asyncio.Task[None]:
        """Run a task, then call `done` with its result or its error."""

        async def run() -> None:
            try:
                result: T | Exception = await work()
            except Exception as error:  # noqa: BLE001  # `done` handles it
                result = error
            done(result)

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _abandon(self) -> None:
        """Close all connections at once, and serve nothing any more."""
        self.owner.give_up()
        if self._heart and self._heart is not asyncio.current_task(self._loop):
            self._heart.cancel()
        self._heart = None
        for task in self._reading:
            task.add_done_callback(_terminate)
            task.cancel()
        self._reading = []
        for connection in (self._writer, self.reader, self.browser, self._cleaner):
            if connection is not None:
                connection.terminate()
        self._writer = self.reader = self.browser = self._cleaner = None


def _terminate(connecting: asyncio.Task[Connection]) -> None:
    """Close the connection that a task has opened, if it has."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()


FENCE = """
    UPDATE owners SET commits = commits + 1, expires = clock_timestamp() + make_interval(secs => $5)
    WHERE shard = $1 AND epoch = $2 AND holder = $3 AND commits = $4 RETURNING 1
"""
"""The fence of `commit_group`, for a transaction of several statements."""

_TABLE = """
    SELECT n_dead_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables WHERE relid = 'messages'::regclass
"""

_REPLICATED = "UPDATE owners SET is_replicated = true WHERE shard = $1 AND epoch = $2 AND holder = $3"

_RELEASE = """
    WITH released AS (UPDATE owners SET expires = '-infinity' WHERE shard = $1 AND holder = $2 RETURNING 1)
    SELECT pg_notify($3, $4) FROM released
"""

_DELETE_SOME = """
    DELETE FROM messages WHERE place IN (
        SELECT place FROM messages WHERE place >= $1 AND place < $2 ORDER BY place LIMIT $3
    ) RETURNING 1
"""

_NAMES = ("fsync", "full_page_writes", "synchronous_commit", "standbys", "version")
"""The fields of `Durability`, in the order of the columns of `SETTINGS`."""
