"""The registry: the servers that share the queues, and the owners of the shards, in two tables of the database.

A server renews its row in `servers`, and reads both tables at the same time. A server that changes something that
others wait for notifies them on a channel, so that they look at once.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from queuelet.errors import StoreFailed
from queuelet.stores.postgres.driver import Connection, DatabaseError
from queuelet.stores.postgres.members import Members, ShardRow
from queuelet.stores.postgres.migrations import prepare
from queuelet.stores.postgres.primary import connect_to_primary
from queuelet.stores.postgres.schema import CHANNEL
from queuelet.stores.postgres.settings import PostgresSettings

_CLOSE_SECONDS = 1.0


class Registry:
    """This server's entry, and its view of the others. It connects when it has to."""

    def __init__(self, settings: PostgresSettings, notified: Callable[[], object]) -> None:
        """Make a registry that is not connected.

        Args:
            settings: how the database is used; their name is the address of this server.
            notified: called when another server has changed something.
        """
        self._settings = settings
        self._notified = notified
        self._holder = uuid4()
        self._connection: Connection | None = None

    async def beat(self, *, is_leaving: bool = False) -> Members:
        """Renew the entry of this server, or remove it if it is leaving, and return what the tables say.

        Raises:
            OtherShards: the tables have another number of shards.
            StoreFailed: the database cannot be used.
        """
        try:
            connection, is_new = await self._open()
            settings, seconds = self._settings, self._settings.lease_seconds
            if is_leaving:
                await connection.fetch(_LEAVE, settings.name, self._holder, CHANNEL, settings.schema, seconds=seconds)
            else:
                await connection.fetch(_BEAT, settings.name, self._holder, settings.lease_seconds, seconds=seconds)
            servers = await connection.fetch(_SERVERS, seconds=seconds)
            shards = await connection.fetch(_SHARDS, seconds=seconds)
        except (DatabaseError, StoreFailed) as error:
            self._abandon()
            if isinstance(error, StoreFailed):
                raise
            raise StoreFailed(str(error)) from error
        if is_new and not is_leaving:
            await self.announce()
        return Members(
            servers=tuple(row[0] for row in servers),
            shards=tuple(
                ShardRow(
                    shard=row[0],
                    address=row[1],
                    holder=row[2],
                    epoch=row[3],
                    store_epoch=row[4],
                    seconds_left=row[5],
                )
                for row in shards
            ),
            standbys=shards[0][6] if shards else "",
        )

    async def announce(self) -> None:
        """Have the other servers look at the tables. Raises `StoreFailed` if the database cannot be used."""
        await self._fetch("SELECT pg_notify($1, $2)", CHANNEL, self._settings.schema)

    async def find(self, queue_id: str) -> int | None:
        """Return the shard of a queue, None if there is none. Raises `StoreFailed` if the database cannot be used."""
        rows = await self._fetch("SELECT shard FROM queues WHERE queue_id = $1", queue_id)
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(_CLOSE_SECONDS)

    async def _fetch(self, statement: str, *arguments: object) -> list[tuple[int]]:
        try:
            connection, _ = await self._open()
            return [tuple(row) for row in await connection.fetch(statement, *arguments, seconds=self._seconds)]
        except DatabaseError as error:
            self._abandon()
            raise StoreFailed(str(error)) from error

    @property
    def _seconds(self) -> float:
        return self._settings.lease_seconds

    async def _open(self) -> tuple[Connection, bool]:
        """Return the connection, and whether it is new."""
        if self._connection is not None and not self._connection.is_closed:
            return self._connection, False
        settings = self._settings
        connection = await connect_to_primary(
            settings.read_address(), schema=settings.schema, seconds=settings.connect_seconds
        )
        try:
            await prepare(connection, settings.schema, settings.shards)
            # A row of this server need not survive a failover, and its renewal must not wait for a standby.
            await connection.fetch("SELECT set_config('synchronous_commit', 'off', false)")
            await connection.listen(CHANNEL, self._heard)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection, True

    def _heard(self, schema: str) -> None:
        if schema == self._settings.schema:
            self._notified()

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


_BEAT = """
    WITH gone AS (DELETE FROM servers WHERE expires < clock_timestamp() - interval '1 day' AND address <> $1)
    INSERT INTO servers VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
    ON CONFLICT (address) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
"""

_LEAVE = """
    WITH gone AS (DELETE FROM servers WHERE address = $1 AND holder = $2 RETURNING 1)
    SELECT pg_notify($3, $4) FROM gone
"""

_SERVERS = "SELECT address FROM servers WHERE expires > clock_timestamp() ORDER BY address"

_SHARDS = """
    SELECT shard, address, holder, epoch, store_epoch,
        CASE WHEN isfinite(expires) THEN extract(epoch FROM expires - clock_timestamp())::float8 END,
        current_setting('synchronous_standby_names')
    FROM owners ORDER BY shard
"""
