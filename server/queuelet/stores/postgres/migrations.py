"""Creates the tables, and migrates those of an older version, under a lock so that only one server does."""

from __future__ import annotations

from queuelet.errors import StoreFailed
from queuelet.ids import new_uuid
from queuelet.stores.postgres.driver import Connection, DatabaseError, Transaction
from queuelet.stores.postgres.schema import COMMIT_GROUP, SERVERS, TABLES, VERSION

_MISSING = {"42P01", "3F000"}
"""The SQLSTATEs for a table or a schema that does not exist."""

_NO_HOLDER = "00000000-0000-0000-0000-000000000000"


class OtherShards(StoreFailed):
    """The tables have another number of shards."""


async def prepare(connection: Connection, schema: str, shards: int) -> None:
    """Create the tables of a schema, or migrate them, unless they are as this program needs them.

    That is the usual case, in which nothing is locked: an owner that is being taken over may still write.

    Args:
        connection: the connection to the database.
        schema: the schema.
        shards: how many shards the tables have, or get if they are created.

    Raises:
        OtherShards: the tables have another number of shards.
        StoreFailed: the tables are of a newer program.
        DatabaseError: the database failed, or does not allow it.
    """
    if await version_of(connection) != VERSION:
        async with connection.transaction() as transaction:
            # The key has the name of the schema, so that several of them in one database do not wait for each other.
            await transaction.fetch("SELECT pg_advisory_xact_lock(hashtextextended('queuelet.' || $1, 0))", schema)
            await _create_or_migrate(transaction, schema, shards)
    present = (await connection.fetch("SELECT count(*) FROM owners"))[0][0]
    if present != shards:
        raise OtherShards(
            f"--shards: {shards} is not possible, because the tables in schema {schema} have {present}, which is fixed "
            f"when they are created; start the server with --shards {present}"
        )


async def version_of(connection: Connection | Transaction) -> int:
    """Return the version of the tables; 0 if there are none. Raises `StoreFailed` if it is newer than this program."""
    try:
        rows = await connection.fetch("SELECT version FROM schema_version")
    except DatabaseError as error:
        if error.code in _MISSING:
            return 0
        raise
    version = int(rows[0][0]) if rows else 0
    if version > VERSION:
        raise StoreFailed(f"the tables have version {version}, which is newer than this program; use a newer one")
    return version


async def _create_or_migrate(transaction: Transaction, schema: str, shards: int) -> None:
    exists = await transaction.fetch("SELECT to_regclass($1)", f"{schema}.schema_version")
    if exists[0][0] is None:
        await _create(transaction, schema, shards)
    elif await version_of(transaction) < VERSION:  # otherwise another server was faster
        await transaction.run(SERVERS)
        await transaction.fetch("UPDATE schema_version SET version = $1", VERSION)


async def _create(transaction: Transaction, schema: str, shards: int) -> None:
    # An administrator may have created the schema for a user who may not.
    if not await transaction.fetch("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
        await transaction.run(f"CREATE SCHEMA {schema}")
    await transaction.run(TABLES)
    await transaction.run(COMMIT_GROUP)
    await transaction.fetch("INSERT INTO schema_version VALUES ($1)", VERSION)
    await transaction.fetch(
        "INSERT INTO owners SELECT shard, 0, 0, $2, '', '-infinity', $3, 0, false, 0, 0, '', 0 "
        "FROM generate_series(0, $1 - 1) AS shard",
        shards,
        _NO_HOLDER,
        new_uuid(),
    )
